"""Settings: types, bounds, YAML."""

import pytest

from depth_ros.errors import SettingsError
from depth_ros.settings import Settings, from_flat, load_yaml, parameters, to_flat


def test_every_parameter_is_documented_and_its_default_is_allowed():
    for spec in parameters():
        assert spec.doc.endswith('.'), spec.name
        assert spec.type in (bool, int, float, str, list), spec.name
        assert spec.check(spec.default) == spec.default
        if spec.type in (int, float):
            assert spec.ge is not None, spec.name
            assert spec.le is not None, spec.name


def test_flat_values_go_in_and_come_out():
    settings = from_flat({'pairing.wait': 1, 'output.encoding': '16UC1', 'transforms.static': ['a b 0 0 0 0 0 0 1']})
    assert settings.pairing.wait == 1.0
    assert to_flat(settings)['output.encoding'] == '16UC1'
    assert from_flat(to_flat(settings)) == settings
    assert Settings().pairing.wait != 1.0


def test_frames_are_named_without_the_slash_of_ros_1():
    settings = from_flat({'transforms.camera_frame': '/camera', 'transforms.lidar_frame': '/robot/lidar'}).transforms
    assert (settings.camera_frame, settings.lidar_frame) == ('camera', 'robot/lidar')


@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ({'pairing.wayt': 1.0}, "did you mean 'pairing.wait'"),
        ({'pairing': 1.0}, 'unknown parameter'),
        ({'pairing.wait': -1.0}, r'expected 0\.0 to'),
        ({'pairing.wait': float('nan')}, 'expected'),
        ({'pairing.wait': 'soon'}, 'expected float'),
        ({'pairing.scans': 1.5}, 'expected int'),
        ({'pairing.scans': True}, 'expected int'),
        ({'pairing.wait': 10**400}, 'number of 1329 bits'),
        ({'pairing.scans': -(10**5000)}, 'number of 16610 bits'),
        ({'motion.deskew': 1}, 'expected bool'),
        ({'output.encoding': '64FC1'}, 'expected one of 32FC1, 16UC1'),
        ({'transforms.static': [1]}, 'list of strings'),
    ],
)
def test_bad_values_are_refused_in_one_line(values, text):
    with pytest.raises(SettingsError, match=text) as caught:
        from_flat(values)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'content',
    [
        '/**:\n  ros__parameters:\n    use_sim_time: true\n    pairing:\n      wait: 0.2\n',
        'depth_node:\n  ros__parameters:\n    pairing.wait: 0.2\n    qos_overrides:\n      points:\n        depth: 3\n',
        'pairing:\n  wait: 0.2\n',
        'driver:\n  ros__parameters: {rpm: 600.0}\n/front/depth_node:\n  ros__parameters: {pairing: {wait: 0.2}}\n',
        'front:\n  driver:\n    ros__parameters: {rpm: 1}\n  depth_node:\n    ros__parameters: {pairing.wait: 0.2}\n',
        'depth_node:\n  ros__parameters: {pairing.wait: 0.1}\n/**:\n  ros__parameters: {pairing.wait: 0.2}\n',
        '/**:\n  ros__parameters: {pairing.wait: 0.1}\n/depth_node:\n  ros__parameters: {pairing.wait: 0.2}\n',
        'driver:\n/robot:\n  depth_node:\n    ros__parameters: {pairing.wait: 0.2}\n  camera: {}\n',
        '/robot:\n  depth_node:\n    ros__parameters: {pairing.wait: 0.2}\n  ros__parameters: {rpm: 1}\n',
        '/**:\n  ros__parameters: {pairing: &base {wait: 0.1}}\n'
        '/depth_node:\n  ros__parameters: {pairing: {<<: *base, wait: 0.2}}\n',
        '/a/depth_node:\n  ros__parameters: {pairing.wait: 0.2}\n'
        '/b/depth_node:\n  ros__parameters: {use_sim_time: true, pairing: {wait: 0.2}}\n',
    ],
)
def test_node_files_and_bare_groups_are_read_alike(tmp_path, content):
    path = tmp_path / 'node.yaml'
    path.write_text(content)
    assert load_yaml(path) == {'pairing.wait': 0.2}


def test_a_node_file_may_set_nothing(tmp_path):
    path = tmp_path / 'node.yaml'
    path.write_text('/**:\n  ros__parameters:\n    # pairing.wait: 0.2\n')
    assert load_yaml(path) == {}


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        ('{', 'no YAML'),
        ('- 1\n', 'expected a mapping'),
        (b'\xff\xfe\x00', 'no YAML'),
        ('driver:\n  ros__parameters: {rpm: 1}\n', r'are for driver, expected a section depth_node or /\*\*'),
        (
            '/front/depth_node:\n  ros__parameters: {pairing.wait: 0.1}\n'
            '/rear/depth_node:\n  ros__parameters: {pairing.wait: 0.2}\n',
            'differ for /front/depth_node and /rear/depth_node, .*; keep one',
        ),
        ('pairing:\n  wait: 0.1\nprojection: {}\npairing:\n  scans: 2\n', "'pairing' in line 1 and again in line 4"),
        ('/**:\n  ros__parameters:\n    pairing: {wait: 0.1, wait: 0.1}\n', "'wait' in line 3 and again in line 3"),
        ('pairing: {wait: 0.1}\npairing.wait: 0.2\n', r'pairing\.wait is set twice'),
        (
            '/**:\n  ros__parameters:\n    pairing.wait: 0.1\nprojection:\n  max_depth: 1.5\n',
            "'projection' beside sections of nodes, with max_depth and no ros__parameters; indent it",
        ),
        (
            '/**:\n  ros_parameters: {pairing.wait: 0.1}\ndepth_node:\n  ros__parameters: {pairing.wait: 0.2}\n',
            r"'/\*\*' beside sections of nodes, with ros_parameters and no ros__parameters",
        ),
        ('depth_node:\n  ros__parameters: {}\n  pairing: {wait: 0.1}\n', "'depth_node/pairing' beside sections"),
        ('depth_node:\n  ros__parameters: {}\npairing.wait: 0.1\n', "'pairing.wait' beside sections .*, without"),
        ('pairing.wait: 2024-13-45\n', 'no YAML: month must be'),
        ('pairing.wait: !!bool perhaps\n', 'no YAML'),
        ('[' * 5000, 'no YAML'),
    ],
)
def test_files_that_are_no_parameters(tmp_path, content, text):
    path = tmp_path / 'node.yaml'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=text) as caught:
        load_yaml(path)
    assert '\n' not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(SettingsError, match='No such file'):
        load_yaml(tmp_path / 'none.yaml')
