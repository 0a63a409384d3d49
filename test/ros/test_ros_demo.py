"""The main job as a newcomer sees it: one command, real processes, a folder with everything."""

import json

import pytest

pytest.importorskip('rclpy')

from depth_ros.bags.reader import BagReader
from depth_ros.cli.demo_command import SAMPLE_BAG
from depth_ros.cli.main import main


@pytest.mark.skipif(not SAMPLE_BAG.is_dir(), reason='the sample bag is not installed with the package')
def test_the_demo_leaves_all_that_it_promises(tmp_path, capfd):
    out = tmp_path / 'demo'
    assert main(['demo', '--out', str(out), '--rate', '0.5']) == 0
    said = capfd.readouterr().out
    for name in ('report.html', 'overview.jpg', 'cloud.ply', 'metrics.json', 'node.yaml'):
        assert (out / name).stat().st_size > 100
        assert str(out / name) in said
    methods = json.loads((out / 'metrics.json').read_text())['methods']
    assert methods['classical']['pooled']['mae'] < methods['linear']['pooled']['mae']
    with BagReader(out / 'recorded_bag') as bag:
        assert {topic.name: topic.count for topic in bag.topics}['/depth/image'] == 15
    assert [path.name for path in tmp_path.iterdir()] == ['demo'], 'nothing else is left'
