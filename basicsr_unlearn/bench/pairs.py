"""The depth of forgotten single pairs: whether an attacker can tell them from pairs that were never trained on."""

from functools import cached_property

from basicsr_unlearn import checkpoint
from basicsr_unlearn.audits.membership import membership
from basicsr_unlearn.bench.table import Table, mean

PAIRS, DIFFICULTY = 'pairs', 'difficulty'  # what the results of the jobs are called
PER_AUC = 10.0  # dB that an AUC of 1 beyond the goal counts in `shortfall`


def attacks(course, net, split, stage):
    """Return the jobs that measure a network, and the reference, on the forget set and on held-out pairs."""
    bench = course.bench
    job = course.looking_job(net, split, bench.membership.images)
    train = course.opt['datasets']['train']
    facts = {
        **{key: job[key] for key in ('opt', 'images')},
        'kind': 'restore_pairs',
        'sources': {'members': train['forget'], 'non_members': bench.membership.heldout[split]},
        'size': train['gt_size'],
        'crop': max(bench.options.crop, train['gt_size']),
        'seed': 0,
        'cost': 2 * (bench.membership.images or 1000),
    }
    own = {key: job[key] for key in ('weights', 'sha256', 'param_key', 'strict')}
    return {
        PAIRS: {**facts, **own, 'key': f'pairs-{net}-{split}'},
        DIFFICULTY: {**facts, **_reference(bench), 'key': f'difficulty-{split}'},
    }


def _reference(bench):
    weights = bench.membership.reference
    sha256 = checkpoint.sha256(checkpoint.resolve(weights)) if weights else None
    return {'weights': weights, 'sha256': sha256, 'param_key': 'params', 'strict': True}


class PairTable(Table):
    """Numbers of networks whose attack is membership inference, calibrated by the difficulty of each pair."""

    def depth(self, nets):
        """Return AUC, TPR at 1 % FPR and gap of the calibrated attack with their 95 % intervals, and the oracle's.

        Returns:
            dict: `members`, `others` (mean PSNR, dB), `gap`, `auc`, `tpr_1` (means over the networks), `auc_loss`
            (without calibration), `gap_interval`, `auc_interval`, `tpr_1_interval` (means of their ends),
            `gap_to_oracle`, `auc_to_oracle` (means of the distances), `roc` (of the first network).
        """
        found, oracle = [self._attack(net) for net in nets], self._oracle
        psnr = [self.results[net, PAIRS] for net in nets]
        return {
            'members': mean([mean(one['members']) for one in psnr]),
            'others': mean([mean(one['non_members']) for one in psnr]),
            'gap': mean([one['gap'] for one in found]),
            'gap_interval': _ends([one['gap_interval'] for one in found]),
            'auc': mean([one['calibrated']['auc'] for one in found]),
            'auc_interval': _ends([one['calibrated']['interval'] for one in found]),
            'auc_loss': mean([one['loss']['auc'] for one in found]),
            'tpr_1': mean([one['calibrated']['tpr_1'] for one in found]),
            'tpr_1_interval': _ends([one['calibrated']['tpr_1_interval'] for one in found]),
            'gap_to_oracle': oracle and mean([abs(one['gap'] - oracle['gap']) for one in found]),
            'auc_to_oracle': oracle
            and mean([abs(one['calibrated']['auc'] - oracle['calibrated']['auc']) for one in found]),
            'roc': found[0]['roc'],
        }

    def missed(self, found):
        pairs = (
            (found['gap_to_oracle'], self.goals.gap, 1.0),
            (found['auc_to_oracle'], self.goals.auc, PER_AUC),
        )
        return [scale * max(0.0, value - goal) for value, goal, scale in pairs if value is not None]

    @cached_property
    def _oracle(self):
        return self._attack('oracle') if self.has_oracle else None

    def _attack(self, net):
        psnr, difficulty = self.results[net, PAIRS], self.results[net, DIFFICULTY]
        return membership(*({'psnr': psnr[key], 'difficulty': difficulty[key]} for key in ('members', 'non_members')))


def _ends(intervals):
    """Return the means of the lower and of the upper ends."""
    known = [interval for interval in intervals if interval]
    return [mean(ends) for ends in zip(*known, strict=True)] or None
