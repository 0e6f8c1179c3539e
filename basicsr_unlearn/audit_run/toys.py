"""The audits that judge no network of the user's: reconstruction from two checkpoints, and the method on toys."""

import math

from basicsr_unlearn.audits.confusion import ConfusionSettings, confusion
from basicsr_unlearn.audits.informed import informed
from basicsr_unlearn.audits.inversion import inversion
from basicsr_unlearn.audits.shadows import KINDS as TOYS
from basicsr_unlearn.audits.shadows import ShadowSettings, shadows
from basicsr_unlearn.audits.subjects import SourcePairs, device, load

QUICK = 'Left out by --quick: it trains networks of its own. Run basicsr audit without it.'
NONE = 'Left out by audit: shadows: 0.'
PIXELS, CHOICE = 16, 16  # of the pictures that are drawn out of a difference; how many crops one is chosen from


def invert(job):
    """Draw a few forget pictures out of the difference of two checkpoints of the user's network."""
    net = load(job)
    multiple = getattr(net, 'size_multiple', getattr(net, 'window_size', 1))
    size = math.ceil(PIXELS / multiple) * multiple
    samples = SourcePairs('datasets: train: forget', job['forget'], CHOICE * job['pairs'], size, job['seed'])
    items = sorted((samples[number] for number in range(len(samples))), key=lambda item: float(item['lq'].std()))
    chosen = items[-job['pairs'] :]  # flat ones would be known without any attack
    pairs = [tuple(item[key].unsqueeze(0).to(device()) for key in ('lq', 'gt')) for item in chosen]
    return inversion(net, pairs, steps=job['steps'], seed=job['seed'])[0]


def inform(job):
    """Draw a training picture out of the weights of a toy, knowing all others."""
    return informed(job['shadows'], seed=job['seed'])[0]


KINDS = {**TOYS, 'invert': invert, 'inform': inform}


def jobs(course):
    """Return the jobs of both reconstructions, `{(audit, net, part): job}`."""
    original, quick = course.nets['original'], course.subject.quick
    pairs, steps = 2 if quick else 3, min(300, 5 * course.depth.steps)
    facts = {'forget': course.subject.forget, 'pairs': pairs, 'steps': steps}
    inverting = course.job('invert', original, 5 * pairs * steps, **facts)
    informing = course.job('inform', None, 200 if quick else 600, shadows=500 if quick else 1500)
    return {
        ('reconstruction', 'original', 'inversion'): inverting,
        ('reconstruction', 'original', 'informed'): informing,
    }


def run(course):
    """Return `shadows` and `confusion` of audit.json."""
    if course.subject.quick:
        return {'shadows': {'missing': QUICK}, 'confusion': {'missing': QUICK}}
    tree, seed, number = course.subject.opt, course.options.seed, course.options.shadows
    found = {'confusion': confusion(course.pool, tree, ConfusionSettings(seed=seed))}
    if not number:
        return {**found, 'shadows': {'missing': NONE}}
    return {**found, 'shadows': shadows(course.pool, tree, ShadowSettings(shadows=number, seed=seed))}
