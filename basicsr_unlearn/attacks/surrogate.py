"""Perturbations that make photographs hard to learn from: a game between them and a surrogate restorer.

Whoever trains a restorer on photographs takes them for clean and degrades them himself. The surrogate does the same,
and the perturbations are those that it restores worst.

Source: Fowl et al., Adversarial Examples Make Strong Poisons (NeurIPS 2021), against a surrogate that trains on them as
Madry et al. (ICLR 2018). The opposite, errors made small as in Huang et al., Unlearnable Examples (ICLR 2021), does
nothing here: in restoration the clean image is perturbed as well, and easy pairs still teach.
"""

import math

import numpy as np
import torch
from tqdm import trange

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.attacks.pgd import pgd

PATCH, BATCH, LR, WARM_UP = 48, 8, 2e-3, 50  # pixels, images, of AdamW, iterations
POOL = 1024  # patches that the surrogate learns from, at least
TRAINING, INNER = 400, 2  # iterations of the surrogate, gradient steps on each of its batches
TILE = 512  # pixels of a photograph that are perturbed at once


def small_net(seed):
    """Return an untrained NAFNet of width 8, 75,355 parameters."""
    torch.manual_seed(seed)
    return ARCH_REGISTRY.get('NAFNet')(width=8, middle_blk_num=1, enc_blk_nums=[1, 1, 1], dec_blk_nums=[1, 1, 1])


def degraded(images, degrade, rng):
    """Degrade images as a data set does, each with its own random numbers.

    The gradient passes as if what the degradation adds did not depend on the image: it rounds, and noise and rain are
    added indeed.

    Args:
        images (Tensor): (N, 3, H, W), float32 in [0, 1].
        degrade (callable): What `build_degradation` gives.
        rng (numpy.random.Generator): Source of all randomness.

    Returns:
        Tensor: As `images`.
    """
    arrays = images.detach().permute(0, 2, 3, 1).cpu().numpy()
    results = np.stack([degrade(array, rng) for array in arrays])
    return images + (torch.from_numpy(results).permute(0, 3, 1, 2).to(images) - images.detach())


def loss(net, clean, degrade, rng):
    """Return the L1 loss of a restorer on each of the images, degraded, (N,)."""
    return (net(degraded(clean, degrade, rng)) - clean).abs().flatten(1).mean(1)


def train(net, draw, degrade, rng, iterations, text):
    """Train a restorer: AdamW at 2e-3 with a cosine, L1.

    Args:
        net (nn.Module): Restorer; changed in place.
        draw (callable): Gives the clean images of an iteration, (N, 3, H, W).
        degrade (callable): What `build_degradation` gives.
        rng (numpy.random.Generator): Of the degradation.
        iterations (int): Number of steps.
        text (str): What the progress bar says.

    Returns:
        nn.Module: The same net, in evaluation mode.
    """
    optimizer = torch.optim.AdamW(net.train().parameters(), LR, weight_decay=0)
    for step in trange(iterations, desc=text, disable=None):  # None: only on a terminal
        share = min(1, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / iterations)) / 2
        optimizer.param_groups[0]['lr'] = share * LR
        value = loss(net, draw(), degrade, rng).mean()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
    return net.eval()


def train_surrogate(patches, degrade, eps, seed):
    """Train the surrogate on perturbed patches, which it meets as the worst that it knows at that moment.

    Args:
        patches (Tensor): (N, 3, 48, 48), float32 in [0, 1].
        degrade (callable): What `build_degradation` gives.
        eps (int): Largest change in grey levels of 255.
        seed (int): Of all draws.

    Returns:
        NAFNet: On the device of the patches.
    """
    net, rng = small_net(seed).to(patches.device), np.random.default_rng(seed)

    def draw():
        chosen = patches[rng.integers(len(patches), size=BATCH)]
        return hardest(net, chosen, degrade, eps, INNER, rng)

    return train(net, draw, degrade, rng, TRAINING, 'training the surrogate')


def hardest(net, images, degrade, eps, steps, rng):
    """Return the images inside the ball of `eps` grey levels that the surrogate restores worst: pgd.

    Args:
        net (nn.Module): The surrogate.
        images (Tensor): (N, 3, H, W), float32 in [0, 1].
        degrade (callable): What `build_degradation` gives; drawn anew in each step.
        eps (int): Largest change in grey levels of 255.
        steps (int): Gradient steps.
        rng (numpy.random.Generator): Source of all randomness.

    Returns:
        Tensor: As `images`, not rounded.
    """
    start = torch.Generator().manual_seed(int(rng.integers(2**31)))
    return pgd(images, lambda attacked, _: loss(net, attacked, degrade, rng), start, 'linf', eps / 255, steps)


def hardest_of_any_size(net, image, degrade, eps, steps, rng):
    """Do `hardest` tile by tile, so that memory does not grow with the photograph."""
    result = torch.empty_like(image)
    for top in range(0, image.shape[2], TILE):
        for left in range(0, image.shape[3], TILE):
            window = np.s_[..., top : top + TILE, left : left + TILE]
            result[window] = hardest(net, image[window], degrade, eps, steps, rng)
    return result
