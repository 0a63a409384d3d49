"""``depth_ros evaluate``: replay a bag, withhold lidar points, say how good the depth is."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import cv2

from depth_ros.bags.recording import Recording
from depth_ros.bags.transforms import transform_topics
from depth_ros.cli import topic_arguments
from depth_ros.errors import DamagedBagError, SettingsError
from depth_ros.evaluation.cloud_export import CloudBuilder, Drive, MeshBuilder, open3d, remove_outliers, write_cloud
from depth_ros.evaluation.evaluate import DEFAULT_INPUT_FRACTION, Evaluation, EvaluationOptions, Listener, evaluate
from depth_ros.evaluation.metrics import KEYS, MAX_DEPTH
from depth_ros.evaluation.output import OutputFolder, check_folder_of
from depth_ros.evaluation.pictures import overview
from depth_ros.evaluation.report import LABELS, UNCERTAINTY_LABELS, build_report, number
from depth_ros.files import check_apart, check_file, output_errors
from depth_ros.settings import METHODS, Settings

METRICS_NAME = 'metrics.json'
REPORT_NAME = 'report.html'
OVERVIEW_NAME = 'overview.jpg'
RESULT_NAMES = METRICS_NAME, REPORT_NAME, OVERVIEW_NAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('bag', type=Path, help='bag: .mcap, .db3 or .bag file, or the folder of a ROS 2 bag')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for the results')
    parser.add_argument(
        '--method',
        default='',
        metavar='NAME,...',
        help=f'methods to compare, the first one in detail: {", ".join(METHODS)} (default: that of the parameters)',
    )
    holdout = parser.add_mutually_exclusive_group()
    holdout.add_argument(
        '--input-rings',
        type=int,
        metavar='N',
        help='give the methods N evenly spaced lidar rings, score on the others; 0 = give no lidar, score on all of it',
    )
    holdout.add_argument(
        '--ring-step', type=int, metavar='N', help='give the methods every N-th lidar ring, score on the others'
    )
    holdout.add_argument(
        '--input-fraction',
        type=float,
        metavar='F',
        help='give the methods this share of the points, score on the others; 0 = give no lidar, score on all of it '
        f'(default: {DEFAULT_INPUT_FRACTION})',
    )
    topic_arguments.add_topic_arguments(parser)
    parser.add_argument(
        '--truth',
        action='store_true',
        help='score on the true depth of every pixel, which simulated recordings have, not on withheld points',
    )
    parser.add_argument('--max-frames', type=int, default=0, metavar='N', help='stop after N images')
    parser.add_argument('--every', type=int, default=1, metavar='N', help='answer only every N-th image')
    parser.add_argument(
        '--max-depth',
        type=float,
        default=MAX_DEPTH,
        metavar='M',
        help='score up to this depth in m (default: %(default)g)',
    )
    parser.add_argument(
        '--cloud',
        type=Path,
        metavar='PLY',
        help='write a coloured cloud: fused along the drive where there is odometry, else of the image in the middle',
    )
    parser.add_argument('--open3d-clean', action='store_true', help='remove outliers from the cloud (needs Open3D)')
    parser.add_argument('--mesh', type=Path, metavar='PLY', help='write a mesh fused along the drive (needs Open3D)')
    parser.add_argument('--no-report', action='store_true', help=f'write {METRICS_NAME} only')
    parser.add_argument('--overwrite', action='store_true', help='replace the results of an earlier run')


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, and print what came out.

    Raises:
        DepthRosError: see ``write_results``.
        DamagedBagError: the bag cannot be read to its end; the results of what came before are written.
        KeyboardInterrupt: it was interrupted.
    """
    evaluation = write_results(arguments)
    print(table(evaluation))
    print(f'\nresults: {arguments.out}' + ('' if arguments.no_report else f'\nreport:  {arguments.out / REPORT_NAME}'))
    for name, path in (('cloud', arguments.cloud), ('mesh', arguments.mesh)):
        if path is not None:
            print(f'{name + ":":8} {path}')
    if evaluation.interrupted:
        raise KeyboardInterrupt
    if evaluation.damage:
        raise DamagedBagError(f'{evaluation.damage}; the results are those of the images before the damage')


def write_results(arguments: argparse.Namespace) -> Evaluation:
    """Evaluate and write all results, whole or not at all.

    After an interrupt (Ctrl-C) the images done so far are written, with ``"interrupted": true``; a second one while
    they are written leaves nothing. Of a bag that is damaged part-way the images before the damage are written, with
    ``"damage"`` saying what it is. Both have ``"partial": true``.

    Raises:
        DepthRosError: see ``evaluate``; also where something cannot be written.
        KeyboardInterrupt: it was interrupted.
    """
    settings = topic_arguments.settings(arguments)
    options = EvaluationOptions(
        methods=tuple(name.strip() for name in arguments.method.split(',') if name.strip()),
        input_rings=arguments.input_rings or 0,
        ring_step=_ring_step(arguments.ring_step),
        input_fraction=_input_fraction(arguments),
        truth=arguments.truth,
        max_depth=arguments.max_depth,
        max_frames=arguments.max_frames,
        every=arguments.every,
        overrides=topic_arguments.overrides(arguments),
        pictures=not arguments.no_report,
    )
    if arguments.open3d_clean and not arguments.cloud:
        raise SettingsError('--open3d-clean cleans a cloud; name its file with --cloud')
    if arguments.open3d_clean or arguments.mesh:
        open3d()
    _check_outputs(arguments)
    progress = Progress()
    with OutputFolder(arguments.out, RESULT_NAMES, arguments.overwrite) as folder:
        cloud, mesh, listeners = _builders(arguments, settings, options)
        try:
            evaluation = evaluate(arguments.bag, settings, options, progress, listeners)
        finally:
            progress.close()
        text = json.dumps(evaluation.document, indent=2, allow_nan=False, ensure_ascii=False) + '\n'
        with output_errors(arguments.out):
            (folder / METRICS_NAME).write_text(text, encoding='utf-8')
            if not arguments.no_report:
                (folder / REPORT_NAME).write_text(build_report(evaluation), encoding='utf-8')
                _write_overview(folder / OVERVIEW_NAME, evaluation)
    if cloud is not None:
        points, colours = cloud.points()
        if arguments.open3d_clean:
            points, colours = remove_outliers(points, colours)
        write_cloud(arguments.cloud, points, colours, _cloud_text(cloud))
        if cloud.drive.unused and not cloud.num_fused:
            print(f'the cloud is of one image: {cloud.drive.unused}', file=sys.stderr)
    if mesh is not None:
        mesh.write(arguments.mesh)
        if mesh.full:
            print(f'the mesh holds the first {mesh.num_fused} images, more would take too much memory', file=sys.stderr)
    return evaluation


def _check_outputs(arguments: argparse.Namespace) -> None:
    inputs = topic_arguments.inputs(arguments.bag, arguments.params)
    check_apart(arguments.out, inputs)
    files = [path for path in (arguments.cloud, arguments.mesh) if path is not None]
    for path in files:
        check_file(path, arguments.overwrite, inputs)
        check_folder_of(path)
    places = [arguments.out, *(arguments.out / name for name in RESULT_NAMES), *files]
    if len({os.path.realpath(path) for path in places}) < len(places):
        raise SettingsError('two of --out, --cloud and --mesh are one file, expected names that differ')


def table(evaluation: Evaluation) -> str:
    """The figures of all methods, as a terminal shows them."""
    document = evaluation.document
    counts, methods = document['counts'], document['methods']
    lines = _columns(
        ['method', *(LABELS[key] for key in KEYS)],
        [[name, *(number(entry['pooled'][key], key) for key in KEYS)] for name, entry in methods.items()],
    )
    lines += ['', *_columns(
        ['uncertainty', *UNCERTAINTY_LABELS.values()],
        [
            [name, *(number(entry['uncertainty']['pooled'][key], key) for key in UNCERTAINTY_LABELS)]
            for name, entry in methods.items()
        ],
    )]  # fmt: skip
    first = next(iter(methods.values()))
    lines.append(
        f'\n{counts["answered"]} of {counts["images"]} images answered, {first["points"]["num_truth"]:,} '
        f'{document["judged_by"]} up to {document["max_depth"]:g} m; {document["holdout"]["text"]}.'
    )
    lines += [
        f'refused {count} x {reason}: {counts["refused_because"][reason]}'
        for reason, count in counts['refused'].items()
    ]
    lines += [f'{name}: {entry["warning"]}' for name, entry in methods.items() if entry['warning']]
    lines += [f'undecodable {count} x {reason}' for reason, count in counts['undecodable'].items()]
    lines += [f'note: {note}' for note in document['notes']]
    if document['partial']:
        lines.append(f'PARTIAL: {counts["images"]} of {counts["images_in_bag"]} images were read.')
    return '\n'.join(lines)


def _columns(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table: names to the left, figures to the right."""
    widths = [max(len(row[k]) for row in [heads, *rows]) for k in range(len(heads))]
    layout = '  '.join([f'{{:<{widths[0]}}}', *(f'{{:>{width}}}' for width in widths[1:])])
    lines = [layout.format(*row) for row in [heads, *rows]]
    return [lines[0], '-' * len(lines[0]), *lines[1:]]


class Progress:
    """A bar on a terminal; elsewhere a line every few seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._started = self._last = time.monotonic()
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is."""
        now = time.monotonic()
        if now - self._last < (0.1 if self._terminal else 5.0) and done < total:
            return
        self._last = now
        share = min(done / max(total, 1), 1.0)
        text = f'{done}/{total} images'
        if done:  # before that nothing tells how long one takes
            text += f', {(now - self._started) / done * max(total - done, 0):.0f} s left'
        if self._terminal:
            bar = '█' * round(30 * share) + '░' * (30 - round(30 * share))
            print(f'\r{bar} {text} ', end='', file=sys.stderr, flush=True)
            self._shown = True
        elif done < total:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the line of the bar."""
        if self._shown:
            print(file=sys.stderr)


def _write_overview(path: Path, evaluation: Evaluation) -> None:
    """Pictures of a typical image in one file, to show around: the first method, and the second beside it."""
    chosen = evaluation.album.chosen()
    if chosen:
        picture = overview(chosen[0][1], list(evaluation.scores)[:2])
        _, data = cv2.imencode('.jpg', picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        path.write_bytes(data.tobytes())


def _input_fraction(arguments: argparse.Namespace) -> float:
    # No rings and no points are one thing.
    if arguments.input_rings == 0:
        return 0.0
    return DEFAULT_INPUT_FRACTION if arguments.input_fraction is None else arguments.input_fraction


def _ring_step(value: int | None) -> int:
    if value is not None and value < 2:
        raise SettingsError(f'ring step is {value}, expected at least 2, so that some are left to score on')
    return value or 0


def _builders(
    arguments: argparse.Namespace, settings: Settings, options: EvaluationOptions
) -> tuple[CloudBuilder | None, MeshBuilder | None, list[Listener]]:
    """What listens to the replay to build cloud and mesh."""
    if not arguments.cloud and not arguments.mesh:
        return None, None, []
    with Recording(arguments.bag, options.overrides, settings) as recording:
        images = recording.num_frames
        posed = recording.selection.odometry or transform_topics(recording.reader)[1]
    if arguments.mesh and not posed:
        raise SettingsError('--mesh fuses along the drive, and the bag has no odometry; name its topic with --odometry')
    num_images = -(-images // options.every)
    num_images = min(num_images, options.max_frames or num_images)
    cloud = CloudBuilder(Drive(settings), num_images) if arguments.cloud else None
    mesh = MeshBuilder(Drive(settings)) if arguments.mesh else None
    return cloud, mesh, [builder for builder in (cloud, mesh) if builder is not None]


def _cloud_text(cloud: CloudBuilder) -> str:
    if cloud.num_fused:
        return f'depth_ros: {cloud.num_fused} images fused in the odometry frame, voxels of {cloud.voxel:g} m; metres'
    return 'depth_ros: one image in the optical frame of the camera (x right, y down, z forward); metres'
