"""ROC, AUC, TPR at a low FPR and bootstrap intervals, against counting by hand."""

from functools import partial
from statistics import NormalDist

import numpy as np
import pytest

from basicsr_unlearn.audits import roc


def _brute(members, non_members):
    """Return the ROC by counting at every threshold."""
    thresholds = sorted({*members, *non_members}, reverse=True)
    rates = [
        [sum(score >= threshold for score in scores) / len(scores) for threshold in [np.inf, *thresholds]]
        for scores in (non_members, members)
    ]
    return rates[0], rates[1]


@pytest.mark.parametrize('seed', range(5))
def test_roc_and_auc_are_those_of_counting(seed):
    rng = np.random.default_rng(seed)
    members, non_members = rng.integers(2, 12, 23).tolist(), rng.integers(0, 10, 17).tolist()  # many ties
    fpr, tpr = roc.roc(members, non_members)
    expected = _brute(members, non_members)
    np.testing.assert_allclose(fpr, expected[0], atol=1e-12)
    np.testing.assert_allclose(tpr, expected[1], atol=1e-12)
    pairs = [(m > n) + 0.5 * (m == n) for m in members for n in non_members]
    assert roc.auc(members, non_members) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert roc.auc(members, non_members) == pytest.approx(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2), abs=1e-12)
    limits = [0, 0.01, 0.3, 1]
    best = [max(t for f, t in zip(*expected, strict=True) if f <= limit) for limit in limits]
    assert [roc.tpr_at(members, non_members, limit) for limit in limits] == pytest.approx(best, abs=1e-12)


def test_the_extremes():
    assert roc.auc([3, 4], [1, 2]) == 1
    assert roc.auc([1, 2], [3, 4]) == 0
    assert roc.auc([5, 5], [5]) == 0.5
    assert roc.tpr_at([3, 4], [1, 2], 0) == 1
    assert roc.tpr_at([5, 5], [5], 0.5) == 0  # the one threshold that takes a member takes the non-member too
    assert roc.auc([np.inf, 1], [0]) == 1


def test_a_hundredth_is_reached_by_one_of_a_hundred():
    non_members = np.arange(100)
    members = [98.5] * 30 + [97.5] * 70
    assert roc.tpr_at(members, non_members, 0.01) == 0.3


def test_gaussian_scores_have_the_auc_of_theory():
    rng = np.random.default_rng(0)
    members, non_members = rng.normal(1, 1, 20000), rng.normal(0, 1, 20000)
    assert roc.auc(members, non_members) == pytest.approx(NormalDist().cdf(1 / 2**0.5), abs=0.01)
    assert roc.tpr_at(members, non_members, 0.01) == pytest.approx(NormalDist().cdf(1 - 2.3263), abs=0.01)


def test_the_interval_is_as_wide_as_fresh_scores_vary_and_that_of_its_seed():
    rng = np.random.default_rng(1)
    fresh = [(rng.normal(1, 1, 400), rng.normal(0, 1, 400)) for _ in range(400)]
    members, non_members = fresh[0]
    low, high = roc.bootstrap(roc.auc, members, non_members, 7)
    area = roc.auc(members, non_members)
    assert low < area < high
    spread = np.std([roc.auc(*scores) for scores in fresh])
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.2)
    assert roc.bootstrap(roc.auc, members, non_members, 7) == (low, high)
    assert roc.bootstrap(roc.auc, members, non_members, 8) != (low, high)
    assert roc.bootstrap(partial(roc.tpr_at, fpr=0.01), [1, 2], [0, 0.5], 0) == (1, 1)


def test_a_thin_curve_keeps_its_ends_and_its_points():
    rng = np.random.default_rng(2)
    fpr, tpr = roc.roc(rng.normal(1, 1, 700), rng.normal(0, 1, 900))
    curve = roc.thin(fpr, tpr)
    assert 90 <= len(curve['fpr']) <= 100
    assert (curve['fpr'][0], curve['tpr'][0], curve['fpr'][-1], curve['tpr'][-1]) == (0, 0, 1, 1)
    known = {(round(x, 5), round(y, 5)) for x, y in zip(fpr, tpr, strict=True)}
    assert known.issuperset(zip(curve['fpr'], curve['tpr'], strict=True))
    assert roc.thin(*roc.roc([2], [1])) == {'fpr': [0, 0, 1], 'tpr': [0, 1, 1]}


@pytest.mark.parametrize('scores', [[], [1, np.nan]])
def test_no_scores_and_no_number_are_errors(scores):
    for function in (roc.roc, roc.auc):
        with pytest.raises(ValueError, match='scores'):
            function(scores, [1])
        with pytest.raises(ValueError, match='scores'):
            function([1], scores)
