"""How well a score tells members from non-members: the higher it is, the more like a member."""

import numpy as np


def roc(members, non_members):
    """Return the false and the true positive rates at every threshold, from (0, 0) to (1, 1).

    Args:
        members (sequence[float]): Scores of what a network was trained on.
        non_members (sequence[float]): Scores of what it never saw.

    Returns:
        tuple[ndarray]: FPR and TPR, both rising; equal scores are one step.
    """
    members, non_members = _scores(members), _scores(non_members)
    thresholds = np.unique(np.concatenate([members, non_members]))[::-1]
    above = [len(scores) - np.searchsorted(np.sort(scores), thresholds) for scores in (non_members, members)]
    return tuple(np.concatenate([[0], count]) / count[-1] for count in above)


def thin(fpr, tpr, points=100):
    """Return at most so many points of a curve, spread evenly along it, for a record: `{fpr: [...], tpr: [...]}`."""
    way = fpr + tpr
    chosen = np.unique(np.searchsorted(way, np.linspace(0, way[-1], points)).clip(max=len(way) - 1))
    return {'fpr': [round(float(x), 5) for x in fpr[chosen]], 'tpr': [round(float(x), 5) for x in tpr[chosen]]}


def auc(members, non_members):
    """Return the chance that a member scores above a non-member; equal scores count half."""
    members, non_members = _scores(members), np.sort(_scores(non_members))
    below = np.searchsorted(non_members, members, 'left') + np.searchsorted(non_members, members, 'right')
    return float(below.mean() / (2 * len(non_members)))


def tpr_at(members, non_members, fpr):
    """Return the highest true positive rate at which the false positive rate is at most `fpr`."""
    false, true = roc(members, non_members)
    return float(true[false <= fpr].max())


def bootstrap(statistic, members, non_members, seed, draws=1000):
    """Return the 95 % interval of a statistic, drawing members and non-members anew with replacement.

    Args:
        statistic (callable): `(members, non_members)` to a number, for example `auc`.
        members, non_members (sequence[float]): Scores.
        seed (int): Of the draws.
        draws (int): How many. Default: 1000.

    Returns:
        tuple[float]: The 2.5 % and 97.5 % quantiles.
    """
    rng, members, non_members = np.random.default_rng(seed), _scores(members), _scores(non_members)
    found = [statistic(*(rng.choice(scores, len(scores)) for scores in (members, non_members))) for _ in range(draws)]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _scores(values):
    values = np.asarray(values, float).ravel()
    if not len(values) or np.isnan(values).any():
        raise ValueError(f'{len(values)} scores, {int(np.isnan(values).sum())} of them not a number')
    return values
