"""What travels through the house: frozen dataclasses, with units and frames.

One meaning everywhere: stamps are integer nanoseconds of the message clock; depth is z along the optical axis in
metres, float32, NaN = unknown; pixel (u, v) = (column, row), pixel centres at integer coordinates; an optical frame has
x right, y down, z forward (REP 103), a body or lidar frame x forward, y left, z up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from depth_ros.errors import CameraError, ShapeError

DISTORTION_MODELS = ('none', 'plumb_bob', 'rational_polynomial', 'equidistant')
IMAGE_ENCODINGS = ('rgb8', 'bgr8', 'mono8')

_DISTORTION_SIZES = {'none': (0,), 'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera, resolved for one kind of image (raw or rectified).

    A point of the optical frame is turned by ``rotation`` (the rectification; identity for raw images), distorted and
    mapped to pixels by the pinhole. Depth is z after that rotation: the axis of the image at hand.

    Attributes:
        width: image width in pixels.
        height: image height in pixels.
        fx: horizontal focal length in pixels, > 0.
        fy: vertical focal length in pixels, > 0.
        cx: column of the principal point in pixels.
        cy: row of the principal point in pixels.
        frame_id: optical frame of the camera.
        model: distortion model, one of ``DISTORTION_MODELS``; ``none`` for rectified images.
        distortion: coefficients as in ``sensor_msgs/CameraInfo.d``, float64.
        rotation: (3, 3) float64, image axes from optical frame.

    Raises:
        CameraError: size, intrinsics, model or number of coefficients make no camera.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    frame_id: str = 'camera_optical'
    model: str = 'none'
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(0))
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise CameraError(f'camera size is {self.width}x{self.height}, expected positive width and height')
        values = np.array([self.fx, self.fy, self.cx, self.cy], dtype=np.float64)
        if not np.isfinite(values).all() or self.fx <= 0 or self.fy <= 0:
            raise CameraError(
                f'camera intrinsics are fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy}, expected finite '
                'values and '
                'positive focal lengths; calibrate the camera or fix its CameraInfo'
            )
        if self.model not in DISTORTION_MODELS:
            raise CameraError(f'distortion model {self.model!r} is unknown, expected one of {DISTORTION_MODELS}')
        distortion = np.asarray(self.distortion, dtype=np.float64).ravel()
        if distortion.size not in _DISTORTION_SIZES[self.model] or not np.isfinite(distortion).all():
            raise CameraError(
                f'distortion model {self.model!r} came with {distortion.size} coefficients {distortion.tolist()}, '
                f'expected {" or ".join(map(str, _DISTORTION_SIZES[self.model]))} finite ones'
            )
        rotation = np.asarray(self.rotation, dtype=np.float64)
        orthogonal = rotation.shape == (3, 3) and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
        if not orthogonal or np.linalg.det(rotation) < 0:
            raise CameraError(
                f'rectification {rotation.tolist()} is no rotation, expected an orthogonal matrix of determinant 1; '
                'calibrate the camera or fix r of its CameraInfo'
            )
        object.__setattr__(self, 'distortion', distortion)
        object.__setattr__(self, 'rotation', rotation)

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) float64 pinhole matrix."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels, the shape of a depth image of this camera."""
        return self.height, self.width


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image.

    Attributes:
        stamp_ns: time of exposure, ns.
        image: (H, W, 3) uint8 in the channel order of ``encoding``, or (H, W) uint8; may be a view of a message.
        encoding: one of ``IMAGE_ENCODINGS``.
        camera: model of the camera at this resolution.
        encoded: (N,) uint8, the JPEG or PNG file that the image was decoded from, or None.

    Raises:
        ShapeError: image, encoding and camera do not fit together.
    """

    stamp_ns: int
    image: np.ndarray
    encoding: str
    camera: Camera
    encoded: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.encoding not in IMAGE_ENCODINGS:
            raise ShapeError(f'frame encoding is {self.encoding!r}, expected one of {IMAGE_ENCODINGS}')
        expected = self.camera.shape if self.encoding == 'mono8' else (*self.camera.shape, 3)
        if self.image.shape != expected or self.image.dtype != np.uint8:
            raise ShapeError(
                f'image is {self.image.dtype} {self.image.shape}, expected uint8 {expected} for {self.encoding} of a '
                f'{self.camera.width}x{self.camera.height} camera; does the CameraInfo belong to this image?'
            )

    def gray(self) -> np.ndarray:
        """(H, W) uint8 luminance."""
        if self.encoding == 'mono8':
            return self.image
        code = cv2.COLOR_RGB2GRAY if self.encoding == 'rgb8' else cv2.COLOR_BGR2GRAY
        return cv2.cvtColor(self.image, code)

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8, red first; a view where the image already is."""
        if self.encoding == 'rgb8':
            return self.image
        code = cv2.COLOR_GRAY2RGB if self.encoding == 'mono8' else cv2.COLOR_BGR2RGB
        return cv2.cvtColor(self.image, code)


@dataclass(frozen=True, eq=False)
class LidarScan:
    """One sweep of a lidar.

    Attributes:
        stamp_ns: stamp of the message, ns.
        points: (N, 3) float32 x, y, z in metres in ``frame_id``; may be a strided view of a message; NaN = no return.
        frame_id: frame of the points.
        time_offset_ns: (N,) int32, measurement time of each point minus ``stamp_ns``; None = all at ``stamp_ns``.
        ring: (N,) uint16 beam index, or None.
        intensity: (N,) float32 as shipped by the sensor, or None.
        notes: what was wrong with the message and how it was read all the same, one short sentence each.
        time_span_ns: first and last of ``time_offset_ns``, (0, 0) without; worked out unless the maker of the scan
            knows it.
    """

    stamp_ns: int
    points: np.ndarray
    frame_id: str
    time_offset_ns: np.ndarray | None = None
    ring: np.ndarray | None = None
    intensity: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    time_span_ns: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 3 or self.points.dtype != np.float32:
            raise ShapeError(f'points are {self.points.dtype} {self.points.shape}, expected float32 (N, 3)')
        for name in ('time_offset_ns', 'ring', 'intensity'):
            values = getattr(self, name)
            if values is not None and values.shape != (len(self.points),):
                raise ShapeError(f'{name} has shape {values.shape}, expected ({len(self.points)},), one per point')
        if self.time_span_ns is None:
            offsets = self.time_offset_ns
            timed = offsets is not None and len(offsets) > 0
            object.__setattr__(self, 'time_span_ns', (int(offsets.min()), int(offsets.max())) if timed else (0, 0))

    def __len__(self) -> int:
        return len(self.points)

    @property
    def mid_ns(self) -> int:
        """Middle of the sweep, ns."""
        first, last = self.time_span_ns
        return self.stamp_ns + (first + last) // 2


@dataclass(frozen=True, eq=False)
class Pose:
    """Where a body was, as odometry says.

    Attributes:
        stamp_ns: time of the pose, ns.
        matrix: (4, 4) float64, ``frame_id`` from ``child_frame_id``.
        frame_id: fixed frame (``odom``).
        child_frame_id: moving frame (``base_link``).
    """

    stamp_ns: int
    matrix: np.ndarray
    frame_id: str
    child_frame_id: str


def holding_pixel(place: np.ndarray) -> np.ndarray:
    """Column or row of the pixels that hold points: pixel i reaches from i - 0.5 to i + 0.5, which is in the next one.

    Args:
        place: (M,) float32 columns or rows, in pixels.

    Returns:
        (M,) int32.
    """
    return np.floor(place + np.float32(0.5)).astype(np.int32)


@dataclass(frozen=True, eq=False)
class SparseDepth:
    """Lidar points as one camera sees them: at most one per pixel, none hidden.

    Attributes:
        u: (M,) float32 column in pixels, within [-0.5, width - 0.5).
        v: (M,) float32 row in pixels, within [-0.5, height - 0.5).
        depth: (M,) float32 metres, finite, > 0.
        std: (M,) float32 metres, standard deviation of the measurement (range noise, motion not compensated).
        shape: (height, width) of the image in pixels.
    """

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    std: np.ndarray
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ('u', 'v', 'depth', 'std'):
            values = getattr(self, name)
            if values.shape != self.depth.shape or values.ndim != 1 or values.dtype != np.float32:
                raise ShapeError(f'{name} is {values.dtype} {values.shape}, expected float32 {self.depth.shape}')

    def __len__(self) -> int:
        return len(self.depth)

    @property
    def column(self) -> np.ndarray:
        """(M,) int32 column of the pixel that holds each point."""
        return holding_pixel(self.u)

    @property
    def row(self) -> np.ndarray:
        """(M,) int32 row of the pixel that holds each point."""
        return holding_pixel(self.v)

    @classmethod
    def from_image(cls, depth: np.ndarray) -> SparseDepth:
        """Take the known pixels of a depth image as measurements without error.

        Args:
            depth: (H, W) float32 metres; NaN and 0 are unknown, inf is too far.
        """
        row, column = np.nonzero((depth > 0) & (depth < np.inf))
        known = depth[row, column]
        return cls(column.astype(np.float32), row.astype(np.float32), known, np.zeros_like(known), depth.shape)

    def to_image(self) -> np.ndarray:
        """(H, W) float32 metres, NaN where no point fell."""
        image = np.full(self.shape, np.nan, dtype=np.float32)
        image[self.row, self.column] = self.depth
        return image


@dataclass(frozen=True)
class Basis:
    """What an estimate rests on.

    Attributes:
        num_scans: lidar sweeps used.
        num_points: visible lidar points used; 0 = depth comes from the image alone.
        lidar_age_ns: image stamp minus the time of the nearest sweep used, ns; negative = the sweep came later; 0
            without a sweep.
        motion: ``deskewed`` (each point moved by its own time), ``compensated`` (sweep moved as a whole),
            ``assumed_static`` (no poses known at these times), ``no_lidar`` (no sweep, nothing to move).
        without_lidar: why ``num_points`` is 0, one line; '' if it is not.
    """

    num_scans: int
    num_points: int
    lidar_age_ns: int
    motion: str
    without_lidar: str = ''


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """Dense depth of one camera frame.

    Attributes:
        frame: the frame that was answered.
        depth: (H, W) float32 metres along the optical axis, NaN = unknown.
        std: (H, W) float32 metres, standard deviation, NaN where depth is NaN.
        sparse: the measurements that went in.
        withheld: visible measurements kept away from the estimator to score it, or None.
        basis: what the estimate rests on.
        stage_ns: wall time per stage, ns: ``pair`` (and motion), ``project`` (and hidden points), ``estimate``.
    """

    frame: Frame
    depth: np.ndarray
    std: np.ndarray
    sparse: SparseDepth
    withheld: SparseDepth | None
    basis: Basis
    stage_ns: Mapping[str, int] = field(default_factory=dict)
