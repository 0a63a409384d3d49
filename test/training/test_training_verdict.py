"""Whether an adapted network is to be recommended."""

import pytest

pytest.importorskip('torch', reason='training needs torch')

from depth_ros.settings import Settings
from depth_ros_training.adaptation import before_after
from depth_ros_training.adaptation.verdict import Row, judge, pool


def row(mae, rmse, name='held out', given='16 rings', covered=1.0, count=10_000):
    before = {'mae': 1.0, 'rmse': 2.0, 'abs_rel': 0.1, 'delta1': 0.9, 'within_1_sigma': 0.7, 'within_2_sigma': 0.9}
    after = {**before, 'mae': mae, 'rmse': 2 * rmse}
    return Row(name, name == 'held out', given, 3, count, before, after, (1.0, covered))


@pytest.mark.parametrize(
    ('rows', 'better', 'text'),
    [
        ([row(0.9, 0.9)], True, 'MAE −10.0 % and RMSE −10.0 %'),
        ([row(0.99, 0.99)], False, 'not better'),
        ([row(1.2, 1.1)], False, 'not better'),
        ([row(0.8, 1.06)], False, 'worse in one figure'),
        ([row(0.6, 0.6), row(1.02, 1.08, given='90 % of the points')], False, 'worse in one figure'),
        ([row(float('nan'), float('nan'))], False, 'not better'),
        ([row(0.8, 1.04)], True, 'RMSE +4.0 %'),
        ([row(0.9, 0.9), row(1.0, 1.0, given='90 % of the points')], True, 'MAE +0.0 %'),
        ([row(0.9, 0.9), row(1.04, 1.04, 'worlds')], True, 'better'),
        ([row(0.9, 0.9), row(1.08, 1.04, 'worlds')], False, '+6.0 % in the mean on worlds'),
        ([row(0.9, 0.9), row(1.5, 1.5, 'worlds', count=70)], False, '+50.0 % in the mean on worlds'),
        ([row(0.9, 0.9), row(1.06, 1.06, 'a'), row(0.5, 0.5, 'b')], False, '+6.0 % in the mean on a'),
        ([row(0.5, 0.5, count=70)], False, 'what was held out has fewer than 1000 points to judge by'),
        ([row(0.5, 0.5, covered=0.2)], False, '20.0 % of the points of held out get a depth, before 100.0 %'),
    ],
)
def test_only_what_is_better_is_recommended(rows, better, text):
    verdict = judge(rows)
    assert verdict.better == better
    assert text in verdict.text


def test_other_bags_of_one_name_are_judged_apart(monkeypatch, tmp_path):
    def figures(error):
        return {
            'pooled_common': {'num_truth': 5000, 'mae': error, 'rmse': error, 'abs_rel': 0.1, 'delta1': 1.0},
            'uncertainty': {'pooled': {'within_1_sigma': 0.7, 'within_2_sigma': 0.9}},
            'points': {'num_images': 2, 'num_truth': 5000, 'num_covered': 5000},
        }

    def cell(self, bag, held_out, given, base):
        after = 0.6 if held_out or bag.parent.name == 'a' else 1.3
        return given, {'methods': {'before': figures(1.0), 'after': figures(after)}}, None

    monkeypatch.setattr(before_after._Comparing, 'cell', cell)
    also = {tmp_path / name / 'rec': None for name in 'ab'}
    own = {tmp_path / 'own': None}
    found = before_after.compare(own, also, True, {}, tmp_path, Settings(), print, print)
    assert {row.recordings for row in found.rows} == {'held out', 'a/rec', 'b/rec'}
    verdict = judge(found.rows)
    assert not verdict.better
    assert 'on b/rec' in verdict.text


def test_bags_are_pooled_over_points():
    def document(count, mae, rmse, covered=1.0):
        entry = {
            'pooled_common': {'num_truth': count, 'mae': mae, 'rmse': rmse, 'abs_rel': 0.1, 'delta1': 1.0},
            'uncertainty': {'pooled': {'within_1_sigma': 0.7, 'within_2_sigma': 0.9}},
            'points': {'num_images': 2, 'num_truth': 500, 'num_covered': 500},
        }
        points = {**entry['points'], 'num_covered': int(500 * covered)}
        return {'methods': {'before': entry, 'after': {**entry, 'points': points}}}

    documents = [document(300, 1.0, 2.0), document(100, 3.0, 6.0, 0.5), document(0, 0, 0, 0.0)]
    found = pool('held out', True, '16 rings', documents)
    assert found.before['mae'] == pytest.approx(1.5)
    assert found.after['rmse'] == pytest.approx(((300 * 4 + 100 * 36) / 400) ** 0.5)
    assert (found.num_images, found.num_points) == (4, 400)
    assert found.coverage == (1.0, 0.5)
    assert pool('held out', True, '16 rings', [document(0, 0, 0)]) is None
