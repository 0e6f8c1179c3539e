"""How alike two networks see the same pictures, level by level: centred kernel alignment."""

import torch

from basicsr_unlearn.audits.subjects import device
from basicsr_unlearn.methods.taps import LEVELS, find_modules, tapped
from basicsr_unlearn.models.inference import measuring

GRID = 4  # places of a picture, in each direction
ALL_LEVELS = (*LEVELS, r'decoder_level\d', r'decoders\.\d+', 'refinement')


def similarity(net, other, images, modules=None):
    """Compare the features of two networks. Needs nothing else; what two trainings of one recipe have says what is far.

    Source: Kornblith et al., Similarity of Neural Network Representations Revisited (ICML 2019): linear CKA. Samples
    are the 16 places of a 4x4 grid of each picture.

    Args:
        net, other (nn.Module): Restorers of one architecture; left as they are.
        images (list[Tensor]): (1, 3, H, W) in [0, 1] each.
        modules (list[str]): Patterns of module names. Default: the levels of encoder and decoder, and the latent.

    Returns:
        dict: `{module: CKA in [0, 1]}`.
    """
    ours, theirs = (_features(one, images, modules) for one in (net, other))
    return {name: linear_cka(ours[name], theirs[name]) for name in ours}


def _features(net, images, modules):
    rows = {}
    chosen = find_modules(net, modules, 'audit: similarity', ALL_LEVELS)
    with measuring(net):
        for image in images:
            with tapped(chosen, 'audit: similarity') as features:
                net(image.to(device()))
            for name, value in features.items():
                pooled = torch.nn.functional.adaptive_avg_pool2d(value, GRID)
                rows.setdefault(name, []).append(pooled.flatten(2).transpose(1, 2).flatten(0, 1))
    return {name: torch.cat(parts).double() for name, parts in rows.items()}


def linear_cka(x, y):
    """Return the linear CKA of features (samples, channels) of two networks."""
    x, y = x - x.mean(0), y - y.mean(0)
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return float((x.T @ y).square().sum() / scale.clamp_min(1e-12))
