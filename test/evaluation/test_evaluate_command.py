import errno
import json
import re
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from damaged_bags import damage
from street import write_street

from depth_ros.bags.reader import BagReader
from depth_ros.bags.writer import BagWriter
from depth_ros.cli import evaluate_command
from depth_ros.cli.main import main
from depth_ros.evaluation.metrics import KEYS
from depth_ros.evaluation.output import OutputFolder
from depth_ros.evaluation.report import number
from depth_ros.networks.weights import EXPORTED
from depth_ros.settings import Settings, to_flat


def evaluate_bag(bag, out, *options):
    return main(['evaluate', str(bag), '--out', str(out), *map(str, options)])


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def one_line(capsys):
    text = capsys.readouterr().err
    assert text.count('\n') == 1, text
    return text


@pytest.fixture(scope='module')
def result(street, tmp_path_factory):
    """Output folder of a full run."""
    folder = tmp_path_factory.mktemp('full')
    code = evaluate_bag(street, folder / 'out', '--method', 'linear,nearest', '--input-rings', '8', '--cloud',
                        folder / 'cloud.ply')
    assert code == 0
    return folder


def test_metrics_json_has_the_promised_form(result, street):
    text = (result / 'out' / 'metrics.json').read_text(encoding='utf-8')

    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON')

    document = json.loads(text, parse_constant=refuse)
    assert list(document['methods']) == ['linear', 'nearest']
    for entry in document['methods'].values():
        for group in ('pooled', 'per_image', 'pooled_common'):
            assert set(KEYS) <= set(entry[group])
        assert [set(KEYS) <= set(part) for part in entry['by_range']] == [True] * 6
        assert entry['by_range'][5]['mae'] is None  # nothing stands beyond 50 m
        assert 0 < entry['uncertainty']['pooled']['within_1_sigma'] <= 1
        assert entry['uncertainty']['pooled']['ause_abs_rel'] >= 0
        assert entry['flicker']['num_image_pairs'] == 5
        assert set(entry['latency_ms']) == {'read', 'pair', 'project', 'estimate'}
    assert document['bag']['path'] == str(street)
    assert document['bag']['topics']['points'] == '/points'
    assert document['settings'] == to_flat(Settings())
    assert document['counts']['answered'] == 6
    assert document['counts']['odometry_unused'] == 0
    assert document['notes'] == []
    assert document['interrupted'] is False
    assert document['partial'] is False


class Loads(HTMLParser):
    """Everything that a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        loading = ('src', 'href', 'srcset', 'action', 'poster', 'data')
        self.found += [value for name, value in attributes if name in loading]


def test_report_needs_nothing_else_and_shows_pictures(result):
    text = (result / 'out' / 'report.html').read_text(encoding='utf-8')
    page = Loads()
    page.feed(text)
    assert page.found
    assert all(value.startswith('data:image/jpeg;base64,') for value in page.found)
    assert not {'link', 'iframe', 'object'} & set(page.tags)
    without_pictures = re.sub(r'data:image/jpeg;base64,[A-Za-z0-9+/=]+', '', text)
    assert not re.search(r'https?://|@import|url\(', without_pictures)
    assert 'nan' not in re.findall(r'\b\w+\b', without_pictures.lower())
    assert page.tags.count('svg') == 6
    assert page.tags.count('img') >= 9 + 4 * 3
    assert len(text) < 6_000_000


def test_report_says_what_was_withheld_and_the_figures(result):
    text = (result / 'out' / 'report.html').read_text(encoding='utf-8')
    document = json.loads((result / 'out' / 'metrics.json').read_text(encoding='utf-8'))
    assert document['holdout']['text'] in text
    assert f'{number(document["methods"]["linear"]["pooled"]["mae"])} m' in text
    for key in ('mae', 'irmse'):
        assert f'>{number(document["methods"]["nearest"]["pooled"][key])}<' in text


def test_what_judged_is_said(tmp_path, capsys):
    bag = write_street(tmp_path / 'drive', count=2, truths=(0, 1))
    assert evaluate_bag(bag, tmp_path / 'out', '--method', 'nearest', '--truth') == 0
    assert 'pixels of /truth/depth up to 80 m' in capsys.readouterr().out
    html = (tmp_path / 'out' / 'report.html').read_text()
    assert 'The true depth of a pixel is compared' in html
    assert 'scored on the pixels of /truth/depth, up to 80 m' in html
    assert 'Truth is lidar' not in html


def test_the_terminal_shows_the_table(street, tmp_path, capsys):
    assert evaluate_bag(street, tmp_path / 'out', '--method', 'linear,nearest', '--no-report') == 0
    text = capsys.readouterr().out
    document = json.loads((tmp_path / 'out' / 'metrics.json').read_text(encoding='utf-8'))
    row = next(line for line in text.splitlines() if line.startswith('linear'))
    assert number(document['methods']['linear']['pooled']['mae']) in row
    assert '6 of 6 images answered' in text
    assert '10 % of the lidar points' in text
    assert leftovers(tmp_path / 'out') == ['metrics.json']


def test_two_runs_find_the_same(street, tmp_path):
    found = []
    for name in ('a', 'b'):
        assert evaluate_bag(street, tmp_path / name, '--method', 'classical', '--no-report') == 0
        document = json.loads((tmp_path / name / 'metrics.json').read_text(encoding='utf-8'))
        document['methods']['classical'].pop('latency_ms')
        found.append(document)
    assert found[0] == found[1]


def test_parameters_of_the_node_are_used_and_wrong_ones_named(street, tmp_path, capsys):
    params = tmp_path / 'node.yaml'
    params.write_text('/**:\n  ros__parameters:\n    estimator.method: nearest\n    grading:\n      withhold: 0.5\n')
    assert evaluate_bag(street, tmp_path / 'out', '--params', params, '--no-report') == 0
    document = json.loads((tmp_path / 'out' / 'metrics.json').read_text(encoding='utf-8'))
    assert list(document['methods']) == ['nearest']
    assert document['settings']['grading.withhold'] == 0.5
    capsys.readouterr()
    params.write_text('/**:\n  ros__parameters:\n    estimator.methode: nearest\n')
    assert evaluate_bag(street, tmp_path / 'other', '--params', params) == 2
    assert 'estimator.method' in one_line(capsys)
    assert leftovers(tmp_path) == ['node.yaml', 'out']


@pytest.mark.parametrize(('options', 'said'), [
    (('--input-rings', '500'), '500 input rings'),
    (('--input-rings', '-1'), 'at least 0'),
    (('--method', 'classical', '--input-rings', '0'), "'classical' needs lidar"),
    (('--method', 'linear', '--input-fraction', '0'), "'linear' needs lidar"),
    (('--input-fraction', '1.5'), 'input fraction'),
    (('--method', 'magic'), "'magic'"),
    (('--points', '/nowhere'), '/nowhere'),
    (('--truth',), 'no true depth'),
    (('--open3d-clean',), '--cloud'),
    (('--cloud', '/nowhere/cloud.ply'), '/nowhere'),
])
def test_wrong_options_are_one_line_and_leave_nothing(street, tmp_path, capsys, options, said):
    assert evaluate_bag(street, tmp_path / 'out', *options) == 2
    assert said in one_line(capsys)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize('kind', ['missing', 'empty', 'text', 'damaged'])
def test_a_bag_that_is_none_is_one_line_and_leaves_nothing(street, tmp_path, capsys, kind):
    bag = tmp_path / 'bag.mcap'
    if kind != 'missing':
        whole = next(street.glob('*.mcap')).read_bytes()
        bag.write_bytes({'empty': b'', 'text': b'not a bag at all', 'damaged': whole[:40] + b'\xff' * 400}[kind])
    assert evaluate_bag(bag, tmp_path / 'out') == 2
    assert 'bag.mcap' in one_line(capsys)
    assert 'out' not in leftovers(tmp_path)
    assert not [name for name in leftovers(tmp_path) if name.endswith('.part')]


def test_an_existing_folder_is_kept_unless_told(street, tmp_path, capsys):
    out = tmp_path / 'out'
    assert evaluate_bag(street, out, '--method', 'nearest', '--no-report') == 0
    before = (out / 'metrics.json').read_bytes()
    assert evaluate_bag(street, out, '--method', 'linear', '--no-report') == 2
    assert '--overwrite' in capsys.readouterr().err
    assert (out / 'metrics.json').read_bytes() == before
    assert evaluate_bag(street, out, '--method', 'linear', '--no-report', '--overwrite') == 0
    assert 'linear' in json.loads((out / 'metrics.json').read_text())['methods']
    assert leftovers(tmp_path) == ['out']


def test_a_link_to_a_folder_is_a_folder(street, tmp_path, capsys):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to('real')
    assert evaluate_bag(street, tmp_path / 'link', '--method', 'nearest', '--no-report') == 0
    assert leftovers(tmp_path) == ['link', 'real']
    assert leftovers(tmp_path / 'real') == ['metrics.json']
    assert (tmp_path / 'link').is_symlink()
    capsys.readouterr()
    assert evaluate_bag(street, tmp_path / 'link', '--method', 'nearest', '--no-report') == 2
    assert '--overwrite' in one_line(capsys)


def test_only_results_are_overwritten(street, tmp_path):
    out = tmp_path / 'out'
    assert evaluate_bag(street, out, '--method', 'nearest') == 0
    (out / 'notes.txt').write_text('hours of work')
    (out / 'second drive').mkdir()
    (out / 'second drive' / 'metrics.json').write_text('{}')
    assert evaluate_bag(street, out, '--method', 'linear', '--no-report', '--overwrite') == 0
    assert sorted(leftovers(out)) == ['metrics.json', 'notes.txt', 'second drive'], 'a report of other figures is none'
    assert (out / 'notes.txt').read_text() == 'hours of work'
    assert list(json.loads((out / 'metrics.json').read_text())['methods']) == ['linear']


@pytest.mark.parametrize('until', range(4))
def test_results_that_are_interrupted_on_their_way_leave_those_before(tmp_path, monkeypatch, until):
    (tmp_path / 'out').mkdir()
    for name in ('metrics.json', 'report.html'):
        (tmp_path / 'out' / name).write_text('old')
    rename, left = Path.rename, [until]

    def interrupted(self, target):
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        return rename(self, target)

    folder = OutputFolder(tmp_path / 'out', ('metrics.json', 'report.html'), overwrite=True)
    new = folder.__enter__()
    for name in ('metrics.json', 'report.html'):
        (new / name).write_text('new')
    monkeypatch.setattr(Path, 'rename', interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder.__exit__(None)
    kept = {item.name: item.read_text() for item in (tmp_path / 'out').iterdir()}
    assert kept == {'metrics.json': 'old', 'report.html': 'old'}


def test_the_folder_that_one_is_in_and_a_mounted_one_are_filled(street, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    out.mkdir()
    monkeypatch.chdir(out)
    before = out.stat().st_ino
    for method in ('nearest', 'linear'):
        assert evaluate_bag(street, '.', '--method', method, '--no-report', '--overwrite') == 0
        assert list(json.loads((out / 'metrics.json').read_text())['methods']) == [method]
        assert leftovers(out) == ['metrics.json']
    assert out.stat().st_ino == before, 'a mount point cannot be replaced'


def test_images_that_cannot_be_decoded_are_not_called_answered(street, tmp_path):
    with BagReader(street) as reader, BagWriter(tmp_path / 'bag') as writer:
        for item in reader.messages():
            if hasattr(item.message, 'encoding') and writer.counts[item.topic] == 2:
                item.message.encoding = 'unheard_of'
            writer.write(item.topic, item.message, item.log_ns)
    assert evaluate_bag(tmp_path / 'bag', tmp_path / 'out', '--method', 'nearest') == 0
    report = (tmp_path / 'out' / 'report.html').read_text()
    assert 'on 5 images, 1 without an answer' in report


def test_a_folder_with_other_things_is_never_replaced(street, tmp_path, capsys):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'thesis.tex').write_text('years of work')
    assert evaluate_bag(street, tmp_path / 'out', '--overwrite') == 2
    assert 'other files' in one_line(capsys)
    assert leftovers(tmp_path / 'out') == ['thesis.tex']


def test_a_place_that_cannot_be_written_is_one_line(street, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert evaluate_bag(street, tmp_path / 'file' / 'out') == 2
    assert 'cannot write' in one_line(capsys)
    assert evaluate_bag(street, tmp_path / 'file') == 2
    assert 'no folder' in one_line(capsys)


def test_a_full_disk_leaves_nothing(street, tmp_path, capsys, monkeypatch):
    def full(self, *_, **__):
        with self.open('w') as file:
            file.write('{"half": ')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'write_text', full)
    assert evaluate_bag(street, tmp_path / 'out', '--method', 'nearest') == 2
    assert 'disk is full' in one_line(capsys)
    assert leftovers(tmp_path) == []


def test_a_bag_that_is_damaged_part_way_gives_the_figures_of_what_came_before(tmp_path, capsys):
    bag, out = write_street(tmp_path / 'drive', count=12, compress=True), tmp_path / 'out'
    damage(bag)
    assert evaluate_bag(bag, out, '--method', 'nearest', '--input-rings', 8, '--cloud', tmp_path / 'cloud.ply') == 2
    said = capsys.readouterr()
    assert 'damaged after' in said.err
    assert said.err.count('\n') == 1
    document = json.loads((out / 'metrics.json').read_text(encoding='utf-8'))
    counts = document['counts']
    assert document['partial'] is True
    assert 'damaged after' in document['damage']
    assert 3 < counts['answered'] == counts['images'] < counts['images_in_bag'] == 12
    assert document['methods']['nearest']['pooled']['mae'] < 1.5
    assert f'PARTIAL: {counts["images"]} of 12 images' in said.out
    assert 'Partial: bag' in (out / 'report.html').read_text(encoding='utf-8')
    assert leftovers(tmp_path) == ['cloud.ply', 'drive', 'out']


def test_a_bag_whose_end_is_missing_is_evaluated_and_says_so(tmp_path, capsys):
    bag, out = write_street(tmp_path / 'drive', count=12, compress=True), tmp_path / 'out'
    file = next(bag.glob('*.mcap'))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 3 // 4])
    assert evaluate_bag(bag, out, '--method', 'nearest', '--input-rings', 8) == 0
    document = json.loads((out / 'metrics.json').read_text(encoding='utf-8'))
    assert 'the end is missing' in document['notes'][0]
    assert document['damage'] is None
    assert 3 < document['counts']['answered'] < 12
    assert 'the end is missing' in capsys.readouterr().out
    assert 'the end is missing' in (out / 'report.html').read_text(encoding='utf-8')


def interrupt_after(monkeypatch, count):
    def progress(self, done, total):
        if done == count:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(evaluate_command.Progress, '__call__', progress)


def test_an_interrupt_writes_what_is_done_and_says_so(street, tmp_path, monkeypatch):
    interrupt_after(monkeypatch, 2)
    assert evaluate_bag(street, tmp_path / 'out', '--method', 'nearest') == 130
    document = json.loads((tmp_path / 'out' / 'metrics.json').read_text(encoding='utf-8'))
    assert document['interrupted'] is True
    assert document['partial'] is True
    assert document['counts']['answered'] == 2
    assert 'Interrupted' in (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')
    assert leftovers(tmp_path) == ['out']


def test_an_interrupt_while_writing_leaves_nothing(street, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_command, 'build_report', lambda evaluation: signal.raise_signal(signal.SIGINT))
    assert evaluate_bag(street, tmp_path / 'out', '--method', 'nearest') == 130
    assert leftovers(tmp_path) == []


def test_an_interrupt_before_the_first_image_leaves_nothing(street, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_command.Recording, 'events', lambda self: signal.raise_signal(signal.SIGINT))
    assert evaluate_bag(street, tmp_path / 'out', '--method', 'nearest') == 130
    assert leftovers(tmp_path) == []


@pytest.fixture(scope='module')
def network_params(weights, tmp_path_factory):
    file = tmp_path_factory.mktemp('params') / 'node.yaml'
    estimator = {'checkpoint': str(weights / EXPORTED.name), 'device': 'cpu'}
    # What untrained weights say of their deviation means nothing.
    groups = {'estimator': estimator, 'output': {'max_relative_std': 0.0}}
    file.write_text(json.dumps({'/**': {'ros__parameters': groups}}))
    return file


def test_without_lidar_a_network_is_scored_on_all_points(street, tmp_path, network_params, capsys):
    found = []
    for name, option in (('rings', '--input-rings'), ('points', '--input-fraction')):
        assert evaluate_bag(street, tmp_path / name, option, '0', '--params', network_params) == 0
        assert 'from the image alone' in capsys.readouterr().out
        document = json.loads((tmp_path / name / 'metrics.json').read_text(encoding='utf-8'))
        assert document['holdout']['kind'] == 'all'
        assert document['counts']['answered'] == document['counts']['answered_without_lidar'] == 6
        assert document['methods']['exported']['pooled']['coverage'] == 1
        found.append(document['methods']['exported']['points']['num_truth'])
    assert evaluate_bag(street, tmp_path / 'given', '--params', network_params) == 0
    document = json.loads((tmp_path / 'given' / 'metrics.json').read_text(encoding='utf-8'))
    assert document['counts']['answered_without_lidar'] == 0
    assert found[0] == found[1] > 5 * document['methods']['exported']['points']['num_truth']


def test_what_runs_a_method_and_what_it_stands_in_for_is_said(street, tmp_path, network_params, capsys, monkeypatch):
    assert evaluate_bag(street, tmp_path / 'a', '--method', 'exported,classical', '--params', network_params) == 0
    document = json.loads((tmp_path / 'a' / 'metrics.json').read_text(encoding='utf-8'))
    assert 'f32: ' in document['methods']['exported']['runs_on']
    assert document['methods']['exported']['runs_on'] in (tmp_path / 'a' / 'report.html').read_text(encoding='utf-8')
    for name in ('openvino', 'onnxruntime', 'torch'):
        monkeypatch.setitem(sys.modules, name, None)
    given = network_params.read_text(encoding='utf-8')
    (tmp_path / 'node.yaml').write_text(given.replace('"device": "cpu"', '"fallback": true'), encoding='utf-8')
    capsys.readouterr()
    assert evaluate_bag(street, tmp_path / 'b', '--params', tmp_path / 'node.yaml') == 0
    assert 'classical in place of network' in capsys.readouterr().out


def test_progress_tells_the_time_that_is_left_once_it_can_know(monkeypatch, capsys):
    seconds = iter([0.0, 6.0, 12.0])
    monkeypatch.setattr(evaluate_command.time, 'monotonic', lambda: next(seconds))
    progress = evaluate_command.Progress()
    progress(0, 10)
    progress(4, 10)
    assert capsys.readouterr().err.splitlines() == ['0/10 images', '4/10 images, 18 s left']
