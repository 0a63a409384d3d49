"""Surfaces: procedural textures, photographs, and the materials made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from depth_ros.errors import RecordingError

SIZE = 256
LEVELS = 9
_LEVEL_STARTS = np.concatenate([[0], np.cumsum([4**k * 3 for k in range(LEVELS - 1, -1, -1)])])
TEXELS = int(_LEVEL_STARTS[-1])
LEVEL_STARTS = _LEVEL_STARTS[:-1].astype(np.int64)
_PHOTOGRAPHS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Textures and materials, ready to be looked up.

    Attributes:
        texels: (number of textures x ``TEXELS``,) uint8 sRGB, every texture with its reductions by 2, finest first.
        texture: (M,) int32 texture of each material.
        scale: (M, 2) float32 texture repeats per metre along u and v.
        tint: (M, 3) float32 factor on the texture, linear.
        gloss: (M,) float32 0 to 1, share of mirrored sky at normal incidence times about 10.
        glow: (M,) float32 light of its own.
        reflectivity: (M,) float32 of the lidar's light, 0 to 1; above 1 = retroreflecting.
        glass: (M,) float32 share of the lidar's light that passes, 0 = opaque.
        share: (M,) float32 share of the area that the second material covers.
        second: (M,) int32 material that shows in patches, -1 = none.
        mask: (``SIZE``, ``SIZE``) float32, tileable, evenly spread over 0 to 1; decides where the patches are.
    """

    texels: np.ndarray
    texture: np.ndarray
    scale: np.ndarray
    tint: np.ndarray
    gloss: np.ndarray
    glow: np.ndarray
    reflectivity: np.ndarray
    glass: np.ndarray
    share: np.ndarray
    second: np.ndarray
    mask: np.ndarray


class Palette:
    """Makes materials on request; textures are drawn when first asked for."""

    def __init__(
        self, rng: np.random.Generator, photographs: list[Path] | None = None, photo_share: float = 0.15
    ) -> None:
        """Make an empty palette.

        Args:
            rng: random numbers.
            photographs: image files whose crops become textures.
            photo_share: share of the materials that take a photograph, if there are any, and no procedural texture.
        """
        self._rng = rng
        self._textures: list[np.ndarray] = []
        self._by_kind: dict[str, list[int]] = {}
        self._rows: list[tuple[float, ...]] = []
        self._photographs = photographs or []
        self._photo_share = photo_share if self._photographs else 0.0

    def material(
        self,
        kind: str,
        tint: tuple[float, float, float] | np.ndarray | None = None,
        tile: float | tuple[float, float] = 0.0,
        gloss: float = 0.0,
        glow: float = 0.0,
        reflectivity: float | None = None,
        glass: float = 0.0,
        photo: bool = True,
    ) -> int:
        """Make a material.

        Args:
            kind: name of a procedural texture, a key of ``PAINTERS``; several variants of each are drawn.
            tint: linear colour factor; None = white.
            tile: metres that the texture covers, one or (u, v); 0 = the usual of its kind.
            gloss: see ``Surfaces``.
            glow: see ``Surfaces``.
            reflectivity: of the lidar's light; None = from the mean colour, with the spread of real surfaces at 905 nm.
            glass: see ``Surfaces``.
            photo: a photograph may take the place of the texture.

        Returns:
            Index of the material.
        """
        rng = self._rng
        tint = np.ones(3) if tint is None else np.asarray(tint, float)
        if photo and rng.random() < self._photo_share:
            texture, usual = self._photograph(), float(rng.uniform(1, 6))
            tint = 0.5 + 0.5 * tint / max(tint.max(), 1e-3)
        else:
            texture, usual = self._procedural(kind), PAINTERS[kind][1]
        if np.ndim(tile) == 0 and tile == 0.0:
            tile = usual * float(rng.uniform(0.75, 1.35))
        u, v = np.broadcast_to(tile, 2)
        if reflectivity is None:
            mean = float((self._textures[texture].mean() / 255.0) ** 2.2 * tint.mean())
            # Plants and many dyes are bright in the near infrared, whatever they look like.
            reflectivity = float(np.clip(0.06 + 0.9 * mean * rng.lognormal(0, 0.35) + 0.12 * rng.random(), 0.03, 0.95))
            if kind in ('leaves', 'grass', 'needles'):
                reflectivity = float(rng.uniform(0.25, 0.6))
        self._rows.append((texture, 1 / u, 1 / v, *tint, gloss, glow, reflectivity, glass, 0.0, -1))
        return len(self._rows) - 1

    def mixed(self, first: int, second: int, share: float) -> int:
        """Make a material of two: ``second`` shows in patches that cover ``share`` of the area of ``first``."""
        self._rows.append((*self._rows[first][:10], share, second))
        return len(self._rows) - 1

    def surfaces(self) -> Surfaces:
        """Freeze what was made."""
        rows = np.array(self._rows, np.float32).reshape(len(self._rows), 12)
        texels = np.concatenate([_pyramid(texture) for texture in self._textures])
        rank = np.empty(SIZE * SIZE, np.float32)
        rank[np.argsort(noise(self._rng, 1.15).ravel())] = np.linspace(0, 1, SIZE * SIZE)
        column = [np.ascontiguousarray(rows[:, k]) for k in range(12)]
        return Surfaces(
            texels,
            column[0].astype(np.int32),
            np.ascontiguousarray(rows[:, 1:3]),
            np.ascontiguousarray(rows[:, 3:6]),
            *column[6:11],
            column[11].astype(np.int32),
            rank.reshape(SIZE, SIZE),
        )

    def _procedural(self, kind: str) -> int:
        painter, _, variants = PAINTERS[kind]
        made = self._by_kind.setdefault(kind, [])
        if len(made) < variants:
            made.append(self._add(painter(self._rng)))
            return made[-1]
        return made[int(self._rng.integers(len(made)))]

    def _photograph(self) -> int:
        made = self._by_kind.setdefault('', [])
        if len(made) < 16:
            path = self._photographs[int(self._rng.integers(len(self._photographs)))]
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise RecordingError(
                    f'{str(path)!r} cannot be decoded as an image; take it out of the folder of textures'
                )
            made.append(self._add(_crop(self._rng, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))))
            return made[-1]
        return made[int(self._rng.integers(len(made)))]

    def _add(self, texture: np.ndarray) -> int:
        self._textures.append(texture)
        return len(self._textures) - 1


def find_photographs(folder: Path | str) -> list[Path]:
    """Image files in a folder and the folders in it, sorted.

    Raises:
        RecordingError: no such folder, or no images in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordingError(f'{str(folder)!r} is no folder, expected one with photographs for textures')
    found = sorted(path for path in folder.rglob('*') if path.suffix.lower() in _PHOTOGRAPHS and path.is_file())
    if not found:
        raise RecordingError(f'{str(folder)!r} holds no images, expected {", ".join(_PHOTOGRAPHS)}')
    return found


def noise(rng: np.random.Generator, exponent: float, stretch: float = 1.0, size: int = SIZE) -> np.ndarray:
    """Tileable noise with a power spectrum of ``1 / f ** (2 exponent)``.

    Args:
        rng: random numbers.
        exponent: 0 = white, 1 = clouds, 2 = hills.
        stretch: how much longer features are along columns than along rows.
        size: texels.

    Returns:
        (size, size) float32, mean 0, standard deviation 1.
    """
    fy, fx = np.fft.fftfreq(size)[:, None] * stretch, np.fft.rfftfreq(size)[None]
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / radius**exponent
    values = np.fft.irfft2(spectrum, (size, size))
    return (values / values.std()).astype(np.float32)


def _crop(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    side = int(min(image.shape[:2]) * rng.uniform(0.35, 1.0))
    top, left = (int(rng.integers(0, image.shape[k] - side + 1)) for k in (0, 1))
    crop = cv2.resize(image[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _pyramid(texture: np.ndarray) -> np.ndarray:
    parts = [texture.ravel()]
    while texture.shape[0] > 1:
        texture = cv2.resize(texture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        parts.append(texture.ravel())
    return np.concatenate(parts)


def _coloured(base: np.ndarray, contrast: np.ndarray | float, colour: np.ndarray) -> np.ndarray:
    values = np.asarray(colour)[None, None] * (1 + contrast * base)[..., None]
    return np.clip(values, 0, 255).astype(np.uint8)


def _gray(rng: np.random.Generator, low: float, high: float, spread: float = 0.06) -> np.ndarray:
    return rng.uniform(low, high) * (1 + rng.normal(scale=spread, size=3))


def _asphalt(rng: np.random.Generator) -> np.ndarray:
    image = _coloured(0.6 * noise(rng, 0.2) + 0.5 * noise(rng, 1.2), rng.uniform(0.05, 0.16), _gray(rng, 70, 150, 0.03))
    for _ in range(int(rng.integers(0, 4))):  # cracks
        points = np.cumsum(rng.normal(scale=9, size=(30, 2)), axis=0) + rng.uniform(0, SIZE, 2)
        cv2.polylines(image, [points.astype(np.int32)], False, tuple(float(v) for v in image.mean((0, 1)) * 0.55), 1)
    for _ in range(int(rng.integers(0, 3))):  # patches
        x, y, w, h = rng.integers(0, SIZE, 4)
        image[y : y + h // 2, x : x + w // 3] = image[y : y + h // 2, x : x + w // 3] * rng.uniform(0.75, 1.1)
    return image


def _ground(rng: np.random.Generator) -> np.ndarray:
    colour = np.array([rng.uniform(90, 170), 0, 0])
    colour[1] = colour[0] * rng.uniform(0.75, 0.92)
    colour[2] = colour[1] * rng.uniform(0.6, 0.9)
    return _coloured(noise(rng, 1.0) + 0.7 * noise(rng, 0.2), rng.uniform(0.1, 0.2), colour)


def _gravel(rng: np.random.Generator) -> np.ndarray:
    stones = cv2.GaussianBlur(noise(rng, 0.0), (0, 0), rng.uniform(0.8, 1.8))
    stones = stones / stones.std() + 0.5 * noise(rng, 0.3) + 0.5 * noise(rng, 1.1)
    return _coloured(stones, rng.uniform(0.1, 0.22), _gray(rng, 90, 160, 0.05))


def _grass(rng: np.random.Generator) -> np.ndarray:
    base = noise(rng, 0.5, 0.4) + 0.8 * noise(rng, 1.2)
    dry = rng.uniform(0, 1)
    colour = np.array([70 + 80 * dry, 105 + 30 * dry, 40 + 25 * dry]) * rng.uniform(0.7, 1.1)
    image = _coloured(base, rng.uniform(0.16, 0.3), colour).astype(np.float32)
    patches = np.clip(noise(rng, 1.3) * 0.5, -0.6, 0.6)[..., None]
    return np.clip(image * (1 + patches * [0.35, 0.1, 0.2]), 0, 255).astype(np.uint8)


def _leaves(rng: np.random.Generator) -> np.ndarray:
    hue = rng.uniform(0, 1)
    colour = np.array([60, 95, 35]) * (1 - hue) + np.array([rng.uniform(60, 150), rng.uniform(90, 120), 40]) * hue
    return _coloured(noise(rng, 0.6) + 0.5 * noise(rng, 0.1), 0.3, colour * rng.uniform(0.7, 1.2))


def _needles(rng: np.random.Generator) -> np.ndarray:
    return _coloured(noise(rng, 0.4, 0.3), 0.3, np.array([45, 75, 45]) * rng.uniform(0.7, 1.2))


def _bark(rng: np.random.Generator) -> np.ndarray:
    return _coloured(noise(rng, 0.7, 0.15).T, 0.3, np.array([95, 80, 62]) * rng.uniform(0.6, 1.3))


def _plaster(rng: np.random.Generator) -> np.ndarray:
    stains = np.clip(noise(rng, 1.4, rng.choice([0.3, 1.0])).T, -1, 3)
    return _coloured(0.6 * stains + 0.35 * noise(rng, 0.2), rng.uniform(0.02, 0.09), _gray(rng, 205, 240, 0.02))


def _bricks(rng: np.random.Generator) -> np.ndarray:
    rows = int(rng.choice([16, 20, 28]))
    columns = rows // int(rng.choice([2, 3]))
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    row = np.floor(y * rows)
    shifted = x * columns + 0.5 * (row % 2)
    mortar = (np.mod(y * rows, 1) < rng.uniform(0.1, 0.2)) | (np.mod(shifted, 1) < 0.07)
    tone = rng.normal(1, rng.uniform(0.05, 0.2), (rows, columns))[
        row.astype(int), np.floor(shifted).astype(int) % columns
    ]
    red = rng.random() < 0.7
    colour = np.array([150, 85, 65]) * rng.uniform(0.7, 1.2) if red else _gray(rng, 130, 210)
    image = colour * (tone * (1 + 0.06 * noise(rng, 0.5)))[..., None]
    image[mortar] = _gray(rng, 120, 200, 0.02)
    return np.clip(image, 0, 255).astype(np.uint8)


def _slabs(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.choice([3, 4, 6, 8]))
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE * count
    if rng.random() < 0.4:
        x = (x + 0.5 * (np.floor(y) % 2)) % count
    tone = rng.normal(1, rng.uniform(0.02, 0.08), (count, count))[np.floor(y).astype(int), np.floor(x).astype(int)]
    image = _gray(rng, 120, 200, 0.04) * (tone * (1 + 0.05 * noise(rng, 0.4) + 0.04 * noise(rng, 1.3)))[..., None]
    image[(np.mod(x, 1) < 0.04) | (np.mod(y, 1) < 0.04)] *= rng.uniform(0.5, 0.85)
    return np.clip(image, 0, 255).astype(np.uint8)


def _concrete(rng: np.random.Generator) -> np.ndarray:
    image = _coloured(noise(rng, 1.3) + 0.4 * noise(rng, 0.1), rng.uniform(0.04, 0.1), _gray(rng, 130, 200, 0.02))
    if rng.random() < 0.6:
        image[:: SIZE // int(rng.choice([1, 2, 4]))] = image[::SIZE].mean() * 0.6
    return image


def _wood(rng: np.random.Generator) -> np.ndarray:
    planks = int(rng.choice([4, 6, 8, 12]))
    y = np.arange(SIZE)[:, None] * planks // SIZE
    tone = rng.normal(1, 0.12, planks)[y]
    colour = np.array([165, 120, 75]) * rng.uniform(0.55, 1.35)
    image = colour * (tone * (1 + 0.12 * noise(rng, 0.8, 12.0)))[..., None]
    image[:: SIZE // planks] *= 0.6
    return np.clip(image, 0, 255).astype(np.uint8)


def _metal(rng: np.random.Generator) -> np.ndarray:
    image = 215 * (1 + 0.02 * noise(rng, 1.2) + 0.015 * noise(rng, 0.3))[..., None] * np.ones(3)
    if rng.random() < 0.3:
        image *= (1 + 0.15 * np.sin(np.arange(SIZE) / SIZE * 2 * np.pi * int(rng.choice([8, 16, 24]))))[None, :, None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _paint(rng: np.random.Generator) -> np.ndarray:
    return _coloured(noise(rng, 1.0), rng.uniform(0.0, 0.03), np.full(3, 235.0))


def _rubber(rng: np.random.Generator) -> np.ndarray:
    return _coloured(noise(rng, 0.5), 0.1, np.full(3, 60.0))


def _fabric(rng: np.random.Generator) -> np.ndarray:
    pattern = rng.random()
    base = 0.1 * noise(rng, 0.1) + 0.12 * noise(rng, 1.2)
    if pattern < 0.35:
        base = base + 0.3 * np.sign(np.sin(np.arange(SIZE) / SIZE * 2 * np.pi * int(rng.choice([4, 8, 16]))))[:, None]
    return _coloured(base, 1.0, np.full(3, 200.0))


def _rooftiles(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    wave = 0.2 * np.sin(2 * np.pi * 12 * x) + 0.25 * (np.mod(y * 10, 1) - 0.5) + 0.06 * noise(rng, 0.8)
    colour = np.array([150, 80, 60]) if rng.random() < 0.6 else _gray(rng, 70, 130)
    return _coloured(wave, 0.9, colour * rng.uniform(0.7, 1.2))


def _facade(rng: np.random.Generator) -> np.ndarray:
    image = _plaster(rng).astype(np.float32) * rng.uniform(0.6, 1.0, 3)
    columns, rows = int(rng.choice([2, 3, 4, 6])), int(rng.choice([2, 3, 4]))
    width, height = SIZE // columns, SIZE // rows
    w, h = int(width * rng.uniform(0.35, 0.8)), int(height * rng.uniform(0.4, 0.75))
    frame = _gray(rng, 60, 240)
    for row in range(rows):
        for column in range(columns):
            x, y = column * width + (width - w) // 2, row * height + (height - h) // 2
            image[y - 2 : y + h + 2, x - 2 : x + w + 2] = frame
            image[y : y + h, x : x + w] = rng.uniform(20, 110) * np.array([0.9, 1.0, 1.1])
            if rng.random() < 0.4:  # curtains
                image[y : y + int(h * rng.uniform(0.2, 1)), x : x + w] = _gray(rng, 90, 210, 0.04)
            image[y : y + h, x + w // 2] = frame
    return np.clip(image, 0, 255).astype(np.uint8)


def _cardboard(rng: np.random.Generator) -> np.ndarray:
    image = _coloured(noise(rng, 0.8), 0.04, np.array([180, 145, 100]) * rng.uniform(0.7, 1.2))
    image[:, SIZE // 2 - 8 : SIZE // 2 + 8] = image[:, SIZE // 2 - 8 : SIZE // 2 + 8] * 0.85
    x, y = rng.integers(20, 150, 2)
    cv2.rectangle(image, (int(x), int(y)), (int(x) + 70, int(y) + 45), (235, 235, 235), -1)
    for k in range(4):
        cv2.line(
            image,
            (int(x) + 8, int(y) + 9 + 9 * k),
            (int(x) + int(rng.integers(25, 62)), int(y) + 9 + 9 * k),
            (40,) * 3,
            2,
        )
    return image


def _poster(rng: np.random.Generator) -> np.ndarray:
    image = np.empty((SIZE, SIZE, 3), np.uint8)
    image[:] = rng.integers(20, 255, 3)
    for _ in range(int(rng.integers(3, 12))):
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        p, q = rng.integers(0, SIZE, (2, 2))
        shape = int(rng.integers(3))
        if shape == 0:
            cv2.rectangle(image, tuple(map(int, p)), tuple(map(int, q)), colour, -1)
        elif shape == 1:
            cv2.circle(image, tuple(map(int, p)), int(rng.integers(8, 80)), colour, -1)
        else:
            word = ''.join(chr(65 + int(letter)) for letter in rng.integers(0, 26, int(rng.integers(2, 7))))
            cv2.putText(
                image,
                word,
                (int(p[0] * 0.5), int(p[1])),
                cv2.FONT_HERSHEY_SIMPLEX,
                rng.uniform(0.8, 3.5),
                colour,
                int(rng.integers(2, 8)),
                cv2.LINE_AA,
            )
    return image


def _chaos(rng: np.random.Generator) -> np.ndarray:
    layers = np.stack([noise(rng, rng.uniform(0.3, 1.6), rng.choice([0.3, 1, 3])) for _ in range(3)], axis=2)
    image = rng.uniform(60, 220, 3) * (1 + rng.uniform(0.1, 0.5) * layers)
    if rng.random() < 0.4:
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE
        k, m = rng.integers(1, 12, 2)
        image *= (0.75 + 0.25 * np.sign(np.sin(2 * np.pi * k * x) * np.sin(2 * np.pi * m * y)))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


PAINTERS = {
    'asphalt': (_asphalt, 5.0, 3),
    'ground': (_ground, 4.0, 3),
    'gravel': (_gravel, 3.0, 2),
    'grass': (_grass, 4.0, 4),
    'leaves': (_leaves, 1.5, 5),
    'needles': (_needles, 1.5, 2),
    'bark': (_bark, 1.0, 2),
    'plaster': (_plaster, 5.0, 4),
    'bricks': (_bricks, 2.5, 3),
    'slabs': (_slabs, 2.0, 4),
    'concrete': (_concrete, 4.0, 3),
    'wood': (_wood, 1.5, 3),
    'metal': (_metal, 1.5, 3),
    'paint': (_paint, 2.0, 2),
    'rubber': (_rubber, 1.0, 1),
    'fabric': (_fabric, 0.7, 4),
    'rooftiles': (_rooftiles, 3.0, 2),
    'facade': (_facade, 8.0, 5),
    'cardboard': (_cardboard, 0.6, 3),
    'poster': (_poster, 2.0, 6),
    'chaos': (_chaos, 1.5, 6),
}
"""Kind of texture -> how it is painted, metres that it usually covers, variants per world."""
