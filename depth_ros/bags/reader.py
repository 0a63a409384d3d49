"""Read bags of ROS 1 (``.bag``) and ROS 2 (``.db3``, ``.mcap``; files or folders) through ``rosbags``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rosbags.convert.converter import migrate_bytes
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from depth_ros.bags.mending import Mended, is_cut_off
from depth_ros.errors import BagError, DamagedBagError

_Item = TypeVar('_Item')

_SUFFIXES = ('.bag', '.db3', '.mcap')


@dataclass(frozen=True)
class Topic:
    """One topic of a bag.

    Attributes:
        name: topic.
        type: message type, in the form ``sensor_msgs/msg/Image`` for ROS 1 bags too.
        count: number of messages.
    """

    name: str
    type: str
    count: int


@dataclass(frozen=True, eq=False)
class BagMessage:
    """One decoded message.

    Attributes:
        topic: topic.
        log_ns: when it was recorded, ns.
        message: the message; ROS 1 messages keep their ROS 1 fields.
    """

    topic: str
    log_ns: int
    message: Any


@dataclass(frozen=True, eq=False)
class BagRawMessage:
    """One message as it would travel in ROS 2.

    Attributes:
        topic: topic.
        type: message type.
        log_ns: when it was recorded, ns.
        data: CDR bytes, encapsulation header included.
    """

    topic: str
    type: str
    log_ns: int
    data: bytes


class BagReader:
    """Messages of one recording, in the order of recording. Use it as a context manager."""

    def __init__(self, path: Path | str) -> None:
        """Open a bag.

        A recording that was cut off (``.mcap`` without its end, a folder without ``metadata.yaml``) is read as far as
        it goes, which ``notes`` then says.

        Args:
            path: ``.bag``, ``.db3`` or ``.mcap`` file, or the folder of a ROS 2 bag.

        Raises:
            BagError: no such file, no bag, damaged, or without messages.
        """
        self.path = Path(path)
        self.notes: tuple[str, ...] = ()
        self.num_damaged = 0
        self._reader = self._open()
        if not self._reader.connections or not self._reader.message_count:
            self.close()
            cut = f' ({"; ".join(self.notes)})' if self.notes else ''
            raise BagError(
                f'bag {str(path)!r} holds no whole message{cut}; was anything published while it was recorded?'
            )
        self.topics = tuple(
            Topic(name, info.msgtype or info.connections[0].msgtype, info.msgcount)
            for name, info in sorted(self._reader.topics.items())
        )
        self.start_ns = self._reader.start_time
        self.end_ns = self._reader.end_time - 1  # the library's end is exclusive

    def close(self) -> None:
        """Close the files."""
        if self._reader.stack:
            self._reader.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def topic(self, name: str) -> Topic:
        """Return the topic of a name.

        Raises:
            BagError: the bag has no such topic.
        """
        for topic in self.topics:
            if topic.name == name:
                return topic
        names = ', '.join(topic.name for topic in self.topics)
        raise BagError(f'bag {str(self.path)!r} has no topic {name!r}; it has {names}')

    def has(self, name: str) -> bool:
        """Whether the bag holds a message of this topic."""
        return any(topic.name == name and topic.count for topic in self.topics)

    def messages(
        self, topics: Iterable[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Yield decoded messages.

        A message that its type cannot read is skipped and counted in ``num_damaged``.

        Args:
            topics: names; None = all.
            start_ns: only what was recorded at this time or later, ns.
            stop_ns: only what was recorded before this time, ns.

        Raises:
            BagError: no such topic.
            DamagedBagError: the file is damaged from here on.
        """
        deserialize = self._reader.deserialize
        for connection, log_ns, data in self._records(topics, start_ns, stop_ns):
            try:
                message = deserialize(data, connection.msgtype)
            except Exception:  # generated code on arbitrary bytes raises anything
                self.num_damaged += 1
                continue
            yield BagMessage(connection.topic, log_ns, message)

    def first(self, topic: str) -> BagMessage | None:
        """First message of a topic that can be read, None if damage or nothing comes before."""
        return next(until_damage(self.messages([topic]), lambda damage: None), None)

    def raw_messages(self, topics: Iterable[str] | None = None) -> Iterator[BagRawMessage]:
        """Yield undecoded messages, those of ROS 1 rewritten as ROS 2 messages of the same name.

        Args:
            topics: names; None = all.

        Raises:
            BagError: no such topic.
            DamagedBagError: the file is damaged from here on.
        """
        if self._reader.is2:
            for connection, log_ns, data in self._records(topics):
                yield BagRawMessage(connection.topic, connection.msgtype, log_ns, bytes(data))
            return
        source, target, cache = self._reader.typestore, get_typestore(Stores.ROS2_JAZZY), {}
        for connection, log_ns, data in self._records(topics):
            name = ros2_type(connection.msgtype)
            try:
                cdr = migrate_bytes(source, target, connection.msgtype, name, cache, data, src_is2=False, dst_is2=True)
            except Exception:  # damaged, or a type that ROS 2 does not have
                self.num_damaged += 1
                continue
            yield BagRawMessage(connection.topic, name, log_ns, bytes(cdr))

    def _records(
        self, topics: Iterable[str] | None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[Any, int, bytes]]:
        connections = self._reader.connections
        if topics is not None:
            wanted = {self.topic(name).name for name in topics}
            connections = [connection for connection in connections if connection.topic in wanted]
        if not connections:
            return
        count = 0
        records = self._reader.messages(connections=connections, start=start_ns, stop=stop_ns)
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except Exception as error:  # readers of damaged files raise struct, sqlite, codec and other errors
                raise DamagedBagError(
                    f'bag {str(self.path)!r} is damaged after {count} messages: {_line(error)}; repair it (ros2 bag '
                    'convert, mcap recover, rosbag reindex) or record it again'
                ) from error
            count += 1
            yield record

    def _open(self) -> AnyReader:
        path = self.path
        if not path.exists():
            raise BagError(f'bag {str(path)!r} does not exist')
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix in _SUFFIXES and item.is_file())
            if not inside and not (path / 'metadata.yaml').exists():
                raise BagError(f'folder {str(path)!r} holds no bag, expected .mcap, .db3 or .bag files in it')
        elif path.suffix in _SUFFIXES:
            inside = [path]
        else:
            raise BagError(
                f'{str(path)!r} is no bag by its name, expected a file ending in {", ".join(_SUFFIXES)}, or the folder '
                'of a ROS 2 bag'
            )
        if path.is_dir() and not (path / 'metadata.yaml').exists():
            self.notes = ('metadata.yaml is missing: the recording was not ended; its files are read directly',)
            files = inside
        else:
            files = [path]
        cut = [item for item in inside if item.suffix == '.mcap' and is_cut_off(item)]
        if cut:
            names = ', '.join(item.name for item in cut)
            self.notes = (*self.notes, f'{names}: the end is missing; read as far as it goes')
            files = [Mended(item) if item in cut else item for item in inside]
        try:
            return _opened(files, path)
        except BagError:
            usable = [file for file in files if _opens(file, path)]
            if not 0 < len(usable) < len(files):
                raise
            # A recorder that dies after it has begun a new file leaves that one empty.
            left_out = ', '.join(file.name for file in files if file not in usable)
            self.notes = (*self.notes, f'{left_out}: cannot be read, and is left out')
            return _opened(usable, path)


def _opens(file: Any, bag: Path) -> bool:
    try:
        _opened([file], bag).close()
    except BagError:
        return False
    return True


def ros2_type(name: str) -> str:
    """Name of a message type in ROS 2; of ROS 1 types those differ that were renamed."""
    return {'tf/msg/tfMessage': 'tf2_msgs/msg/TFMessage'}.get(name, name)


def until_damage(items: Iterable[_Item], say: Callable[[str], object]) -> Iterator[_Item]:
    """Yield what a damaged bag still gives.

    Args:
        items: what is read from a bag.
        say: called with the damage, one line, where there is any.
    """
    try:
        yield from items
    except DamagedBagError as error:
        say(str(error))


def _opened(files: list[Any], bag: Path) -> AnyReader:
    try:
        reader = AnyReader(files, default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
    except Exception as error:  # as above: the kinds of damage are as many as the kinds of errors
        raise BagError(f'bag {str(bag)!r} cannot be read: {_line(error)}{_hint(bag)}') from error
    return reader


def _line(error: Exception) -> str:
    text = ' '.join(' '.join(str(part) for part in error.args).split()) or type(error).__name__
    return text[:300].rstrip('.')


def _hint(path: Path) -> str:
    if path.suffix == '.bag':
        return '; if the recording was cut off, repair it with: rosbag reindex'
    return '; the file is empty, cut off or damaged; record it again or repair it (ros2 bag reindex, mcap recover)'
