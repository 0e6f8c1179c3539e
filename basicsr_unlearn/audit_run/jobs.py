"""The work of an audit: from a description that travels to another process to numbers."""

from contextlib import contextmanager
from os import path as osp

from basicsr_unlearn.audits.behaviour import behaviour
from basicsr_unlearn.audits.membership import restore_pairs
from basicsr_unlearn.audits.probe import probe
from basicsr_unlearn.audits.robustness import robustness
from basicsr_unlearn.audits.similarity import similarity
from basicsr_unlearn.audits.subjects import SourcePairs, attack, load, open_set, pairs_of
from basicsr_unlearn.audits.swap import swap
from basicsr_unlearn.checkpoint import fingerprint
from basicsr_unlearn.data.pairing import stem_of
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import hashed, tile_options


@contextmanager
def untouched(*nets):
    """Raise RuntimeError where an audit has changed a network that it was given."""
    before = [fingerprint(net.state_dict()) for net in nets]
    yield
    if before != [fingerprint(net.state_dict()) for net in nets]:
        raise RuntimeError('an audit has changed a network that it was given: a fault of this package')


def look(job):
    """Audit the behaviour of a network on one validation set.

    Returns:
        dict: What `behaviour` gives; the names of the pictures are hashed where they are private.
    """
    net = load(job) if job['weights'] else None
    oracle = load(job, job['oracle']) if job['oracle'] else None
    crops = open_set(job['name'], job['section'], job)
    with untouched(*filter(None, (net, oracle))):
        found = behaviour(net, oracle, crops, tile_options(job['opt']))
    names = map(osp.basename, found['images'])
    return {**found, 'images': [hashed(name) if job['private'] else stem_of(name) for name in names]}


def hidden(job):
    """Look for what is left inside a network: halves exchanged, similarity, linear probe.

    Returns:
        dict: `swap`, `similarity` (`to_original` and, with an oracle, `to_oracle`), `probe` (None without public data).
    """
    net, original = load(job), load(job, job['original'])
    oracle = load(job, job['oracle']) if job['oracle'] else None
    pairs, tiles = pairs_of(job['sets'], job, 'forget'), tile_options(job['opt'])
    images = [patch(lq, job['patch']) for lq, _ in pairs]
    with untouched(*filter(None, (net, original, oracle))):
        found = {'swap': swap(net, original, pairs, tiles, job['encoder']), 'probe': None}
        others = {'to_original': original, 'to_oracle': oracle}
        found['similarity'] = {name: similarity(net, one, images) for name, one in others.items() if one}
        if job['public']:
            samples = SourcePairs('audit: public', job['public'], job['probes'], job['patch'], job['seed'])
            items = [samples[number] for number in range(len(samples))]
            chosen = [(item['lq'].unsqueeze(0), item['gt'].unsqueeze(0)) for item in items]
            found['probe'] = probe(net, chosen, [item['lq_path'] for item in items], job['latent'])
    return found


def patch(image, size):
    """Return the centre of (1, 3, H, W), `size` pixels each way; InputError where it is smaller."""
    height, width = image.shape[-2:]
    if min(height, width) < size:
        raise InputError(
            f'audit: a validation image has {width}x{height} pixels, fewer than gt_size: {size}. Take it out.'
        )
    top, left = (height - size) // 2, (width - size) // 2
    return image[..., top : top + size, left : left + size]


def harden(job):
    """Audit how brittle a network is on the retained sets."""
    pairs = [tuple(patch(x, job['patch']) for x in pair) for pair in pairs_of(job['sets'], job, 'retain')]
    net = load(job)
    with untouched(net):
        return robustness(net, pairs, job['eps'], job['sigmas'], job['seed'])


KINDS = {'look': look, 'hidden': hidden, 'restore_pairs': restore_pairs, 'harden': harden, 'attack': attack}
