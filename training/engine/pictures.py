"""Shows validation images in TensorBoard: what went in, what came out, how sure it is."""

from __future__ import annotations

from typing import Any

import cv2
import lightning
import numpy as np

from depth_ros_training.data.splits import evenly
from depth_ros_training.engine.system import DepthSystem, predict
from depth_ros_training.engine.validation import Case, Cases

_MAX_RELATIVE_STD = 0.3


class Pictures(lightning.Callback):
    """After each validation draws some of the cases."""

    def __init__(self, cases: Cases, count: int) -> None:
        """Draw ``count`` cases, spread over all."""
        self._cases = [cases[index] for index in evenly(len(cases), count)]

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DepthSystem)
        for logger in trainer.loggers:
            writer: Any = logger.experiment
            if not hasattr(writer, 'add_image'):
                continue
            for number, case in enumerate(self._cases):
                depth, std = predict(pl_module.average, case, pl_module.device)
                picture = draw(case, depth, std)
                writer.add_image(f'validation/{number}', picture, trainer.global_step, dataformats='HWC')


def draw(case: Case, depth: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Image, points given, depth (logarithmic colours) and relative deviation, one below the other.

    Returns:
        (4 H, W, 3) uint8, red first.
    """
    height, width = depth.shape
    low, high = np.log(np.nanpercentile(depth, [1, 99]))
    image = case.sample.image
    points = image.copy()
    colors = _color((np.log(case.given.depth) - low) / max(high - low, 1e-3))
    for row, column, color in zip(case.given.row, case.given.column, colors, strict=True):
        points[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = color
    shown = _color(((np.log(depth) - low) / max(high - low, 1e-3)).ravel()).reshape(height, width, 3)
    unsure = _color((std / depth / _MAX_RELATIVE_STD).ravel()).reshape(height, width, 3)
    return np.concatenate([image, points, shown, unsure])


def _color(share: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 colours of shares 0..1; there may be none, as of the points of an image without lidar."""
    if not share.size:
        return np.zeros((0, 3), np.uint8)
    gray = np.uint8(255 * np.clip(np.nan_to_num(share), 0, 1))
    return cv2.applyColorMap(gray[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
