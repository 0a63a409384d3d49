"""What the tensors of the network mean. Needs no torch: exported engines read it as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Channels of the guide, see ``estimators.network_input.NetworkInput``.
LINEAR, PLANE, MEAN, NEAR, FAR, NEAREST, NEARER, FARTHER, DISTANCE, SPACING, REACHED = range(11)
GUIDE_CHANNELS = 11
# Channels that are depths the network may choose from; the first is absolute, the others are relative to it.
CANDIDATES = (LINEAR, PLANE, MEAN, NEAR, FAR, NEAREST, NEARER, FARTHER)
PER_PIXEL = 1 / 8  # of lengths: ``DISTANCE`` and ``SPACING`` are 1 + pixels * PER_PIXEL
# The coarsest feature map has one cell per so many pixels; images are padded to a multiple of it.
STRIDE = 32
# Changes with anything that changes the values of the input: a network understands the input that it was trained on
# only.
INPUT_VERSION = 3


def input_version(facts: Mapping[str, Any]) -> Any:
    """``INPUT_VERSION`` that the header of weights names; None if it names none."""
    described = facts.get('input')
    return described.get('version') if isinstance(described, Mapping) else None
