"""Membership inference: can one tell the pairs that a network was trained on from pairs of the same kind?"""

from functools import partial

import numpy as np

from basicsr_unlearn.audits.behaviour import psnr
from basicsr_unlearn.audits.roc import auc, bootstrap, roc, thin, tpr_at
from basicsr_unlearn.audits.subjects import Crops, SourcePairs, answer, device, load
from basicsr_unlearn.options import tile_options

LEAST = {0.01: 100, 0.001: 1000}  # non-members without which such a false positive rate cannot be seen


def membership(members, non_members, seed=0):
    """Attack one network by how well it restores pairs. Needs pairs of the same kind that were never trained on.

    Source: Shafran et al. (arXiv 2102.07762) for the calibration by the difficulty of a pair; Carlini et al. (arXiv
    2112.03570) for looking at low false positive rates.

    Args:
        members, non_members (dict): `psnr`: of the network, a number for each pair, dB; `difficulty`: what a reference
            says of the same pairs: the PSNR of a network that saw none of them, or that of the degraded picture.
        seed (int): Of the bootstrap. Default: 0.

    Returns:
        dict: `loss` and `calibrated` (PSNR less the difficulty), each `{auc, interval, tpr_1, tpr_1_interval, tpr_01}`
        (TPR at 1 % and 0.1 % FPR; None where there are too few non-members; intervals of 95 %), and `roc` of the
        calibrated one; `gap`: calibrated PSNR of members less that of non-members, dB, and its `gap_interval`.
    """
    scores = {
        'loss': [np.array(part['psnr']) for part in (members, non_members)],
        'calibrated': [np.array(part['psnr']) - np.array(part['difficulty']) for part in (members, non_members)],
    }
    found = {name: _attack(*pair, seed) for name, pair in scores.items()}
    calibrated = scores['calibrated']
    return {
        **found,
        'roc': thin(*roc(*calibrated)),
        'gap': _gap(*calibrated),
        'gap_interval': bootstrap(_gap, *calibrated, seed),
    }


def _attack(members, non_members, seed):
    found = {'auc': auc(members, non_members), 'interval': bootstrap(auc, members, non_members, seed)}
    at_1, at_01 = (_tpr(members, non_members, rate) for rate in LEAST)
    interval = None if at_1 is None else bootstrap(partial(tpr_at, fpr=0.01), members, non_members, seed)
    return {**found, 'tpr_1': at_1, 'tpr_1_interval': interval, 'tpr_01': at_01}


def _tpr(members, non_members, rate):
    return tpr_at(members, non_members, rate) if len(non_members) >= LEAST[rate] else None


def _gap(members, non_members):
    return float(np.mean(members) - np.mean(non_members))


def restore_pairs(job):
    """Measure how well a network restores pairs of sources; a job of audits and benchmarks.

    Args:
        job (dict): `sources` (`{name: section}`), `images` of each at most, `size` of drawn scenes and `crop` of all in
            pixels, `seed`, and the network as `subjects.load` takes it; `weights: ~`: the degraded picture itself.

    Returns:
        dict: For each of `job['sources']` a list of PSNR in dB, a number for each pair.
    """
    net, tiles, found = load(job) if job['weights'] else None, tile_options(job['opt']), {}
    for name, section in job['sources'].items():
        found[name] = []
        pairs = SourcePairs(name, section, None, job['size'] if 'scenes' in section else None, job['seed'])
        for item in Crops(pairs, job['images'], job['crop']):
            lq, gt = (item[key].unsqueeze(0).to(device()) for key in ('lq', 'gt'))
            found[name].append(psnr(lq if net is None else answer(net, lq, tiles), gt))
    return found
