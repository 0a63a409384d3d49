"""Lidars, known and invented.

Elevations, ranges and rates follow the makers' public data sheets and manuals as far as those state them; where a sheet
gives only the field of view and the finest spacing, the spacing in between is ours, which the comment says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_ros.errors import SettingsError


@dataclass(frozen=True, eq=False)
class LidarModel:
    """A lidar.

    Attributes:
        name: of the model.
        pattern: ``spinning``, ``rosette`` or ``raster``.
        elevations: (B,) degrees, top beam first; of a raster, its rows; of a rosette, empty.
        columns: firings per sweep of a spinning lidar or columns of a raster; points per sweep of a rosette.
        field: horizontal field of view, degrees, centred on x.
        tall: vertical field of view of a rosette, degrees.
        sweep: seconds per sweep.
        min_range: metres.
        max_range: metres, nothing is reported beyond.
        range_dark: metres up to which a surface that reflects 10 % is seen half of the time.
        range_std: metres, standard deviation of the range noise.
        quantum: metres, step of the reported range.
        divergence: rad, full width of a beam.
        stagger: degrees, azimuths of neighbouring beams differ by up to this.
        organised: points without return are reported, as NaN.
    """

    name: str
    pattern: str
    elevations: np.ndarray
    columns: int
    field: float = 360.0
    tall: float = 0.0
    sweep: float = 0.1
    min_range: float = 0.5
    max_range: float = 100.0
    range_dark: float = 40.0
    range_std: float = 0.02
    quantum: float = 0.002
    divergence: float = 0.003
    stagger: float = 0.0
    organised: bool = False


def _steps(*parts: tuple[float, float, int]) -> np.ndarray:
    return np.concatenate([np.linspace(first, last, count) for first, last, count in parts])


# Pandar40P manual: 1/3 degree between +2 and -6, 1 degree down to -14, single beams outside.
_PANDAR40 = np.array([15, 11, 8, 5, 3, *np.linspace(2, -6, 25), *range(-7, -15, -1), -19, -25.0])
# RS-Ruby data sheet: 128 beams in +15 to -25 degrees, 0.1 degrees at the finest; where that ends is ours.
_RUBY = _steps((15, 4.5, 18), (4.2, 2.2, 11), (2.0, -4.0, 61), (-4.3, -8.0, 16), (-8.7, -25, 22))

MODELS = {
    model.name: model
    for model in (
        # SICK MRS1000: 4 layers 2.5 degrees apart over 275 degrees.
        LidarModel(
            'mrs1000',
            'spinning',
            _steps((5, -2.5, 4)),
            1100,
            275,
            sweep=0.08,
            max_range=64,
            range_dark=16,
            range_std=0.03,
            divergence=0.007,
        ),
        # ibeo LUX: 4 layers, 3.2 degrees high, 110 degrees wide.
        LidarModel(
            'lux4',
            'spinning',
            _steps((1.2, -1.2, 4)),
            440,
            110,
            sweep=0.08,
            max_range=200,
            range_dark=50,
            range_std=0.05,
            quantum=0.04,
            divergence=0.006,
        ),
        # Quanergy M8: 8 beams, +3 to -17 degrees.
        LidarModel('m8', 'spinning', _steps((3, -17, 8)), 2600, max_range=150, range_dark=50, range_std=0.03),
        # Velodyne VLP-16: +-15 degrees, 2 apart; 55.3 us per firing.
        LidarModel('vlp16', 'spinning', _steps((15, -15, 16)), 1808, max_range=100, range_dark=45, range_std=0.012),
        # Velodyne VLP-32C: 32 beams, +15 to -25, 1/3 degree in the middle.
        LidarModel(
            'vlp32c',
            'spinning',
            np.array(
                [
                    15,
                    10.333,
                    7,
                    4.667,
                    3.333,
                    2.333,
                    *np.linspace(1.667, -4, 18),
                    -4.667,
                    -5.333,
                    -6.148,
                    -7.254,
                    -8.843,
                    -11.31,
                    -15.639,
                    -25,
                ]
            ),
            1808,
            max_range=200,
            range_dark=80,
            range_std=0.015,
        ),
        # Velodyne HDL-32E: +10.67 to -30.67 degrees, 4/3 apart.
        LidarModel(
            'hdl32e', 'spinning', _steps((10.67, -30.67, 32)), 2172, max_range=100, range_dark=45, range_std=0.012
        ),
        # Velodyne HDL-64E S2: 32 beams of 1/3 degree below +2, then 32 of 1/2 degree down to -24.33.
        LidarModel(
            'hdl64e',
            'spinning',
            _steps((2, -8.333, 32), (-8.833, -24.333, 32)),
            2083,
            max_range=120,
            range_dark=50,
            range_std=0.015,
            stagger=5.0,
        ),
        LidarModel(
            'pandar40', 'spinning', _PANDAR40, 1800, max_range=200, range_dark=130, range_std=0.012, quantum=0.004
        ),
        # Ouster, gen 1: 33.2 degrees (64 beams) and gen 2: 45 degrees (OS1), 90 (OS0), 22.5 (OS2).
        LidarModel(
            'os1_16',
            'spinning',
            _steps((16.6, -16.6, 16)),
            1024,
            max_range=120,
            range_dark=45,
            range_std=0.015,
            quantum=0.001,
            organised=True,
        ),
        LidarModel(
            'os1_64',
            'spinning',
            _steps((16.6, -16.6, 64)),
            1024,
            max_range=120,
            range_dark=45,
            range_std=0.015,
            quantum=0.001,
            stagger=3.0,
            organised=True,
        ),
        LidarModel(
            'os0_32',
            'spinning',
            _steps((45, -45, 32)),
            1024,
            min_range=0.3,
            max_range=50,
            range_dark=15,
            range_std=0.015,
            quantum=0.001,
            divergence=0.006,
            organised=True,
        ),
        LidarModel(
            'os1_128',
            'spinning',
            _steps((22.5, -22.5, 128)),
            1024,
            max_range=150,
            range_dark=60,
            range_std=0.012,
            quantum=0.001,
            stagger=3.0,
            organised=True,
        ),
        LidarModel(
            'os2_128',
            'spinning',
            _steps((11.25, -11.25, 128)),
            1024,
            min_range=1.0,
            max_range=240,
            range_dark=120,
            range_std=0.02,
            divergence=0.0015,
            organised=True,
        ),
        LidarModel(
            'ruby128',
            'spinning',
            _RUBY,
            1800,
            min_range=0.4,
            max_range=250,
            range_dark=180,
            range_std=0.015,
            quantum=0.005,
            divergence=0.002,
        ),
        # Livox Mid-40: 38.4 degrees round; Horizon: 81.7 x 25.1; Avia: 70.4 x 77.2. 100,000 to 240,000 points a second.
        LidarModel(
            'mid40',
            'rosette',
            np.zeros(0),
            10000,
            38.4,
            38.4,
            min_range=1.0,
            max_range=250,
            range_dark=90,
            range_std=0.02,
            divergence=0.004,
        ),
        LidarModel(
            'horizon',
            'rosette',
            np.zeros(0),
            24000,
            81.7,
            25.1,
            min_range=0.5,
            max_range=250,
            range_dark=90,
            range_std=0.02,
            divergence=0.004,
        ),
        LidarModel(
            'avia',
            'rosette',
            np.zeros(0),
            24000,
            70.4,
            77.2,
            min_range=1.0,
            max_range=250,
            range_dark=190,
            range_std=0.02,
            divergence=0.004,
        ),
        # RS-LiDAR-M1 class of MEMS raster: 120 x 25 degrees, about 0.2 x 0.2 degrees.
        LidarModel(
            'mems',
            'raster',
            _steps((12.5, -12.5, 125)),
            600,
            120,
            25,
            min_range=0.5,
            max_range=200,
            range_dark=150,
            range_std=0.02,
            quantum=0.005,
            divergence=0.003,
        ),
    )
}


def choose_lidar(name: str, kind: str, rng: np.random.Generator) -> LidarModel:
    """Lidar by name, or by chance: a known model half of the time, else an invented one.

    Args:
        name: a key of ``MODELS`` or ``random``.
        kind: kind of the world; long ranges are rarer indoors.
        rng: random numbers.

    Returns:
        The lidar.

    Raises:
        SettingsError: no such name.
    """
    if name != 'random':
        if name not in MODELS:
            raise SettingsError(f'lidar is {name!r}, expected random or one of {", ".join(MODELS)}')
        return MODELS[name]
    if rng.random() < 0.6:
        return MODELS[str(rng.choice(list(MODELS)))]
    beams = int(rng.choice([4, 8, 16, 24, 32, 40, 64, 80, 128]))
    tall = float(np.clip(rng.uniform(0.3, 1.3) * beams, 4, 60)) if beams > 4 else float(rng.uniform(3, 12))
    top = float(rng.uniform(0.05, 0.55) * tall) + rng.uniform(-2, 2)
    share = np.linspace(0, 1, beams)
    if rng.random() < 0.5:  # denser about the horizon
        bend = rng.uniform(0.3, 0.85)
        centre = top / tall
        share = centre + (share - centre) * (1 - bend + bend * np.abs(share - centre) / max(centre, 1 - centre))
        share = (share - share[0]) / (share[-1] - share[0])
    farthest = float(rng.choice([30, 50, 80] if kind == 'indoor' else [60, 80, 100, 120, 200, 250]))
    return LidarModel(
        'invented',
        'spinning',
        top - tall * share,
        int(rng.choice([512, 900, 1024, 1800, 2048])),
        sweep=float(rng.choice([0.05, 0.1])),
        min_range=float(rng.uniform(0.1, 1.0)),
        max_range=farthest,
        range_dark=farthest * float(rng.uniform(0.3, 0.7)),
        range_std=float(rng.uniform(0.005, 0.05)),
        quantum=float(rng.choice([0.001, 0.002, 0.004, 0.01, 0.02])),
        divergence=float(rng.uniform(0.0015, 0.007)),
        stagger=float(rng.choice([0.0, 0.0, 3.0])),
        organised=bool(rng.random() < 0.3),
    )
