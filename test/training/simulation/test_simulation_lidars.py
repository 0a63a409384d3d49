"""What a simulated lidar sees of scenes whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('open3d', reason='simulation needs Open3D: pip install "depth_ros[training]"', exc_type=ImportError)

from depth_ros.errors import SettingsError
from depth_ros_training.simulation.beams import firing
from depth_ros_training.simulation.echoes import measure
from depth_ros_training.simulation.lidar_models import MODELS, LidarModel, choose_lidar
from depth_ros_training.simulation.mesh import box, merge, turn
from depth_ros_training.simulation.scene import Mover, Scene, Track
from depth_ros_training.simulation.textures import Palette

BEAM = LidarModel('beam', 'spinning', np.zeros(1), 100, range_std=0.02, quantum=0.001, max_range=200, range_dark=50)


def wall(distance, material, thick=0.1, wide=400.0):
    return box(thick, wide, wide, material, 0).moved(distance + thick / 2, 0, -wide / 2)


def rays_along_x(count, rng=None, spread=0.0):
    rays = np.zeros((count, 6), np.float32)
    rays[:, 3] = 1
    if rng is not None:
        rays[:, 4] = rng.uniform(-spread, spread, count)
        rays[:, 3:] /= np.linalg.norm(rays[:, 3:], axis=1, keepdims=True)
    return rays


def echoes(meshes, palette, rays, model=BEAM, seed=0, beside=1):
    rng = None if seed is None else np.random.default_rng(seed)
    return measure(Scene(merge(meshes), []), palette.surfaces(), model, rays, np.zeros(len(rays)), beside, rng)


@pytest.fixture
def palette():
    return Palette(np.random.default_rng(0))


@pytest.mark.parametrize('name', sorted(MODELS))
def test_beams_of_a_model_point_where_its_table_says(name):
    model = MODELS[name]
    beams = firing(model, 0)
    assert np.allclose(np.linalg.norm(beams.directions, axis=1), 1, atol=1e-5)
    assert beams.offset_ns.min() >= 0
    assert beams.offset_ns.max() <= model.sweep * 1e9
    azimuth = np.rad2deg(np.arctan2(beams.directions[:, 1], beams.directions[:, 0]))
    assert np.ptp(azimuth) == pytest.approx(model.field, rel=0.12)
    elevation = np.rad2deg(np.arcsin(beams.directions[:, 2]))
    if model.pattern == 'spinning':
        assert np.all(np.diff(model.elevations) < 0)
        assert len(np.unique(beams.ring)) == len(model.elevations)
        for ring in (0, len(model.elevations) - 1):
            assert np.allclose(elevation[beams.ring == ring], model.elevations[ring], atol=1e-3)
    else:
        tall = model.tall or np.ptp(model.elevations)
        assert np.ptp(elevation) == pytest.approx(tall, rel=0.12)


def test_known_beam_counts():
    counts = {name: len(model.elevations) for name, model in MODELS.items()}
    assert (counts['vlp16'], counts['hdl32e'], counts['hdl64e'], counts['pandar40'], counts['ruby128']) == (
        16,
        32,
        64,
        40,
        128,
    )
    assert counts['mrs1000'] == 4


def test_rosette_never_repeats_itself():
    first, second = firing(MODELS['mid40'], 0), firing(MODELS['mid40'], 1)
    assert np.abs(first.directions - second.directions).max() > 0.05


def test_ideal_lidar_measures_exactly(palette):
    material = palette.material('paint', reflectivity=0.5)
    result = echoes([wall(20.0, material)], palette, rays_along_x(50), seed=None)
    assert np.allclose(result.range, 20.0, atol=1e-5)


def test_range_noise_has_the_stated_size(palette):
    material = palette.material('paint', reflectivity=0.9, photo=False)
    measured = echoes([wall(15.0, material)], palette, rays_along_x(20000)).range
    good = measured[np.isfinite(measured) & (np.abs(measured - 15) < 0.5)]
    assert good.mean() == pytest.approx(15.0, abs=0.002)
    assert good.std() == pytest.approx(BEAM.range_std, rel=0.15)


def test_nothing_is_reported_outside_of_the_range(palette):
    white = palette.material('paint', reflectivity=0.9, photo=False)
    model = replace(BEAM, range_std=0.05, min_range=0.1, max_range=20.0)
    for distance in (0.11, 19.99):
        measured = echoes([wall(distance, white)], palette, rays_along_x(3000), model).range
        assert 0.3 < np.isfinite(measured).mean() < 0.7  # noise puts the others outside
        assert np.nanmin(measured) >= np.float32(model.min_range)
        assert np.nanmax(measured) <= model.max_range


def test_dark_surface_is_lost_beyond_its_range(palette):
    dark = palette.material('paint', reflectivity=0.1, photo=False)
    shares = [
        np.isfinite(echoes([wall(d, dark)], palette, rays_along_x(4000)).range).mean() for d in (20.0, 50.0, 120.0)
    ]
    assert shares[0] > 0.97
    assert shares[1] == pytest.approx(0.5, abs=0.05)  # range_dark, by definition
    assert shares[2] < 0.05


def test_grazing_surface_is_lost(palette):
    grey = palette.material('paint', reflectivity=0.1, photo=False)
    rays = rays_along_x(3000)
    upright = echoes([wall(35.0, grey)], palette, rays)
    slanted = wall(0.0, grey).placed(turn(np.deg2rad(80)), (35.0, 0, 0))
    grazing = echoes([slanted], palette, rays)
    assert np.isfinite(upright.range).mean() > 0.8
    assert np.isfinite(grazing.range).mean() < 0.25


def test_glass_lets_the_light_through(palette):
    glass = palette.material('paint', glass=0.9, reflectivity=0.05, photo=False)
    white = palette.material('paint', reflectivity=0.9, photo=False)
    measured = echoes([wall(10.0, glass, thick=0.001), wall(20.0, white)], palette, rays_along_x(3000)).range
    behind = np.abs(measured - 20.0) < 0.3
    assert behind.mean() > 0.6
    assert np.isfinite(measured).mean() < 0.999


def test_edges_give_mixed_pixels_where_echoes_merge(palette):
    rng = np.random.default_rng(3)
    white = palette.material('paint', reflectivity=0.9, photo=False)
    # A plate that covers the left half, before a wall. Beams are 3 mrad apart and 4 mrad wide; rings are shifted.
    plate = box(0.02, 50.0, 100.0, white, 0).moved(20.0, 25.0, -50)
    azimuth = 0.003 * np.arange(-20, 20)[:, None] + rng.uniform(0, 0.003, 64)
    rays = np.zeros((azimuth.size, 6), np.float32)
    rays[:, 3], rays[:, 4] = 1, azimuth.ravel()
    rays[:, 3:] /= np.linalg.norm(rays[:, 3:], axis=1, keepdims=True)
    wide = LidarModel(
        'wide',
        'spinning',
        np.zeros(64),
        40,
        range_std=0.0,
        quantum=0.0001,
        max_range=200,
        range_dark=50,
        divergence=0.004,
    )
    near = echoes([plate, wall(20.35, white)], palette, rays, wide, seed=11, beside=64).range * rays[:, 3]
    mixed = (near > 20.03) & (near < 20.32)
    assert mixed.sum() > 5
    assert np.abs(azimuth.ravel()[mixed]).max() < 0.004
    far = echoes([plate, wall(40.0, white)], palette, rays, wide, seed=11, beside=64).range * rays[:, 3]
    assert ((far > 20.5) & (far < 39)).mean() < 0.002  # false returns are as rare


def test_moving_object_is_seen_where_it_was_at_each_points_time(palette):
    white = palette.material('paint', reflectivity=0.9, photo=False)
    times = np.arange(-1, 2, 0.05)
    poses = np.tile(np.eye(4)[:3], (len(times), 1, 1))
    poses[:, 0, 3] = 20 + 10 * times  # drives away at 10 m/s
    scene = Scene(wall(100.0, white), [Mover(box(2, 4, 4, white, 13).moved(z=-2), Track(-1.0, 0.05, poses))])
    when = np.linspace(0, 0.5, 200)
    hits = scene.cast(rays_along_x(200), when)
    assert np.allclose(hits.distance, 19 + 10 * when, atol=1e-3)
    assert hits.moving.all()
    assert set(hits.semantic) == {13}
    assert np.allclose(hits.normal, [-1, 0, 0], atol=1e-6)


def test_shadow_of_a_moving_object_moves(palette):
    white = palette.material('paint', photo=False)
    poses = np.tile(np.eye(4)[:3], (2, 1, 1))
    poses[1, 1, 3] = 50.0
    scene = Scene(wall(100.0, white), [Mover(box(2, 4, 4, white, 13).moved(20, 0, -2), Track(0.0, 1.0, poses))])
    assert not scene.free(rays_along_x(5), 50.0, 0.0).any()
    assert scene.free(rays_along_x(5), 50.0, 1.0).all()


def test_unknown_lidar_is_refused():
    with pytest.raises(SettingsError, match='vlp16'):
        choose_lidar('vlp17', 'street', np.random.default_rng(0))


def test_invented_lidars_vary_and_are_sound():
    rng = np.random.default_rng(0)
    models = [choose_lidar('random', 'street', rng) for _ in range(60)]
    assert len({len(model.elevations) for model in models}) >= 6
    assert all(np.all(np.diff(model.elevations) < 0) for model in models if model.pattern == 'spinning')
