"""Bags like the one of the fixture ``bag``, changed in some way, and what ``prepare`` says of them."""

import re

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from depth_ros.bags.writer import BagWriter
from depth_ros_training.cli.main import main


def rewrite(source, target, change=lambda topic, message: message):
    """Copy a bag; what ``change`` returns is written: a message, its bytes, (topic, message), or None = left out."""
    store = get_typestore(Stores.ROS2_JAZZY)
    with AnyReader([source], default_typestore=store) as reader, BagWriter(target) as writer:
        for connection, log_ns, data in reader.messages():
            topic = connection.topic
            message = change(topic, reader.deserialize(data, connection.msgtype))
            if isinstance(message, tuple):
                topic, message = message
            if isinstance(message, bytes):
                writer.write_raw(topic, connection.msgtype, message, log_ns)
            elif message is not None:
                writer.write(topic, message, log_ns)
    return target


def without(*starts):
    return lambda topic, message: None if topic.startswith(starts) else message


def refused(capsys, out, *arguments):
    """Run ``prepare``; it has to end with 2 and one line, and leave nothing. Returns the line."""
    assert main(['prepare', *map(str, arguments), '--out', str(out), '--jobs', '1']) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not re.match(r'\d+/\d+ images', line)]
    assert len(lines) == 1
    assert not out.exists()
    return lines[0]
