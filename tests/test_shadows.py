"""Audits on the toy: the arithmetic of LiRA and of confusion, what the toy is trained on, and a whole small run."""

import copy
import json
import os
from functools import partial
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from basicsr_unlearn.audits import roc, toy
from basicsr_unlearn.audits.confusion import ConfusionSettings, confusion, undone
from basicsr_unlearn.audits.shadows import KINDS, ShadowSettings, interval, likelihood_ratios, shadows, split
from basicsr_unlearn.audits.toy_options import adapt
from basicsr_unlearn.data.sources import build_source
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.option_file import read
from basicsr_unlearn.pool import Pool
from basicsr_unlearn.recipes import folder

HAZE = {'scenes': 3, 'first_scene': 5, 'degradation': {'type': 'haze'}}
RAIN = {'scenes': 3, 'first_scene': 50, 'degradation': {'type': 'rain'}}
LEVEL = {'psnr': 17.5, 'l1': 0.1, 'mse': 0.02}


@pytest.fixture
def tree():
    return read(os.path.join(folder('quickstart'), 'unlearn_haze.yml'), '-opt')


def _statistics(difference, couples, pairs=300, seed=0):
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(20, 5, (pairs, 1))
    return [difficulty + rng.normal(mean, 1, (pairs, couples)) for mean in (difference, 0)]


def test_the_likelihood_ratio_is_that_of_gaussians_of_the_other_networks():
    inside, outside = _statistics(1, 5, pairs=4)
    for side, scores in zip((inside, outside), likelihood_ratios(inside, outside, 0.01), strict=True):
        for pair in range(4):
            for couple in range(5):
                others = [other for other in range(5) if other != couple]
                one, two = (NormalDist.from_samples(values[pair, others]) for values in (inside, outside))
                x = side[pair, couple]
                assert scores[pair, couple] == pytest.approx(np.log(one.pdf(x) / two.pdf(x)), rel=1e-6)


def test_many_networks_reach_the_auc_of_theory_and_networks_without_a_difference_one_half():
    theory = NormalDist().cdf(1 / 2**0.5)
    assert roc.auc(*likelihood_ratios(*_statistics(1, 64), 0.1)) == pytest.approx(theory, abs=0.02)
    found = [roc.auc(*likelihood_ratios(*_statistics(0, 4, seed=seed), 0.1)) for seed in range(5)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.015)
    nothing_left_out = [_fitted_on_itself(*_statistics(0, 4, seed=seed)) for seed in range(5)]
    assert np.mean(nothing_left_out) > 0.6  # what leaving out is for


def _fitted_on_itself(inside, outside):
    fits = [(side.mean(1, keepdims=True), side.std(1, ddof=1, keepdims=True)) for side in (inside, outside)]
    scores = []
    for side in (inside, outside):
        one, two = (-np.log(width) - ((side - mean) / width) ** 2 / 2 for mean, width in fits)
        scores.append(one - two)
    return roc.auc(*scores)


def test_a_network_does_not_score_itself_nor_its_couple():
    inside, outside = _statistics(1, 4, pairs=3)
    before = likelihood_ratios(inside, outside, 0.01)
    strange = inside.copy()
    strange[1, 2] += 100
    after = likelihood_ratios(strange, outside, 0.01)
    assert after[1][1, 2] == before[1][1, 2]  # its couple is scored as before
    assert after[0][1, 2] != before[0][1, 2]
    others = np.array([0, 1, 3])
    for one, two in zip(before, after, strict=True):
        assert (one[1, others] != two[1, others]).all()
        assert (one[[0, 2]] == two[[0, 2]]).all()


def test_the_floor_bounds_what_a_few_equal_values_claim():
    inside, outside = np.full((1, 4), 22.0), np.full((1, 4), 20.0)
    members, non_members = likelihood_ratios(inside, outside, 1.0)
    assert members == pytest.approx(np.full((1, 4), 2.0)) and non_members == pytest.approx(np.full((1, 4), -2.0))
    members, _ = likelihood_ratios(inside, outside, 0.1)
    assert members == pytest.approx(np.full((1, 4), 200.0))


def test_every_pair_is_in_one_network_of_each_couple():
    settings = ShadowSettings(shadows=8, pairs=10)
    halves = split(settings)
    assert [len(half) for half in halves] == [5] * 8
    for first in range(0, 8, 2):
        assert sorted(halves[first] + halves[first + 1]) == list(range(10))
    assert split(settings) == halves != split(ShadowSettings(shadows=8, pairs=10, seed=1))
    assert split(ShadowSettings(shadows=6, pairs=10)) == halves[:6]  # more networks add to those that are there
    for wrong in ({'shadows': 7}, {'shadows': 4}, {'pairs': 9}):
        with pytest.raises(InputError, match='even'):
            ShadowSettings(**wrong)


def test_the_interval_draws_whole_pairs():
    rng = np.random.default_rng(0)
    of_pair = rng.normal(0, 1, (20, 1))  # all scores of a pair are one and the same
    members, non_members = np.repeat(of_pair + 0.5, 50, 1), np.repeat(of_pair[::-1], 50, 1)
    low, high = interval(roc.auc, members, non_members, 0)
    flat = roc.bootstrap(roc.auc, members, non_members, 0)
    assert low < roc.auc(members, non_members) < high
    assert high - low > 3 * (flat[1] - flat[0])
    assert [low, high] == interval(roc.auc, members, non_members, 0) != interval(roc.auc, members, non_members, 1)


@pytest.mark.parametrize(
    'before, after, oracle, share',
    [
        (20, 21, 22, 0.5),
        (20, 22, 22, 1),
        (20, 19, 22, -0.5),
        (20, 23, 22, 1.5),
        (20, 20, 20.2, None),
        (22, 21, 20, None),
    ],
)
def test_the_share_of_the_damage_that_was_undone(before, after, oracle, share):
    found = undone(before, after, oracle)
    assert found['undone'] == share and ('not informative' in found.get('remark', '')) == (share is None)
    assert found['damage'] == oracle - before


def test_drawn_pairs_are_always_the_same_and_survive_as_files(tmp_path):
    lq, gt = toy.draw(HAZE)
    again = toy.draw({**HAZE, 'scenes': 2, 'first_scene': 6})
    assert lq.shape == (3, 3, 32, 32) and torch.equal(lq[1:], again[0]) and torch.equal(gt[1:], again[1])
    wrong = toy.draw({**HAZE, 'answers': 50})
    assert torch.equal(wrong[0], lq) and torch.equal(wrong[1], toy.draw(RAIN)[1])
    toy.write_pairs({'of other settings': [lq[0], gt[0]]}, str(tmp_path))
    source = build_source('x', toy.write_pairs({f'{i}': [lq[i], gt[i]] for i in range(3)}, str(tmp_path)))
    assert len(source) == 3
    for number in range(3):
        read = source.read(number, np.random.default_rng(0), 32)[:2]
        for image, written in zip(read, (lq, gt), strict=True):
            assert torch.equal(torch.tensor(image[..., ::-1].copy()).permute(2, 0, 1), written[number])


def test_a_toy_repeats_and_learns_its_own_pairs_alone(tmp_path):
    job = {'sets': {'haze': HAZE, 'rain': RAIN}, 'train': {'haze': [0, 2]}, 'steps': 12, 'seed': 4, 'key': 'a'}
    first = toy.toy_train({**job, 'folder': str(tmp_path / 'one')})
    second = toy.toy_train({**job, 'folder': str(tmp_path / 'two')})
    others = toy.toy_train({**job, 'folder': str(tmp_path / 'two'), 'train': {'haze': [0, 1]}, 'key': 'b'})
    assert first['psnr'] == second['psnr'] != others['psnr']
    weights = [torch.load(found['weights'])['params'] for found in (first, second)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert sum(value.numel() for value in weights[0].values()) <= 100_000
    assert len(first['psnr']['rain']) == 3
    for name in ('haze', 'rain'):
        assert np.allclose(first['psnr'][name], -10 * np.log10(first['mse'][name]), atol=1e-3)


def test_every_pair_is_seen_once_before_any_comes_again():
    seen = [index for batch in toy._batches(12, 9, 0) for index in batch]
    assert len(seen) == 72 and [sorted(seen[i : i + 12]) for i in range(0, 72, 12)] == [list(range(12))] * 6


def test_what_is_kept_of_an_option_tree(tree):
    before = copy.deepcopy(tree)
    found = adapt(tree, 300, 7, LEVEL)
    assert tree == before
    assert found['train'] == {**tree['train'], 'stop': {**tree['train']['stop'], 'max_cost_share': None}}
    data = found['datasets']['train']
    assert data['retain'] == {
        'rain': {'weight': 1, 'target': 'original'},
        'noise': {'weight': 3, 'target': 'original'},
    }
    assert (data['batch_size_per_gpu'], found['manual_seed'], found['network_g']) == (2, 7, toy.NET)
    short = adapt(tree, 35, 7, LEVEL)['train']
    assert (short['total_iter'], short['stop']['every'], short['scheduler']['periods']) == (35, 5, [35])


def test_levels_that_are_numbers_become_those_of_the_toy(tree):
    train = tree['train']
    train['method'] = {'type': 'SalUn', 'task': 'instance', 'host': {'type': 'NegGrad'}}
    train['method']['host']['forget_opt'] = {'type': 'AscentLoss', 'bound': 0.3}
    train['stop']['forget_psnr_below'] = 31.0
    tree['datasets']['train']['retain'] = {'rain': {'from': 'forget', 'degradation': {'type': 'rain'}}}
    found = adapt(tree, 300, 0, LEVEL)
    assert found['train']['stop']['forget_psnr_below'] == 17.5
    for level, expected in (('heldout', 17.5), (None, None)):  # toys have no held-out pairs; ~ stays what it is
        train['stop']['forget_psnr_below'] = level
        assert adapt(tree, 300, 0, LEVEL)['train']['stop']['forget_psnr_below'] == expected
    del train['stop']['forget_psnr_below']
    assert adapt(tree, 300, 0, LEVEL)['train']['stop']['forget_psnr_below'] == 17.5
    assert found['train']['method']['host']['forget_opt']['bound'] == 0.1
    assert found['datasets']['train']['retain'] == tree['datasets']['train']['retain']
    train['method']['host']['forget_opt'].update(criterion='MSE')
    assert adapt(tree, 300, 0, LEVEL)['train']['method']['host']['forget_opt']['bound'] == 0.02
    train['method'].update(task='degradation')
    train['method']['host']['forget_opt'].update(bound='input')
    train['stop']['forget_psnr_below'] = 'input+0.2'
    found = adapt(tree, 300, 0, LEVEL)['train']
    assert found['stop']['forget_psnr_below'] == 'input+0.2'
    assert found['method']['host']['forget_opt']['bound'] == 'input'


class Answers:
    """A pool that trains nothing: members are restored 5 dB better, until they are unlearned."""

    folder = 'audits/x/jobs'

    def __init__(self, fails=False):
        self.jobs, self.fails = {}, fails

    def run(self, jobs, title):
        return {job['key']: getattr(self, job['kind'])(job) for job in jobs}

    def toy_train(self, job):
        self.jobs[job['key']] = job
        return self.answer(job, job['train'], 5)

    def toy_unlearn(self, job):
        if self.fails:
            raise InputError('it does not')
        self.jobs[job['key']] = job
        return {**self.answer(job, job['retain'], 5), 'stopped_by': 'total_iter'}

    def answer(self, job, train, gain):
        rng, psnr = np.random.default_rng(len(self.jobs)), {}
        for name, section in job['sets'].items():
            member = np.isin(np.arange(section['scenes']), train.get(name, []))
            psnr[name] = (20 + gain * member + rng.normal(0, 1, section['scenes'])).tolist()
        return {'weights': f'{job["key"]}.pth', 'sha256': '0', 'psnr': psnr, 'l1': psnr, 'mse': psnr}


def test_a_perfect_method_leaves_nothing_of_what_lira_saw(tree):
    tree['train']['method']['task'] = 'instance'
    tree['train']['stop']['forget_psnr_below'] = 31
    pool, settings = Answers(), ShadowSettings(shadows=8, pairs=40)
    found = shadows(pool, tree, settings)
    assert found['lira']['auc'] > 0.98 and found['lira']['tpr_1'] > 0.5
    for attack in ('u_lira', 'u_lira_unlearned'):
        low, high = found[attack]['interval']
        assert low < found[attack]['auc'] < high and found[attack]['auc'] == pytest.approx(0.5, abs=0.1)
        assert len(found[attack]['roc']['fpr']) <= 100
    assert found['stopped_by'] == {'total_iter': 8} and found['shadows'] == 8
    assert found['psnr'] == pytest.approx(dict(members=25, non_members=20, forgotten=20, never_seen=20), abs=0.3)
    training, unlearning = pool.jobs['shadow-3-s0'], pool.jobs['shadow-3-s0-unlearned']
    assert unlearning['forget'] == {'pairs': split(settings)[3]} == {'pairs': training['train']['pairs']}
    assert set(unlearning['retain']) == {'kept_rain', 'kept_haze'}
    assert unlearning['tree']['train']['stop']['forget_psnr_below'] == pytest.approx(20, abs=1)  # non-members
    assert json.loads(json.dumps(found)) == found


def test_haze_is_kept_unless_it_is_forgotten_as_a_whole_and_a_method_that_cannot_run_says_so(tree):
    pool = Answers(fails=True)
    found = shadows(pool, tree, ShadowSettings(shadows=6, pairs=20))
    assert set(pool.jobs['shadow-0-s0']['sets']) == {'pairs', 'kept_rain'}
    assert found['lira']['auc'] > 0.9
    assert found['u_lira'] == {'missing': 'the method does not run on the toy: it does not'}
    assert confusion(pool, tree, ConfusionSettings()) == found['u_lira']


def test_confusion_forgets_the_wrong_pairs_and_keeps_the_right_ones(tree):
    pool = Answers()
    found = confusion(pool, tree, ConfusionSettings(pairs=4, wrong=5, tests=6))
    confused, oracle, job = (pool.jobs[f'confusion-{name}-s0'] for name in ('confused', 'oracle', 'unlearned'))
    assert set(confused['train']) - set(oracle['train']) == set(job['forget']) == {'wrong_haze', 'wrong_rain'}
    assert job['retain'] == oracle['train'] == {'haze': [0, 1, 2, 3], 'rain': [0, 1, 2, 3]}
    assert confused['seed'] == oracle['seed']
    taught = {name: toy.draw(section)[1] for name, section in job['sets'].items()}
    right = {name: toy.draw({**job['sets'][name], 'answers': None})[1] for name in job['forget']}
    assert torch.equal(taught['wrong_haze'], right['wrong_rain'])
    assert torch.equal(taught['wrong_rain'], right['wrong_haze'])
    numbers = [section['first_scene'] for section in job['sets'].values()]
    assert len(set(numbers)) == len(numbers)
    for kind in ('haze', 'rain'):
        assert found['degradations'][kind]['after'] == pytest.approx(20, abs=2)


def _without_files(tree, **method):
    """Return a tree that has only what audits on the toy may use."""
    train = {**tree['train'], 'total_iter': 4, 'method': {**tree['train']['method'], **method}}
    return {'train': train, 'datasets': {'train': tree['datasets']['train']}}


@pytest.mark.slow
def test_whole_audits_on_tiny_toys_repeat_and_do_nothing_twice(tmp_path, tree):
    tree = _without_files(tree)
    run = partial(shadows, tree=tree, settings=ShadowSettings(shadows=6, pairs=8, kept=2, steps=8))
    confuse = partial(confusion, tree=tree, settings=ConfusionSettings(pairs=3, wrong=3, tests=2, steps=8))
    with Pool(str(tmp_path / 'one'), KINDS, 2) as pool:
        found, confused = run(pool), confuse(pool)
        written = {path: path.stat().st_mtime_ns for path in (tmp_path / 'one/jobs').iterdir()}
        assert len(written) == 6 + 6 + 3
    again = SimpleNamespace(folder=str(tmp_path / 'one/jobs'), run=Pool(str(tmp_path / 'one'), {}).run)
    assert (run(again), confuse(again)) == (found, confused)  # without processes
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / 'one/jobs').iterdir()}
    with Pool(str(tmp_path / 'two'), KINDS, 1) as pool:
        assert confuse(pool) == confused
    options = yaml.safe_load((tmp_path / 'one/runs/shadow-0-s0-unlearned.yml').read_text())
    assert len(os.listdir(options['datasets']['train']['forget']['dataroot_lq'])) == 4


@pytest.mark.slow
def test_a_method_that_needs_what_the_toy_lacks_is_named(tmp_path, tree):
    tree = _without_files(tree, type='DeepForget', reset=['prompt1'])
    with Pool(str(tmp_path), KINDS, 1) as pool:
        found = confusion(pool, tree, ConfusionSettings(pairs=2, wrong=2, tests=2, steps=2))
    assert 'prompt1 matches no module' in found['missing']
