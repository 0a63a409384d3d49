"""``depth_ros import``: public recordings to bags."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from depth_ros.bags.frames import import_frames, read_split
from depth_ros.bags.importing import COMPRESSIONS
from depth_ros.bags.kitti import import_kitti_object, import_kitti_raw
from depth_ros.bags.kitti_odometry import import_kitti_odometry
from depth_ros.errors import RecordingError, SettingsError

_JPEG_QUALITY = 95


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    kinds = parser.add_subparsers(dest='kind', required=True, metavar='KIND')
    raw = kinds.add_parser('kitti-raw', help='a drive of the KITTI raw recordings (synced and rectified)')
    raw.add_argument('folder', type=Path, metavar='DIR', help='the drive; calibration in it or beside it')
    raw.add_argument('--frames', default=':', metavar='A:B', help='frames A to B - 1 (default: all)')
    raw.add_argument('--calibration', type=Path, metavar='DIR', help='folder of calib_cam_to_cam.txt and the like')
    moments = kinds.add_parser('kitti-object', help='frames of the KITTI object benchmark: independent moments')
    moments.add_argument('folder', type=Path, metavar='DIR', help='folder of image_2, velodyne and calib')
    sequence = kinds.add_parser('kitti-odometry', help='a sequence of the KITTI odometry benchmark')
    sequence.add_argument(
        'folder', type=Path, metavar='DIR', help='folder of calib.txt and image_2, image_0 or image_l'
    )
    frames = kinds.add_parser('frames', help='folders of image.jpg, calib.json and points.npz: independent moments')
    frames.add_argument('folders', type=Path, nargs='*', metavar='DIR', help='a frame, or a folder with frames below')
    frames.add_argument('--splits', type=Path, metavar='FILE', help='in their place: JSON file of lists of frames')
    frames.add_argument('--split', metavar='NAME', help='which of the lists')
    for kind in (raw, moments, sequence, frames):
        kind.add_argument('--out', type=Path, required=True, metavar='BAG', help='folder of the bag to write')
        kind.add_argument(
            '--compressed',
            choices=COMPRESSIONS,
            default='jpeg' if kind is frames else 'png',
            help='how images are stored (default: %(default)s)',
        )
        kind.add_argument(
            '--jpeg-quality',
            type=int,
            metavar='Q',
            choices=range(1, 101),
            help=f'1 to 100 (default: {_JPEG_QUALITY})',
        )
        kind.add_argument('--overwrite', action='store_true', help='replace the bag that is there')


def run(arguments: argparse.Namespace) -> None:
    """Import, and say what was written and what was assumed."""
    if arguments.jpeg_quality is not None and arguments.compressed != 'jpeg':
        raise SettingsError(
            f'--jpeg-quality is for JPEG, and images are stored as {arguments.compressed}; give --compressed jpeg'
        )
    common = {
        'compressed': arguments.compressed,
        'jpeg_quality': arguments.jpeg_quality or _JPEG_QUALITY,
        'overwrite': arguments.overwrite,
    }
    with _ProgressLine() as progress:
        if arguments.kind == 'kitti-raw':
            report = import_kitti_raw(
                arguments.folder,
                arguments.out,
                frames=_frames(arguments.frames),
                calibration=arguments.calibration,
                progress=progress.show,
                **common,
            )
        elif arguments.kind == 'kitti-object':
            report = import_kitti_object(arguments.folder, arguments.out, progress=progress.show, **common)
        elif arguments.kind == 'kitti-odometry':
            report = import_kitti_odometry(arguments.folder, arguments.out, progress=progress.show, **common)
        else:
            report = import_frames(_folders(arguments), arguments.out, progress=progress.show, **common)
    size = sum(path.stat().st_size for path in arguments.out.iterdir())
    print(f'{arguments.out}: {sum(report.counts.values())} messages, {size / 1e6:.1f} MB')
    for topic, count in sorted(report.counts.items()):
        print(f'  {count:6d}  {topic}')
    for note in report.notes:
        print(f'note: {note}')


def _frames(text: str) -> tuple[int | None, int | None]:
    try:
        first, end = (int(part) if part else None for part in text.split(':'))
    except ValueError as error:
        raise RecordingError(f'--frames is {text!r}, expected A:B with whole numbers, for example 0:20') from error
    if min(first or 0, end or 0) < 0:
        raise RecordingError(f'--frames is {text!r}, expected numbers of frames from 0, for example 0:20')
    return first, end


def _folders(arguments: argparse.Namespace) -> list[Path]:
    if bool(arguments.folders) == bool(arguments.splits) or bool(arguments.splits) != bool(arguments.split):
        raise RecordingError('expected either folders of frames, or --splits FILE with --split NAME')
    return arguments.folders or read_split(arguments.splits, arguments.split)


class _ProgressLine:
    """One line on a terminal that is written over; nothing where errors go to a file."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = 0.0

    def __enter__(self) -> _ProgressLine:
        return self

    def show(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._live and (now - self._last > 0.1 or done == total):
            self._last = now
            print(f'\r  {done} of {total} files', end='', file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._live and self._last:
            print('\r\033[K', end='', file=sys.stderr, flush=True)
