"""What the latent still says of the degradation: a linear probe for its type and its strength."""

import numpy as np
import torch

from basicsr_unlearn.audits.subjects import device
from basicsr_unlearn.methods.taps import find_modules, tapped
from basicsr_unlearn.models.inference import measuring

LATENT = ('latent', 'middle_blks')
FOLDS = 5
RIDGE = 1e-2  # of the mean eigenvalue of the features' covariance


def probe(net, pairs, groups, modules=None):
    """Read the degradation off the latent by ridge regression, cross-validated. Needs no oracle.

    Source: Alain and Bengio, Understanding intermediate layers using linear classifier probes (2016). A picture is
    described by the mean and standard deviation of each channel.

    Args:
        net (nn.Module): Restorer; left as it is.
        pairs (list): `(lq, gt)`, (1, 3, H, W) in [0, 1] each, all of one size that the net takes.
        groups (list): For each pair what must not be split between folds, such as its file.
        modules (list[str]): Patterns of module names. Default: the latent.

    Returns:
        dict: `type`: share of pictures told rightly to be degraded or clean (0.5 is chance); `strength`: share of the
        variance of mean |lq - gt| among the degraded ones that is explained, at least 0.
    """
    degraded, clean = (_features(net, torch.cat(images), modules) for images in zip(*pairs, strict=True))
    strength = np.array([float((lq - gt).abs().mean()) for lq, gt in pairs])
    folds = _folds(groups)
    labels = np.repeat([1.0, -1.0], len(pairs))
    told = _predict(np.concatenate([degraded, clean]), labels, np.tile(folds, 2))
    errors = strength - _predict(degraded, strength, folds)
    unexplained = np.square(errors).sum() / max(np.square(strength - strength.mean()).sum(), 1e-12)
    return {'type': float(((told >= 0) == (labels > 0)).mean()), 'strength': float(max(0.0, 1 - unexplained))}


def _features(net, images, modules, size=16):
    """Return (N, 2 C): mean and standard deviation of every channel of the chosen modules."""
    rows = []
    with measuring(net):
        for part in images.split(size):
            with tapped(find_modules(net, modules, 'audit: probe', LATENT), 'audit: probe') as features:
                net(part.to(device()))
            maps = [value.flatten(2) for value in features.values()]
            rows.append(torch.cat([x for m in maps for x in (m.mean(2), m.std(2))], 1).double().cpu())
    return torch.cat(rows).numpy()


def _folds(groups):
    """Return the fold of each sample; a group stays together."""
    known = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([known[group] % FOLDS for group in groups])


def _predict(features, targets, folds):
    """Return for each sample what a ridge regression says that has not seen its fold."""
    found = np.zeros(len(targets))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        mean, scale = features[train].mean(0), features[train].std(0) + 1e-8
        x, centre = (features - mean) / scale, targets[train].mean()
        gram = x[train].T @ x[train]
        gram += (RIDGE * np.trace(gram) / len(gram) + 1e-9) * np.eye(len(gram))
        found[test] = x[test] @ np.linalg.solve(gram, x[train].T @ (targets[train] - centre)) + centre
    return found
