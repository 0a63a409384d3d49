"""Write ROS 2 bags (MCAP), whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from depth_ros.errors import BagError, OutputError
from depth_ros.files import output_errors

# Version 8 of the metadata is read by every release since Iron, and its files by Humble's players.
_METADATA_VERSION = 8
_FOREVER = QosTime(2147483647, 4294967295)
_LATCHED = Qos(
    QosHistory.KEEP_LAST, 100, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, _FOREVER, _FOREVER,
    QosLiveliness.AUTOMATIC, _FOREVER, avoid_ros_namespace_conventions=False,
)


class BagWriter:
    """Writes one bag. Use it as a context manager.

    All goes into a hidden folder beside ``path`` that becomes ``path`` when all went well.

    Attributes:
        path: folder of the bag.
        counts: messages written per topic.
    """

    def __init__(self, path: Path | str, overwrite: bool = False, compress: bool = False) -> None:
        """Set the writer up; the folder is made on entering.

        Args:
            path: folder of the bag.
            overwrite: replace the bag that is there.
            compress: compress with zstd.

        Raises:
            OutputError: something is there that must not be replaced.
        """
        self.path = Path(path)
        if self.path.name in ('', '..'):
            self.path = self.path.resolve()
        self._compress = compress
        self._overwrite = overwrite
        self._check_free()
        self.types = get_typestore(Stores.ROS2_JAZZY)
        self._connections: dict[str, Any] = {}
        self._notes: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> BagWriter:
        with output_errors(self.path):
            parent = self.path.absolute().parent
            parent.mkdir(parents=True, exist_ok=True)
            self._temporary = Path(tempfile.mkdtemp(prefix=f'.{self.path.name}.', suffix='.part', dir=parent))
        try:
            with output_errors(self.path):
                self._writer = Writer(
                    self._temporary / self.path.name, version=_METADATA_VERSION, storage_plugin=StoragePlugin.MCAP
                )
                if self._compress:
                    self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
                self._writer.open()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            with output_errors(self.path):
                for key, text in self._notes.items():
                    self._writer.set_custom_data(key, text)
                self._writer.close()
                self._put_in_place()
        except BaseException:
            self._discard()
            raise
        shutil.rmtree(self._temporary, ignore_errors=True)

    def type(self, name: str) -> type:
        """Class of a message type (``sensor_msgs/msg/PointField``).

        Raises:
            BagError: the type is unknown.
        """
        if name not in self.types.types:
            raise BagError(f'message type {name!r} is unknown, expected one of the common ROS 2 packages')
        return self.types.types[name]

    def message(self, name: str) -> Any:
        """Make a message with all fields at their defaults.

        Raises:
            BagError: the type is unknown.
        """
        fields = self.types.fielddefs[self.type(name).__msgtype__][1]
        return self.type(name)(*(self._default(description) for _, description in fields))

    def write(self, topic: str, message: Any, log_ns: int) -> None:
        """Write a message that ``message`` or a reader made.

        Raises:
            OutputError: the disk is full or the like.
            BagError: the topic has another type, or the message does not fit its type.
        """
        name = message.__msgtype__
        try:
            data = self.types.serialize_cdr(message, name)
        except Exception as error:  # generated code on arbitrary attributes raises anything
            raise BagError(f'message for {topic!r} does not fit {name}: {error}') from error
        self.write_raw(topic, name, data, log_ns)

    def write_raw(self, topic: str, type_name: str, data: bytes | memoryview, log_ns: int) -> None:
        """Write CDR bytes.

        Raises:
            OutputError: the disk is full or the like.
            BagError: the type is unknown, or the topic has another one.
        """
        connection = self._connections.get(topic)
        if connection is None or connection.msgtype != type_name:
            connection = self._connect(topic, type_name)
        with output_errors(self.path):
            self._writer.write(connection, log_ns, data)
        self.counts[topic] += 1

    def note(self, key: str, text: str) -> None:
        """Put a text into the bag's metadata (``custom_data``)."""
        self._notes[key] = text

    def _connect(self, topic: str, type_name: str) -> Any:
        if topic in self._connections:
            raise BagError(f'topic {topic!r} holds {self._connections[topic].msgtype}, cannot take {type_name}')
        self.type(type_name)
        qos = [_LATCHED] if topic.endswith('/tf_static') else []
        with output_errors(self.path):
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=self.types, offered_qos_profiles=qos
            )
        return self._connections[topic]

    def _default(self, description: Any) -> Any:
        kind, detail = description
        if kind == Nodetype.NAME:
            return self.message(detail)
        if kind == Nodetype.BASE:
            return '' if detail[0] == 'string' else False if detail[0] == 'bool' else 0
        item, size = detail
        size = size if kind == Nodetype.ARRAY else 0
        if item[0] == Nodetype.BASE and item[1][0] != 'string':
            return np.zeros(size, {'char': 'uint8', 'byte': 'uint8'}.get(item[1][0], item[1][0]))
        return [self._default(item) for _ in range(size)]

    def _check_free(self) -> None:
        if not self.path.exists() and not self.path.is_symlink():
            return
        if not self._overwrite:
            raise OutputError(
                f'{str(self.path)!r} exists already; choose another name or allow overwriting (--overwrite)'
            )
        if not (self.path / 'metadata.yaml').exists():
            raise OutputError(f'{str(self.path)!r} exists and is not the folder of a bag, so it is not overwritten')

    def _put_in_place(self) -> None:
        self._check_free()
        if self.path.exists():
            self.path.rename(self._temporary / 'replaced')
        (self._temporary / self.path.name).rename(self.path)

    def _discard(self) -> None:
        with suppress(Exception):  # what cannot be flushed to a full disk raises again here
            self._writer.abort()
        replaced = self._temporary / 'replaced'
        if replaced.exists() and not self.path.exists():
            replaced.rename(self.path)
        shutil.rmtree(self._temporary, ignore_errors=True)
