"""Did unlearning make the network brittle? Quality under attack and under noise, and noise as a cure of the attack."""

import torch

from basicsr_unlearn.attacks.pgd import pgd
from basicsr_unlearn.attacks.targets import psnr
from basicsr_unlearn.audits.subjects import device
from basicsr_unlearn.models.inference import measuring

COPIES = 8  # noisy copies of a smoothed picture
STEPS = 5  # of the attack


def robustness(net, pairs, eps, sigmas, seed=0):
    """Measure a network on attacked, on noisy and on smoothed pictures. Needs no oracle.

    Source: Madry et al. (ICLR 2018) for the attack: l2 PGD on the squared error to the clean picture. Cohen et al.
    (ICML 2019) and Choi et al. (arXiv 2407.18658) for smoothing, here the median of the answers to noisy copies.

    Args:
        net (nn.Module): Restorer; left as it is.
        pairs (list): `(lq, gt)`, (1, 3, H, W) in [0, 1] each, all of one size that the net takes.
        eps (list[float]): Root mean squares of the attack's perturbation, ascending, in the unit of the pictures.
        sigmas (list[float]): Standard deviations of the noise, ascending, in the same unit.
        seed (int): Of starts and noise. Default: 0.

    Returns:
        dict: `clean` (mean PSNR, dB); `pgd` and `smoothing`: for each size the mean PSNR; `purified`: for each `eps`
        that of the attacked pictures answered by the median under noise of the smallest sigma; `radius`: the size at
        which 1 dB is lost, for `pgd` and `smoothing`; None beyond the last.
    """
    lq, gt = (torch.cat(images).to(device()) for images in zip(*pairs, strict=True))
    wishes = [parameter.requires_grad for parameter in net.parameters()]
    net.requires_grad_(False)
    try:
        found = _measure(net, lq, gt, eps, sigmas, seed)
    finally:
        for parameter, wish in zip(net.parameters(), wishes, strict=True):
            parameter.requires_grad_(wish)
    radius = {
        key: radius_of_loss(found['clean'], sizes, found[key]) for key, sizes in (('pgd', eps), ('smoothing', sigmas))
    }
    return {**found, 'radius': radius}


def _measure(net, lq, gt, eps, sigmas, seed):
    def quality(images):
        with measuring(net):
            return float(psnr(net(images).clamp(0, 1), gt).mean())

    def objective(attacked, images):
        return (net(attacked) - gt).square().mean(dim=(1, 2, 3))

    random = torch.Generator().manual_seed(seed)
    noise = torch.randn((COPIES, *lq.shape), generator=random).to(lq)
    found = {'clean': quality(lq), 'pgd': [], 'smoothing': [], 'purified': []}
    for size in eps:
        attacked = pgd(lq, objective, torch.Generator().manual_seed(seed), 'l2', size, STEPS)
        found['pgd'].append(quality(attacked))
        with measuring(net):
            answers = torch.stack([net((attacked + sigmas[0] * part).clamp(0, 1)) for part in noise])
        found['purified'].append(float(psnr(answers.median(0).values.clamp(0, 1), gt).mean()))
    for sigma in sigmas:
        values = [quality((lq + sigma * part).clamp(0, 1)) for part in noise]
        found['smoothing'].append(sum(values) / len(values))
    return found


def radius_of_loss(clean, sizes, values, loss=1.0):
    """Return the size at which `loss` dB are gone, on straight lines between the sizes; None beyond the last."""
    before, kept = 0.0, clean
    for size, value in zip(sizes, values, strict=True):
        if clean - value >= loss:
            share = (loss - (clean - kept)) / (kept - value)
            return before + share * (size - before)
        before, kept = size, value
    return None
