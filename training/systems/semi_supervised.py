"""Semi-supervised training: lidar where there is some, other images of the same scene wherever there are any.

After Kuznietsov, Stueckler and Leibe 2017, on DepthNet; images before and after as in Godard et al. 2019. Samples may
have lidar or not, a stereo partner or not, neighbours in time or not: each takes part in the losses that it has
something for. With the weights of the one kind or the other at zero the same system is supervised or self-supervised.
"""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from depth_ros.networks.depth_net import Prediction
from depth_ros_training.data.source_views import REFERENCE, STEREO, TEMPORAL
from depth_ros_training.losses.alignment import alignment_l1, smooth
from depth_ros_training.losses.berhu import berhu, depth_error, inverse_depth_error, knee
from depth_ros_training.losses.gaussian import gaussian_nll
from depth_ros_training.losses.left_right import left_right_l1
from depth_ros_training.losses.minimum import minimum_error
from depth_ros_training.losses.smoothness import smoothness
from depth_ros_training.losses.ssim import appearance, ssim_l1, whole_windows
from depth_ros_training.losses.warp import Projection, invert, project, sample
from depth_ros_training.systems.supervised import SupervisedSystem

_BY_DEPTH = ('log_l1', 'depth_l1', 'depth_l2', 'gradient', 'coarse', 'berhu_depth', 'berhu_inverse_depth')
# What a sample has to have for a loss to be of any effect.
_NEEDS = {
    'known depth': (*_BY_DEPTH, 'likelihood', 'coverage', 'gaussian'),
    'a stereo partner': ('alignment', 'ssim', 'left_right'),
    'images before or after': ('temporal',),
}
# Losses that SupervisedSystem does not have.
BEYOND = 'berhu_depth', 'berhu_inverse_depth', 'gaussian', 'smoothness', 'alignment', 'ssim', 'left_right', 'temporal'
_LOGGED = ('train/with_depth', 'train/with_partner', 'train/with_neighbors')  # shares of samples, in that order
_log = logging.getLogger(__name__)


class _Eye(NamedTuple):
    """One of the two views of a stereo pair, as the losses see it.

    Attributes:
        prediction: what the network says.
        rays: (B, H, W, 2) of the pixels.
        scale: (B, 1, 1, 1) metres.
        image: (B, 3, H, W) 0..1, clean.
        known: (B, 1, H, W) bool, True where ``image`` has content and the pixel a ray.
        source: (B, 4, h, w) 0..1, the same image somewhat wider, to be read from; last channel 1 where it has content.
    """

    prediction: Prediction
    rays: Tensor
    scale: Tensor
    image: Tensor
    known: Tensor
    source: Tensor

    def take(self, rows: Tensor) -> _Eye:
        return self._replace(
            prediction=_rows(self.prediction, rows), **{name: getattr(self, name)[rows] for name in self._fields[1:]}
        )

    @property
    def depth(self) -> Tensor:
        """(B, 1, H, W) metres."""
        return self.prediction.log_depth.exp() * self.scale


class SemiSupervisedSystem(SupervisedSystem):
    """Some lidar points go in, the others supervise; images of the same scene have to match at the predicted depth.

    The network predicts both views of a stereo pair. All losses but that of images before and after are sums over
    both.
    """

    uses_others = True
    _seen: Tensor | None = None  # how many samples of this epoch had what

    def run_network(self, batch: dict[str, Any]) -> Prediction:
        """Predictions for all samples, then for the partners of those that have one."""
        rows = _with_partner(batch)
        partner = batch['partner']
        return self.network(*(torch.cat([batch[name], partner[name][rows]]) for name in ('image', 'rays', 'guide')))

    def loss_weights(self) -> dict[str, float]:
        """Those of known depth fade in.

        lambda_t = beta exp(-fade_in / t); Kuznietsov et al. 2017, section 4.1, with fade_in = 10.
        """
        factor = math.exp(-self._settings.self_supervision.fade_in / (self.global_step + 1))
        return {name: weight * factor if name in _BY_DEPTH else weight for name, weight in self._weights.items()}

    def losses(self, prediction: Prediction, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses by the names of ``LossSettings``, before weighting; those without a weight are not computed."""
        # Pixels and intensities are finer than half precision.
        with torch.autocast(self.device.type, enabled=False):
            count, rows = len(batch['image']), _with_partner(batch)
            ours = _rows(prediction, slice(0, count))
            theirs = _rows(prediction, slice(count, None))
            partner = {name: value[rows] for name, value in batch['partner'].items()}
            losses = self._by_depth([(ours, batch), (theirs, partner)])
            margin = (batch['sources']['images'].shape[2] - batch['image'].shape[1]) // 2
            images = batch['sources']['images'].permute(0, 1, 4, 2, 3).float() / 255
            clean = batch['clean'].permute(0, 3, 1, 2).float() / 255
            left = _Eye(
                ours,
                batch['rays'],
                batch['scale'].view(-1, 1, 1, 1),
                clean[:, :3],
                clean[:, 3:] > 0.5,
                images[:, REFERENCE],
            )
            center = _center(images[rows, STEREO], margin)
            right = _Eye(
                theirs,
                partner['rays'],
                partner['scale'].view(-1, 1, 1, 1),
                center[:, :3],
                center[:, 3:] > 0.5,
                images[rows, STEREO],
            )
            share = len(right.image) / count  # means are over all samples, those without a partner counting as zero
            if 'smoothness' in self._weights:
                losses['smoothness'] = smoothness(ours.log_depth, left.image)
                if share:
                    losses['smoothness'] = losses['smoothness'] + share * smoothness(theirs.log_depth, right.image)
            if any(name in self._weights for name in _NEEDS['a stereo partner']):
                transform, intrinsics = (
                    batch['sources']['transforms'][rows, STEREO],
                    batch['sources']['intrinsics'][rows],
                )
                pair = self._pair(left.take(rows), right, transform, intrinsics, margin)
                losses |= {name: share * value for name, value in pair.items()}
            if 'temporal' in self._weights:
                losses['temporal'] = self._temporal(left, images, batch['sources'], margin)
            self._count(batch)
        return losses

    def _by_depth(self, views: list[tuple[Prediction, dict[str, Tensor]]]) -> dict[str, Tensor]:
        """Losses by known depth, summed over both views of a pair."""
        count = len(views[0][1]['target'])
        knees = {
            name: self._over_processes(knee(*(error(said.log_depth, known['target']) for said, known in views)))
            for name, error in (('berhu_depth', depth_error), ('berhu_inverse_depth', inverse_depth_error))
            if name in self._weights
        }
        total: dict[str, Tensor] = {}
        for said, known in views:
            if not len(known['target']):
                continue
            target = known['target']
            part = super().losses(said, known)
            if 'berhu_depth' in knees:
                part['berhu_depth'] = berhu(depth_error(said.log_depth, target), target, knees['berhu_depth'])
            if 'berhu_inverse_depth' in knees:
                error = inverse_depth_error(said.log_depth, target)
                part['berhu_inverse_depth'] = berhu(error, target, knees['berhu_inverse_depth'])
            part['gaussian'] = gaussian_nll(said.log_depth, said.log_std, target)
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + value * (len(target) / count)
        return total

    def _pair(self, left: _Eye, right: _Eye, transform: Tensor, intrinsics: Tensor, margin: int) -> dict[str, Tensor]:
        """Losses of stereo pairs, summed over both directions."""
        if not len(left.image):
            # Zero, and a part of the graph all the same.
            return dict.fromkeys(_NEEDS['a stereo partner'], left.prediction.log_depth.sum())
        total: dict[str, Tensor] = {}
        for eye, other, matrix in ((left, right, transform), (right, left, invert(transform))):
            part: dict[str, Tensor] = {}
            if 'alignment' in self._weights:
                part['alignment'] = self._alignment(eye, other.source, matrix, intrinsics)
            if 'ssim' in self._weights or 'left_right' in self._weights:
                projection = project(eye.depth, eye.rays, matrix, intrinsics)
            if 'ssim' in self._weights:
                warped, seen = _read(other.source, projection, eye.known)
                part['ssim'] = appearance(eye.image, warped, seen)
            if 'left_right' in self._weights:
                # What the other view says is known without the margin.
                inverse, inside = sample(eye.scale / other.depth, projection.pixels - margin)
                seen = inside & projection.in_front & eye.known
                part['left_right'] = left_right_l1(eye.scale / projection.depth, inverse, seen)
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def _alignment(self, eye: _Eye, source: Tensor, transform: Tensor, intrinsics: Tensor) -> Tensor:
        """Mean over the sizes of the images."""
        levels = self._settings.self_supervision.levels
        image, known, rays, depth = eye.image, eye.known, eye.rays, eye.depth
        total = 0.0
        for level in range(levels):
            if level:
                image, source = functional.avg_pool2d(image, 2), functional.avg_pool2d(source, 2)
                known = functional.avg_pool2d(known.float(), 2) == 1
                depth = 1 / functional.avg_pool2d(1 / depth, 2)
                rays = functional.avg_pool2d(rays.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
                # The middle of the first of the new pixels lies between the first two of the old ones.
                intrinsics = (intrinsics - intrinsics.new_tensor([0, 0, 0.5, 0.5])) / 2
            projection = project(depth, rays, transform, intrinsics)
            warped, seen = _read(smooth(source), projection, known)
            total = total + alignment_l1(smooth(image), warped, seen)
        return total / levels

    def _temporal(self, eye: _Eye, images: Tensor, sources: dict[str, Tensor], margin: int) -> Tensor:
        """Each pixel against the best of the images before and after."""
        slots = range(TEMPORAL, images.shape[1])
        if not slots:
            return 0 * eye.prediction.log_depth.sum()
        errors, still, seen = [], [], []
        for slot in slots:
            projection = project(eye.depth, eye.rays, sources['transforms'][:, slot], sources['intrinsics'])
            warped, shown = _read(images[:, slot], projection, eye.known)
            errors.append(ssim_l1(eye.image, warped))
            seen.append(whole_windows(shown))
            still.append(ssim_l1(eye.image, _center(images[:, slot], margin)[:, :3]))
        present = sources['present'][:, TEMPORAL:]
        return minimum_error(torch.cat(errors, 1), torch.cat(still, 1), torch.cat(seen, 1), present)

    def _over_processes(self, value: Tensor) -> Tensor:
        """The largest of a value over all processes."""
        return self.all_gather(value).amax()

    def _count(self, batch: dict[str, Any]) -> None:
        """Keep count of what the samples have."""
        has = (
            (batch['target'] > 0).flatten(1).any(dim=1),
            _with_partner(batch),
            batch['sources']['present'][:, TEMPORAL:].any(dim=1),
        )
        counts = torch.stack([kind.sum() for kind in has])
        self.log_dict(dict(zip(_LOGGED, counts / len(batch['image']), strict=True)))
        self._seen = counts if self._seen is None else self._seen + counts

    def on_train_epoch_end(self) -> None:
        """Say which losses no sample of the epoch had anything for."""
        if self._seen is None:  # resumed at the end of an epoch
            return
        seen = self.all_gather(self._seen).view(-1, len(_NEEDS)).sum(dim=0)
        for (what, names), count in zip(_NEEDS.items(), seen.tolist(), strict=True):
            idle = [name for name in names if name in self._weights]
            if idle and not count and self.global_rank == 0:
                _log.warning('no sample of this epoch has %s; without effect: %s', what, ', '.join(idle))
        self._seen = None


def _with_partner(batch: dict[str, Any]) -> Tensor:
    """(B,) bool."""
    return batch['sources']['present'][:, STEREO]


def _rows(prediction: Prediction, rows: Tensor | slice) -> Prediction:
    return Prediction(
        prediction.log_depth[rows],
        prediction.log_std[rows],
        prediction.correction[rows],
        prediction.sky[rows],
        tuple(level[rows] for level in prediction.coarse),
    )


def _center(images: Tensor, margin: int) -> Tensor:
    return images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]


def _read(source: Tensor, projection: Projection, known: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (B, 3, H, W) of a source image where pixels lie in it, and (B, 1, H, W) bool where that means something.

    Args:
        source: (B, 4, h, w), last channel 1 where it has content.
        projection: where the pixels lie.
        known: (B, 1, H, W) bool, which pixels count.
    """
    values, inside = sample(source, projection.pixels)
    return values[:, :3], inside & (values[:, 3:] > 0.99) & projection.in_front & known
