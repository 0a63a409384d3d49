"""Bags that went wrong."""

from pathlib import Path


def damage(bag: Path) -> Path:
    """Overwrite part of a compressed chunk, at about two thirds of a bag; returns the bag."""
    file = next(bag.glob('*.mcap'))
    content = bytearray(file.read_bytes())
    chunk = content.rindex(b'zstd', 0, len(content) * 3 // 4) + 40
    content[chunk : chunk + 100] = bytes(100)
    file.write_bytes(content)
    return bag
