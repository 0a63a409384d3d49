"""The parts of a dataset put together: neighbours, classes, splits, calibration as KITTI writes it, the index."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from depth_ros.errors import BagError
from depth_ros.files import whole_file
from depth_ros.geometry.rigid import invert
from depth_ros.settings import Settings, to_flat
from depth_ros_training.data.agreement import EdgeAgreement
from depth_ros_training.data.dataset import DEPTH_SCALE, FORMAT, INDEX, NO_OVERLAP, PARTS, VERSION, entry_matrix
from depth_ros_training.data.plan import PrepareOptions
from depth_ros_training.data.splits import SplitOptions, assign_splits

_NS = 1_000_000_000
# Neighbours in time that have moved enough to see depth by, and not so much that nothing is left in view.
_MIN_MOTION, _MAX_TURN, _MAX_APART_NS = 0.05, np.radians(15.0), _NS  # metres, rad, ns


def finish(
    out: Path, options: PrepareOptions, split: SplitOptions, settings: Settings
) -> tuple[dict[str, Any], list[str]]:
    """Put the parts together and write the index.

    Args:
        out: the dataset.
        options: what was prepared.
        split: how frames are divided.
        settings: of the pipeline.

    Returns:
        head: first line of the index.
        warnings: what is wrong with the recordings, one line each.

    Raises:
        BagError: nothing can be learnt from any recording.
        SettingsError: the split is not possible.
        OutputError: a file cannot be written.
    """
    recordings: dict[str, dict[str, Any]] = {}
    frames: dict[str, list[dict[str, Any]]] = {}
    warnings: list[str] = []
    reasons: list[str] = []
    chunk_ns = json.loads((out / PARTS / 'dataset.json').read_text(encoding='utf-8'))['chunk_ns']
    for path in sorted((out / PARTS).glob('*/recording.json')):
        folder, facts = path.parent, json.loads(path.read_text(encoding='utf-8'))
        entry, found, problems, reason = _merge(folder, facts, chunk_ns)
        warnings += [f'{folder.name}: {problem}' for problem in problems]
        if reason:
            reasons.append(f'{folder.name}: {reason}')
            continue
        recordings[folder.name], frames[folder.name] = entry, found
    if not frames:
        raise BagError('; '.join(reasons))
    warnings += [f'{reason}; it is left out' for reason in reasons]
    how = assign_splits(frames, split)
    everything = [entry for found in frames.values() for entry in found]
    shared = [
        name
        for name, found in frames.items()
        if recordings[name]['poses'] != 'none' and _apart(found) < options.reach
    ]
    if shared:
        warnings.append(
            f'{", ".join(shared)}: blocks that train and judge are nearer in time than the reach of {options.reach:g} '
            f's, and share sweeps; choose --gap {options.reach:g} or a shorter --reach for figures that are strict'
        )
    if not any('T' in entry['classes'] for entry in everything):
        warnings.append('no motion, or no poses: there are no neighbours in time, and temporal terms switch off')
    head = {
        'format': FORMAT,
        'version': VERSION,
        'depth_scale': DEPTH_SCALE,
        'num_frames': len(everything),
        'split': how,
        'reach': options.reach,
        'recordings': recordings,
        'settings': to_flat(settings),
    }
    for name, found in frames.items():
        _write_calibration(out / name, recordings[name], found)
    with whole_file(out / INDEX) as path, open(path, 'w', encoding='utf-8') as file:
        for line in (head, *everything):
            file.write(json.dumps(line) + '\n')
    return head, warnings


def _apart(frames: list[dict[str, Any]]) -> float:
    """Least time between two frames of different splits, s; infinite if there is one split."""
    used = [entry for entry in frames if entry['split']]
    return min(
        ((after['stamp_ns'] - before['stamp_ns']) / _NS
         for before, after in itertools.pairwise(used) if before['split'] != after['split']),
        default=math.inf,
    )  # fmt: skip


def _merge(
    folder: Path, facts: dict[str, Any], chunk_ns: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[str], str]:
    """One recording of its parts: facts, frames, what is wrong, and why nothing can be learnt ('' if something can)."""
    frames: list[dict[str, Any]] = []
    cameras: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    agreement = EdgeAgreement()
    problems: list[str] = []
    parts = sorted(folder.glob('[0-9]*.json'))
    num_chunks = (facts['end_ns'] - facts['start_ns']) // chunk_ns + 1
    if len(parts) < num_chunks:
        problems.append(
            f'an earlier run made only {len(parts)} of its {num_chunks} parts; name its bag, too, for the rest'
        )
    for path in parts:
        part = json.loads(path.read_text(encoding='utf-8'))
        for camera in part['cameras']:
            if camera not in cameras:
                cameras.append(camera)
        number = [cameras.index(camera) for camera in part['cameras']]
        for entry in part['frames']:
            entry['camera'] = number[entry['camera']]
            if 'right' in entry:
                entry['right']['camera'] = number[entry['right']['camera']]
        frames += part['frames']
        counts.update(part['counts'])
        agreement.merge(np.array(part['edges'][0]), *part['edges'][1:])
        if part['note']:
            problems.append(part['note'])
    frames.sort(key=lambda entry: entry['stamp_ns'])
    with_lidar = sum('points' in entry for entry in frames)
    _find_neighbours(frames)
    for entry in frames:
        entry['classes'] = 'L' if 'points' in entry else 'U'
        entry['classes'] += ('P' if 'right' in entry else '') + ('T' if entry['neighbours'] else '')
    fits = agreement.result()
    if fits.problem:
        problems.append(fits.problem)
    problems += [f'{text} ({number} times)' for text, number in counts.most_common(8)]
    reason = ''
    if not frames:
        reason = 'no image makes a sample' + (f': {"; ".join(problems)}' if problems else '')
    elif facts['topics']['points'] and not with_lidar and counts[NO_OVERLAP]:
        reason = (
            f'none of the lidar points falls into any of {counts[NO_OVERLAP]} images; check the transform between '
            'lidar and camera, and the intrinsics'
        )
    elif {entry['classes'] for entry in frames} == {'U'}:
        reason = 'no image has a sweep near enough in time; are the clocks the same? (depth_ros inspect tells)'
    entry = {
        **facts,
        'cameras': cameras,
        'num_frames': len(frames),
        'counts': dict(counts),
        'edge_agreement': {
            'num_edges': fits.num_edges,
            'best_shift': fits.best_shift,
            'contrast': round(fits.contrast, 3),
            'score': round(fits.score, 3),
            'problem': fits.problem,
        },
    }
    return entry, frames, problems, reason


def _find_neighbours(frames: list[dict[str, Any]]) -> None:
    """Name for each frame the frames before and after it from which it has moved enough."""
    poses = [None if entry['pose'] is None else entry_matrix(entry['pose']) for entry in frames]
    for number, entry in enumerate(frames):
        entry['neighbours'] = []
        for others in (range(number - 1, -1, -1), range(number + 1, len(frames))):
            for other in others:
                if abs(frames[other]['stamp_ns'] - entry['stamp_ns']) > _MAX_APART_NS:
                    break
                if poses[number] is None or poses[other] is None:
                    continue
                step = invert(poses[other]) @ poses[number]
                turn = np.arccos(np.clip((np.trace(step[:3, :3]) - 1) / 2, -1, 1))
                if turn > _MAX_TURN:
                    break
                if np.linalg.norm(step[:3, 3]) >= _MIN_MOTION:
                    entry['neighbours'].append(frames[other]['frame'])
                    break


def _write_calibration(folder: Path, facts: dict[str, Any], frames: list[dict[str, Any]]) -> None:
    """Calibration, poses and times as KITTI writes them."""
    numbers = {'02': frames[0]['camera']}
    right = next((entry['right'] for entry in frames if 'right' in entry), None)
    if right is not None:
        numbers['03'] = right['camera']
    lines = []
    for number, index in numbers.items():
        camera = facts['cameras'][index]
        fx, fy, cx, cy = camera['intrinsics']
        offset = [0.0, 0.0, 0.0]
        if number == '03':
            rotation = np.reshape(camera['rotation'], (3, 3))
            offset = list(rotation @ np.array(right['right_from_left']).reshape(3, 4)[:, 3])
        intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        values = {
            'S_rect': [camera['width'], camera['height']],
            'R_rect': camera['rotation'],
            'P_rect': np.hstack([intrinsics, (intrinsics @ offset)[:, None]]).ravel(),
        }
        if camera['model'] != 'none':
            values |= {'K': intrinsics.ravel(), 'D': camera['distortion']}
        lines += [f'{key}_{number}: ' + ' '.join(f'{value:.9e}' for value in row) for key, row in values.items()]
    texts = {'calib_cam_to_cam.txt': lines}
    if facts['camera_from_lidar']:
        matrix = np.reshape(facts['camera_from_lidar'], (3, 4))
        rows = {'R': matrix[:, :3].ravel(), 'T': matrix[:, 3]}
        texts['calib_velo_to_cam.txt'] = [
            f'{key}: ' + ' '.join(f'{value:.9e}' for value in row) for key, row in rows.items()
        ]
    texts['poses.txt'] = [
        ' '.join(f'{value:.9e}' for value in entry['pose'] or [float('nan')] * 12) for entry in frames
    ]
    texts['image_02/timestamps.txt'] = [
        f'{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}.{rest:09d}'
        for seconds, rest in (divmod(entry['stamp_ns'], _NS) for entry in frames)
    ]
    for name, content in texts.items():
        with whole_file(folder / name) as path:
            path.write_text('\n'.join(content) + '\n', encoding='utf-8')
