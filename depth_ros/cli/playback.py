"""What of a bag is played to a live node."""

from __future__ import annotations

from depth_ros.bags.inspection import Inspection
from depth_ros.bags.reader import BagReader
from depth_ros.bags.transforms import transform_topics


def input_topics(found: Inspection) -> list[str]:
    """Topics that the node reads: those of the selection, and transforms.

    Whatever else the bag holds stays out, such as the depth of an earlier run, which would mix with that of this one.

    Raises:
        BagError: the bag can no longer be read.
    """
    chosen = found.selection
    with BagReader(found.path) as reader:
        static, moving = transform_topics(reader)
    return [
        *(topic for topic in (chosen.image, chosen.camera_info, chosen.points, chosen.odometry) if topic),
        *static, *moving,
    ]
