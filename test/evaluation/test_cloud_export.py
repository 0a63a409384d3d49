import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest
from street import BOX, WALL, write_panned

from depth_ros.bags.reader import BagReader
from depth_ros.bags.writer import BagWriter
from depth_ros.cli.main import main
from depth_ros.evaluation.cloud_export import CloudBuilder, Drive, MeshBuilder, write_cloud
from depth_ros.geometry.rigid import TransformTree, rigid
from depth_ros.settings import Settings
from depth_ros.types import Basis, Camera, DepthEstimate, Frame, Pose, SparseDepth

NS = 1_000_000_000
HAS_OPEN3D = importlib.util.find_spec('open3d') is not None


def read_ply(path):
    header, body = path.read_bytes().split(b'end_header\n', 1)
    code = '<f8' if b'property double x' in header else '<f4'
    values = np.frombuffer(body, np.dtype([('xyz', code, 3), ('rgb', 'u1', 3)]))
    assert f'element vertex {len(values)}\n'.encode() in header
    return header.decode(), values['xyz'], values['rgb']


def export(bag, tmp_path, *options):
    code = main([
        'evaluate', str(bag), '--out', str(tmp_path / 'out'), '--cloud', str(tmp_path / 'c.ply'), '--no-report',
        '--method', 'linear', *options,
    ])
    assert code == 0
    return read_ply(tmp_path / 'c.ply')


def test_clouds_fuse_along_the_drive_in_the_fixed_frame(street, tmp_path):
    header, points, colours = export(street, tmp_path)
    assert '6 images fused' in header
    # Six images from 2.5 m of road: the ground, the wall and the face of the box each stay in one place.
    ground = points[(points[:, 0] < 10) & (np.abs(points[:, 1]) < 1)]
    assert np.abs(ground[:, 2] + 1.7).max() < 0.05
    inside = (points[:, 1] > BOX[1] + 0.8) & (points[:, 1] < BOX[2] - 0.8)
    face = points[inside & (points[:, 2] > -1) & (points[:, 2] < -0.4)]
    # Points between the box and the wall behind it are spread over many voxels, those on the box fall together.
    assert (np.abs(face[:, 0] - BOX[0]) < 0.1).mean() > 0.75
    far = points[(points[:, 1] > 2) & (points[:, 2] > 0)]
    assert np.median(far[:, 0]) == pytest.approx(WALL, abs=0.2)
    assert len(colours) == len(points)
    assert colours.max() > 0


def test_voxels_hold_one_point(street, tmp_path):
    _, points, _ = export(street, tmp_path)
    cells = np.floor(points.astype(np.float64) / 0.02).astype(np.int64)
    # Means are rounded to float32, so a few may cross a border.
    assert len(np.unique(cells, axis=0)) > 0.99 * len(points)


ORIGINS = {'near': (0.0, 0.0, 0.0), 'UTM': (458_000.0, 5_428_000.0, 110.0)}


def see_a_wall(builder, origin):
    """Give a builder one image of a wall 10 m away, from a place of the odometry."""
    camera = Camera(160, 96, 120.0, 120.0, 79.5, 47.5, 'camera')
    depth = np.full(camera.shape, 10, np.float32)
    frame = Frame(NS, np.zeros((*camera.shape, 3), np.uint8), 'rgb8', camera)
    tree = TransformTree()
    tree.add('base', 'camera', np.eye(4))
    builder.start(tree)
    for stamp in (NS, NS + NS // 10):
        builder.add_pose(Pose(stamp, rigid(origin, [0, 0, 0, 1]), 'odom', 'base'))
    basis = Basis(1, 1, 0, 'deskewed')
    builder.add_estimate(DepthEstimate(frame, depth, 0.01 * depth, SparseDepth.from_image(depth), None, basis))
    return builder


def test_clouds_far_from_the_origin_of_odometry_keep_their_detail(tmp_path):
    clouds = {}
    for name, origin in ORIGINS.items():
        builder = see_a_wall(CloudBuilder(Drive(Settings()), 1), origin)
        write_cloud(tmp_path / name, *builder.points(), name)
        clouds[name] = read_ply(tmp_path / name)[1] - origin
    assert len(clouds['UTM']) == pytest.approx(len(clouds['near']), rel=0.05)
    assert b'property float x' in (tmp_path / 'near').read_bytes()
    # Within a voxel and its half: those of another origin have other borders.
    rows = [np.unique(np.round(cloud[:, 1], 2)) for cloud in clouds.values()]
    assert len(rows[1]) == pytest.approx(len(rows[0]), abs=3)
    assert clouds['UTM'].min(axis=0) == pytest.approx(clouds['near'].min(axis=0), abs=0.03)


def test_without_odometry_the_cloud_is_one_image_in_the_optical_frame(unposed_street, tmp_path):
    header, points, _ = export(unposed_street, tmp_path)
    assert 'optical frame' in header
    road = points[(points[:, 2] < 10) & (np.abs(points[:, 0]) < 1)]
    assert np.median(road[:, 1]) == pytest.approx(1.7, abs=0.05)


def test_clouds_of_a_camera_on_a_joint_are_fused_too(street, tmp_path):
    header, points, _ = export(write_panned(street, tmp_path / 'panned'), tmp_path)
    assert '6 images fused' in header
    ground = points[(points[:, 0] < 10) & (np.abs(points[:, 1]) < 1)]
    assert np.abs(ground[:, 2] + 1.7).max() < 0.05


@pytest.fixture(scope='module')
def lost_street(street, tmp_path_factory):
    """The drive with odometry of a frame that nothing joins with the sensors."""
    path = tmp_path_factory.mktemp('street') / 'lost'
    with BagReader(street) as reader, BagWriter(path) as writer:
        for item in reader.messages():
            if item.topic == '/odom':
                item.message.child_frame_id = 'chassis'
            writer.write(item.topic, item.message, item.log_ns)
    return path


def test_odometry_that_nothing_joins_with_the_camera_leaves_a_cloud_of_one_image_and_says_so(
    lost_street, tmp_path, capsys
):
    header, points, _ = export(lost_street, tmp_path)
    assert 'optical frame' in header
    assert len(points) > 1000
    said = capsys.readouterr()
    assert 'the cloud is of one image' in said.err
    assert "'chassis'" in said.err
    assert said.err.count('\n') == 1
    document = json.loads((tmp_path / 'out' / 'metrics.json').read_text(encoding='utf-8'))
    assert document['counts']['odometry_unused'] == document['counts']['answered'] == 6
    assert "odometry of 'chassis' is not used" in document['notes'][0]
    assert f'note: {document["notes"][0]}' in said.out


def test_the_report_says_that_odometry_was_not_used(lost_street, tmp_path):
    assert main(['evaluate', str(lost_street), '--out', str(tmp_path / 'out'), '--method', 'nearest']) == 0
    text = (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')
    assert 'images without the odometry that was there</th><td>6<' in text
    assert '(6 of 6 images)' in text


def test_existing_clouds_are_kept_unless_told(street, tmp_path, capsys):
    (tmp_path / 'c.ply').write_text('mine')
    cloud = str(tmp_path / 'c.ply')
    options = ['evaluate', str(street), '--out', str(tmp_path / 'out'), '--no-report', '--cloud', cloud]
    assert main(options) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert (tmp_path / 'c.ply').read_text() == 'mine'
    assert main([*options, '--overwrite']) == 0
    assert len(read_ply(tmp_path / 'c.ply')[1]) > 1000


@pytest.mark.parametrize(('bag', 'outputs', 'said'), [
    ('bag', ['--out', 'out', '--cloud', 'bag/{}'], 'is in the input'),
    ('bag/{}', ['--out', 'out', '--cloud', 'bag/{}'], 'is the input'),
    ('bag/{}', ['--out', 'out', '--cloud', 'bag/metadata.yaml'], 'is in the input'),
    ('bag', ['--out', 'bag/out'], 'is in the input'),
    ('bag', ['--out', 'out', '--cloud', 'mine.yaml', '--params', 'mine.yaml'], 'is the input'),
    ('bag', ['--out', '.', '--cloud', 'metrics.json'], 'two of --out, --cloud'),
])  # fmt: skip
def test_results_never_replace_what_is_read_or_each_other(street, tmp_path, monkeypatch, capsys, bag, outputs, said):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(street, tmp_path / 'bag')
    (tmp_path / 'mine.yaml').write_text('pairing: {wait: 0.1}\n')
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    (file,) = (path.name for path in before if path.suffix == '.mcap')
    arguments = [text.format(file) for text in (bag, *outputs)]
    assert main(['evaluate', *arguments, '--method', 'nearest', '--no-report', '--overwrite']) == 2
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


def test_colours_stay_with_their_points(tmp_path):
    points = np.arange(9, dtype=np.float32).reshape(3, 3)
    colours = np.array([[255, 0, 0], [0, 255, 0], [1, 2, 3]], np.uint8)
    write_cloud(tmp_path / 'x.ply', points, colours, 'two\nlines')
    header, found, found_colours = read_ply(tmp_path / 'x.ply')
    assert 'comment two lines\n' in header
    np.testing.assert_array_equal(found, points)
    np.testing.assert_array_equal(found_colours, colours)


@pytest.mark.parametrize('options', [('--mesh', 'm.ply'), ('--cloud', 'c.ply', '--open3d-clean')])
def test_missing_open3d_names_the_command_that_installs_it(street, tmp_path, capsys, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, 'open3d', None)
    assert main(['evaluate', str(street), '--out', 'out', *options]) == 2
    assert "pip install 'depth_ros[open3d]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not HAS_OPEN3D, reason='open3d is not installed (pip install open3d)')
def test_mesh_and_outlier_removal(street, tmp_path):
    _, points, _ = export(street, tmp_path, '--open3d-clean', '--mesh', str(tmp_path / 'm.ply'))
    assert len(points) > 1000
    mesh = importlib.import_module('open3d').io.read_triangle_mesh(str(tmp_path / 'm.ply'))
    vertices = np.asarray(mesh.vertices)
    road = vertices[(vertices[:, 0] < 10) & (np.abs(vertices[:, 1]) < 1)]
    assert len(mesh.triangles) > 1000
    assert np.median(road[:, 2]) == pytest.approx(-1.7, abs=0.05)


@pytest.mark.skipif(not HAS_OPEN3D, reason='open3d is not installed (pip install open3d)')
def test_meshes_far_from_the_origin_of_odometry_keep_their_detail(tmp_path):
    meshes = {}
    for name, origin in ORIGINS.items():
        see_a_wall(MeshBuilder(Drive(Settings())), origin).write(tmp_path / f'{name}.ply')
        mesh = importlib.import_module('open3d').io.read_triangle_mesh(str(tmp_path / f'{name}.ply'))
        meshes[name] = np.asarray(mesh.vertices) - origin
    assert meshes['UTM'][:, 2] == pytest.approx(10, abs=0.02)
    assert len(meshes['UTM']) == len(meshes['near'])
    assert meshes['UTM'].std(axis=0) == pytest.approx(meshes['near'].std(axis=0), abs=0.01)


@pytest.mark.skipif(not HAS_OPEN3D, reason='open3d is not installed (pip install open3d)')
def test_a_mesh_by_odometry_that_nothing_joins_with_the_camera_is_an_error_that_says_so(lost_street, tmp_path, capsys):
    options = ['--out', str(tmp_path / 'o'), '--mesh', str(tmp_path / 'm.ply'), '--method', 'nearest', '--no-report']
    assert main(['evaluate', str(lost_street), *options]) == 2
    assert "odometry of 'chassis'" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ['o']


@pytest.mark.skipif(not HAS_OPEN3D, reason='open3d is not installed (pip install open3d)')
def test_a_mesh_without_odometry_is_an_error(unposed_street, tmp_path, capsys):
    assert main(['evaluate', str(unposed_street), '--out', str(tmp_path / 'o'), '--mesh', str(tmp_path / 'm.ply')]) == 2
    assert 'no odometry' in capsys.readouterr().err
