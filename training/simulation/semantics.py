"""Semantic classes of simulated worlds: the 19 train ids of Cityscapes, then what indoor and off-road worlds add."""

from __future__ import annotations

CLASSES = (
    'road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign', 'vegetation', 'terrain',
    'sky', 'person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle',
    'floor', 'ceiling', 'door', 'furniture', 'shelf', 'box', 'lamp', 'rock', 'bridge', 'thing',
)
"""Names; the index of a name is the value of a pixel of ``/truth/semantic``. ``thing`` is an object of no kind."""

(
    ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN,
    SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE,
    FLOOR, CEILING, DOOR, FURNITURE, SHELF, BOX, LAMP, ROCK, BRIDGE, THING,
) = range(len(CLASSES))
