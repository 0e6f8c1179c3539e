"""Membership by shadow networks, before and after unlearning: the strongest attack known, on the toy."""

from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np

from basicsr_unlearn.audits import roc, toy
from basicsr_unlearn.audits.toy_options import adapt
from basicsr_unlearn.errors import InputError

KINDS = toy.KINDS
HAZE, RAIN = {'type': 'haze'}, {'type': 'rain'}


@dataclass
class ShadowSettings:
    """How many shadow networks, and what they are trained on."""

    shadows: int = 16  # networks, an even number
    pairs: int = 48  # whose membership is asked, haze, an even number; half of them in each network
    kept: int = 8  # pairs of each kind that every network is trained on, and keeps
    steps: int = 400  # of a training
    iterations: int = 300  # of an unlearning at most
    floor: float = 0.1  # least standard deviation of a Gaussian, dB
    seed: int = 0

    def __post_init__(self):
        if self.shadows < 6 or self.shadows % 2:
            raise InputError(f'audit: shadows: {self.shadows} must be an even number of networks from 6 on.')
        if self.pairs < 2 or self.pairs % 2:
            raise InputError(f'audit: pairs: {self.pairs} must be an even number.')


def shadows(pool, tree, settings):
    """Attack the toy by LiRA, and what the user's method makes of it by U-LiRA.

    Source: LiRA of Carlini et al., Membership Inference Attacks From First Principles (arXiv 2112.03570); U-LiRA of
    Hayes et al., Inexact Unlearning Needs More Careful Evaluations (arXiv 2403.01218). The statistic is the PSNR of a
    pair, ours. Networks come in couples: a random half of the pairs in the one, the other half in the other, so that
    every pair is in exactly half of the networks, and in one of each couple. The forget set of a network is its half of
    the pairs. What stays is in every network: rain, and unless a whole degradation is forgotten more haze.

    It needs neither the user's data nor an oracle.

    Args:
        pool (Pool): Does the work; knows KINDS.
        tree (dict): The user's option tree, of which `toy_options.adapt` says what is used. Never changed.
        settings (ShadowSettings): As above.

    Returns:
        dict: `shadows` (number), `psnr` (means in dB: `members`, `non_members`, and of the unlearned networks
        `forgotten`, `never_seen`), `stopped_by` (`{rule: runs}`), and three attacks, each as `judge` gives it:
        `lira`: member or not, of networks that unlearned nothing.
        `u_lira`: forgotten, in unlearned networks, or never seen, in networks that unlearned nothing. Not to be told
        apart is what unlearning promises (0.5); a method that makes a whole degradation unrestored is told apart
        whatever the pair.
        `u_lira_unlearned`: forgotten or never seen, both in unlearned networks: whether a network that is handed out
        tells what it was made to forget.
        Networks trained without the pairs are the other side of `u_lira` themselves: 0.5 by construction. Where the
        method cannot run, the last two are `{'missing': reason}`.
    """
    sets, halves = _sets(settings, tree['train']['method'].get('task', 'degradation')), split(settings)
    jobs = [_training(pool, settings, sets, number, half) for number, half in enumerate(halves)]
    trained = pool.run(jobs, 'shadow networks')
    originals = [trained[job['key']] for job in jobs]
    before = _statistics(originals, halves)
    found = {'shadows': settings.shadows, 'psnr': {'members': _mean(before[0]), 'non_members': _mean(before[1])}}
    found['lira'] = judge(*before, settings)
    jobs = [_unlearning(job, original, tree, settings) for job, original in zip(jobs, originals, strict=True)]
    try:
        runs = pool.run(jobs, 'unlearning of the shadow networks')
    except InputError as error:
        missing = {'missing': f'the method does not run on the toy: {error}'}
        return {**found, 'u_lira': missing, 'u_lira_unlearned': missing}
    runs = [runs[job['key']] for job in jobs]
    after = _statistics(runs, halves)
    found['psnr'].update(forgotten=_mean(after[0]), never_seen=_mean(after[1]))
    found['stopped_by'] = dict(Counter(run['stopped_by'] for run in runs))
    found['u_lira'] = judge(after[0], before[1], settings)
    found['u_lira_unlearned'] = judge(*after, settings)
    return found


def _sets(settings, task):
    kept = {'kept_rain': {'scenes': settings.kept, 'first_scene': 20000, 'degradation': RAIN}}
    if task != 'degradation':
        kept['kept_haze'] = {'scenes': settings.kept, 'first_scene': 10000, 'degradation': HAZE}
    return {'pairs': {'scenes': settings.pairs, 'first_scene': 0, 'degradation': HAZE}, **kept}


def split(settings):
    """Return the indices of the pairs in each network; networks 2 c and 2 c + 1 have complementary halves."""
    rng, halves = np.random.default_rng(settings.seed), []
    for _ in range(settings.shadows // 2):
        order = rng.permutation(settings.pairs)
        halves += [sorted(half.tolist()) for half in np.split(order, 2)]
    return halves


def _training(pool, settings, sets, number, half):
    train = {**dict.fromkeys(sets), 'pairs': half}
    key, seed = f'shadow-{number}-s{settings.seed}', 1000 * settings.seed + number
    return toy.training_job(pool, key, sets, train, settings.steps, seed)


def _unlearning(job, original, tree, settings):
    never = [pair for pair in range(settings.pairs) if pair not in job['train']['pairs']]
    level = {key: float(np.mean([original[key]['pairs'][pair] for pair in never])) for key in ('psnr', 'l1', 'mse')}
    adapted = adapt(tree, settings.iterations, job['seed'], level)
    return toy.unlearning_job(job, original, f'{job["key"]}-unlearned', ['pairs'], adapted)


def _statistics(nets, halves):
    """Return PSNRs (pairs, couples): of the network of each couple that has the pair, and of the one that has not."""
    inside, outside = [], []
    for first in range(0, len(nets), 2):
        values = np.array([net['psnr']['pairs'] for net in nets[first : first + 2]])
        member = np.isin(np.arange(values.shape[1]), halves[first])
        inside.append(np.where(member, values[0], values[1]))
        outside.append(np.where(member, values[1], values[0]))
    return np.array(inside).T, np.array(outside).T


def judge(inside, outside, settings):
    """Return `auc`, `tpr_1` (TPR at 1 % FPR), their 95 % intervals (bootstrap over the pairs) and the `roc`."""
    members, non_members = likelihood_ratios(inside, outside, settings.floor)
    at_1 = partial(roc.tpr_at, fpr=0.01)
    return {
        'auc': roc.auc(members, non_members),
        'interval': interval(roc.auc, members, non_members, settings.seed),
        'tpr_1': at_1(members, non_members),
        'tpr_1_interval': interval(at_1, members, non_members, settings.seed),
        'roc': roc.thin(*roc.roc(members, non_members)),
    }


def likelihood_ratios(inside, outside, floor):
    """Score every network on every pair by Gaussians of the other networks.

    A network and its couple are left out of the fit that scores them, so that both sides are fitted on as many.

    Args:
        inside (ndarray): Statistic of networks with the pair, (pairs, couples).
        outside (ndarray): Of networks without, same shape.
        floor (float): Least standard deviation.

    Returns:
        tuple[ndarray]: log N(x; inside) - log N(x; outside) of each entry of both.
    """
    scores = [np.empty_like(side) for side in (inside, outside)]
    for couple in range(inside.shape[1]):
        fits = [_gaussian(np.delete(side, couple, 1), floor) for side in (inside, outside)]
        for side, score in zip((inside, outside), scores, strict=True):
            densities = [_log_density(side[:, couple], *fit) for fit in fits]
            score[:, couple] = densities[0] - densities[1]
    return tuple(scores)


def _gaussian(values, floor):
    return values.mean(1), np.maximum(values.std(1, ddof=1), floor)


def _log_density(x, mean, deviation):
    return -np.log(deviation) - ((x - mean) / deviation) ** 2 / 2


def interval(statistic, members, non_members, seed, draws=1000):
    """Return the 95 % interval of a statistic of scores (pairs, networks), drawing whole pairs anew."""
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(members), size=len(members)) for _ in range(draws))
    found = [statistic(members[chosen], non_members[chosen]) for chosen in drawn]
    return [float(limit) for limit in np.quantile(found, [0.025, 0.975])]


def _mean(values):
    return float(values.mean())
