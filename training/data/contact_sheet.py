"""A picture of what is in a dataset, to look at before days of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from depth_ros.evaluation.pictures import ColourScale
from depth_ros.files import whole_file
from depth_ros_training.data.dataset import DatasetFolder, read_depth
from depth_ros_training.data.splits import evenly

SHEET = 'contact_sheet.png'  # in the folder of the dataset, where no other place is named
_TILE_WIDTH = 520  # pixels
_BAR = 22
_DIMMED = 0.55
_MAX_ROWS = 12


def write_contact_sheet(dataset: DatasetFolder, path: Path) -> None:
    """Draw frames spread over the dataset, one per row: the sweep of the moment, and what supervises, on the image.

    Where there is a right image a third column shows it, where there is exact depth a fourth.

    Args:
        dataset: the dataset.
        path: PNG file.

    Raises:
        RecordingError: a file of a frame that is drawn is missing or damaged.
        OutputError: the picture cannot be written.
    """
    count = min(_MAX_ROWS, len(dataset))
    numbers = evenly(len(dataset), count)
    scale = _scale(dataset)
    right = any('right' in dataset.entry(number) for number in numbers)
    truth = any('truth' in dataset.entry(number) for number in numbers)
    rows = [_row(dataset, int(number), scale, right, truth) for number in numbers]
    sheet = np.concatenate(rows)
    with whole_file(path) as temporary:
        temporary.write_bytes(cv2.imencode('.png', sheet[:, :, ::-1])[1].tobytes())


def _scale(dataset: DatasetFolder) -> ColourScale:
    depths = np.array([dataset.entry(n)['depth'] for n in range(len(dataset)) if 'depth' in dataset.entry(n)])
    low, high = (float(np.median(depths[:, 0])), float(np.median(depths[:, 2]))) if len(depths) else (1.0, 80.0)
    return ColourScale(max(low, 0.1), max(high, 2 * low, 1.0), cv2.COLORMAP_TURBO, reverse=True)


def _row(dataset: DatasetFolder, number: int, scale: ColourScale, right: bool, truth: bool) -> np.ndarray:
    entry, sample = dataset.entry(number), dataset[number]
    shape = sample.camera.shape
    name = f'{entry["recording"]} {entry["frame"]}'
    density = ''.join(f'  {100 * value:.1f} %' for value in entry.get('density', [])[:1])
    raw, dense = (_read(dataset, entry, key, shape) for key in ('velodyne_raw', 'groundtruth'))
    tiles = [_titled(_overlay(sample.image, raw, scale), f'{name}  lidar{density}')]
    text = f'{entry["split"] or "gap"}  {entry["classes"]}'
    if 'density' in entry:
        text += f'  supervision {100 * entry["density"][1]:.1f} % of {entry["num_sweeps"]} sweeps'
    tiles.append(_titled(_overlay(sample.image, dense, scale), text))
    if right:
        partner = next((other for other in sample.others if other.kind == 'stereo'), None)
        tiles.append(_titled(np.zeros_like(sample.image) if partner is None else partner.image, 'right image'))
    if truth:
        exact = _read(dataset, entry, 'truth', shape)
        tiles.append(_titled(np.zeros_like(sample.image) if exact is None else scale.paint(exact), 'exact depth'))
    height = max(tile.shape[0] for tile in tiles)
    return np.concatenate([np.pad(tile, ((0, height - tile.shape[0]), (0, 4), (0, 0))) for tile in tiles], axis=1)


def _read(dataset: DatasetFolder, entry: dict[str, Any], name: str, shape: tuple[int, int]) -> np.ndarray | None:
    return read_depth(dataset.index.folder / entry[name], shape) if name in entry else None


def _overlay(image: np.ndarray, depth: np.ndarray | None, scale: ColourScale) -> np.ndarray:
    canvas = (image * _DIMMED).astype(np.uint8)
    if depth is not None:
        known = np.isfinite(depth)
        colours = np.zeros_like(image)
        colours[known] = scale.paint(depth[known])
        if known.mean() < 0.1:  # single pixels would vanish in the small picture
            kernel = np.ones((3, 3), np.uint8)
            colours, known = cv2.dilate(colours, kernel), cv2.dilate(known.astype(np.uint8), kernel) > 0
        canvas[known] = colours[known]
    return canvas


def _titled(picture: np.ndarray, text: str) -> np.ndarray:
    height = round(picture.shape[0] * _TILE_WIDTH / picture.shape[1])
    tile = cv2.resize(picture, (_TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    bar = np.zeros((_BAR, _TILE_WIDTH, 3), np.uint8)
    cv2.putText(bar, text, (4, _BAR - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (230, 230, 230), 1, cv2.LINE_AA)
    return np.concatenate([bar, tile])
