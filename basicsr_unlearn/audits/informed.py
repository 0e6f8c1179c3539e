"""The informed adversary: who knows all training pictures but one, and the weights, draws that one."""

import numpy as np
import torch
from tqdm import tqdm

from basicsr_unlearn.audits.inversion import psnr
from basicsr_unlearn.data.scenes import draw_scene

SIZE = 8  # pixels
SIGMA = 25 / 255
TOGETHER = 250  # nets trained at once: what fits the cache
STATES = ('original', 'unlearned', 'oracle')
RIDGES = (0.01, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)


def informed(shadows=1500, targets=32, fixed=40, epochs=20, unlearn_steps=20, seed=0):
    """Reconstruct the one unknown training picture of a toy denoiser, before and after unlearning it.

    Source: Balle, Cherubin and Hayes, Reconstructing Training Data with Informed Adversaries (IEEE S&P 2022,
    arXiv 2201.04845). The adversary knows the fixed pictures, the initialisation and the training, trains shadow nets
    on the fixed pictures and one more of a pool, and learns the way from standardised weights to that picture. Against
    unlearned nets the shadows are unlearned likewise: the adversary knows that step as well. The way is linear here,
    by ridge regression: with so few shadows it was 4 to 10 dB better than a multilayer perceptron like the paper's. It
    draws its own scenes: neither network nor data of the user are needed, and no more than a toy can be audited so.

    Toy net: B tanh(A x + a) + b on grey pictures of 8x8 pixels, 64-16-64, gaussian noise of 25 grey levels that is
    fixed for each picture, gradient descent on all of them. (With a skip connection from x the weights hold the noise
    rather than the picture, and the attack finds next to nothing.) Unlearning: bounded ascent on the target until its
    error is that of a stranger, and descent on the fixed pictures.

    Args:
        shadows (int): Shadow nets, and pictures of the adversary's pool. Default: 1500.
        targets (int): Unknown pictures, with a net each. Default: 32.
        fixed (int): Pictures known to the adversary. Default: 40.
        epochs (int): Steps of the training. Default: 20.
        unlearn_steps (int): Steps of the unlearning. Default: 20.
        seed (int): Of everything. Default: 0.

    Returns:
        tuple(dict, dict): Plain numbers: the arguments; `recovered_psnr`: PSNR (dB) of every target for nets in the
        states `original`, `unlearned` and `oracle` (trained without it: they are equal, and tell nothing);
        `baseline_psnr`: of the `mean` of the pool and of its `nearest` picture, which only who knows the target can
        choose; `error`: the nets' mean squared error on their target in each state. The recovered pictures of each
        state and the true ones (`target`), each (targets, 1, 8, 8).
    """
    settings = {
        'shadows': shadows,
        'targets': targets,
        'fixed': fixed,
        'epochs': epochs,
        'unlearn_steps': unlearn_steps,
    }
    generator = torch.Generator().manual_seed(seed)
    clean = draw_pictures(fixed + shadows + targets, seed)
    noisy = clean + SIGMA * torch.randn(clean.shape, generator=generator)
    start = first_weights(generator)
    groups = list(zip(noisy[fixed:].split(TOGETHER), clean[fixed:].split(TOGETHER), strict=True))
    parts = [
        states_of(start, (noisy[:fixed], clean[:fixed]), own, epochs, unlearn_steps)
        for own in tqdm(groups, 'informed adversary', leave=False, disable=None)
    ]
    pool, truth = clean[fixed : fixed + shadows], clean[fixed + shadows :]
    recovered, errors = {}, {}
    for state in STATES:
        weights, own_errors = (torch.cat([part[state][kind] for part in parts]) for kind in (0, 1))
        recovered[state] = reconstruct(*weights.split([shadows, targets]), pool)
        errors[state] = float(own_errors[shadows:].mean())
    nearest = pool[torch.cdist(truth, pool).argmin(1)]
    numbers = {
        **settings,
        'recovered_psnr': {state: psnr(images, truth) for state, images in recovered.items()},
        'baseline_psnr': {'mean': psnr(pool.mean(0).expand_as(truth), truth), 'nearest': psnr(nearest, truth)},
        'error': errors,
    }
    return numbers, {k: images.reshape(-1, 1, SIZE, SIZE) for k, images in {**recovered, 'target': truth}.items()}


def states_of(start, known, own, epochs, unlearn_steps):
    """Train nets in every state.

    Args:
        start (list[Tensor]): First weights of one net.
        known, own (tuple): Noisy and clean: the fixed pictures, (fixed, 64), and one for each net, (nets, 64).
        epochs, unlearn_steps (int): Steps.

    Returns:
        dict: `{state: (weights (nets, weights), error on the own picture (nets,))}`.
    """
    oracle = [w.expand(len(own[0]), *w.shape[1:]) for w in descend(start, known, None, epochs)]
    original = descend([w.expand(len(own[0]), *w.shape[1:]) for w in start], known, own, epochs)
    stranger = error(oracle, *own).median()
    nets = {'original': original, 'unlearned': descend(original, known, own, unlearn_steps, stranger), 'oracle': oracle}
    return {
        state: (torch.cat([w.flatten(1) for w in weights], 1), error(weights, *own)) for state, weights in nets.items()
    }


def draw_pictures(number, seed):
    """Draw small grey scenes, (number, 64) in [0, 1]."""
    scenes = [draw_scene(np.random.default_rng([seed, index]), SIZE)[0].mean(2) for index in range(number)]
    return torch.from_numpy(np.stack(scenes)).flatten(1)


def first_weights(generator, hidden=16):
    """Draw the weights of one toy net: A (1, 64, hidden), a (1, 1, hidden), B (1, hidden, 64), b (1, 1, 64)."""
    pixels = SIZE**2
    inner = torch.randn(1, pixels, hidden, generator=generator) / pixels**0.5
    outer = torch.randn(1, hidden, pixels, generator=generator) / hidden**0.5
    return [inner, torch.zeros(1, 1, hidden), 0.1 * outer, torch.zeros(1, 1, pixels)]


def denoise(weights, noisy):
    """Run nets, each on its own pictures: (nets, pictures, 64) to the same shape."""
    inner, inner_bias, outer, outer_bias = weights
    return torch.tanh(noisy @ inner + inner_bias) @ outer + outer_bias


def error(weights, noisy, clean):
    """Return the mean squared error of each net on its own picture, (nets,)."""
    return (denoise(weights, noisy.unsqueeze(1)).squeeze(1) - clean).square().mean(1)


def descend(weights, known, own, steps, bound=None, lr=0.05):
    """Train nets with all pictures at once, on the known ones and each on its own one.

    Args:
        weights (list[Tensor]): Of the nets; left as they are.
        known (tuple): Noisy and clean, (fixed, 64).
        own (tuple): Noisy and clean picture of each net, (nets, 64); None: trained without.
        steps (int): Steps of gradient descent.
        bound (float): Unlearn the own picture: raise its error up to here. Default: None, learn it.
        lr (float): Of the error summed over the pixels. Default: 0.05.

    Returns:
        list[Tensor]: The trained weights.
    """
    noisy, clean = known
    for _ in range(steps):
        weights = [weight.detach().requires_grad_() for weight in weights]
        total = (denoise(weights, noisy.expand(len(weights[0]), *noisy.shape)) - clean).square().mean(2).sum(1)
        loss = total / len(noisy)
        if own is not None:
            alone = error(weights, *own)
            loss = (total + alone) / (len(noisy) + 1) if bound is None else loss + torch.relu(bound - alone)
        gradient = torch.autograd.grad(SIZE**2 * loss.sum(), weights)
        weights = [weight - lr * part for weight, part in zip(weights, gradient, strict=True)]
    return [weight.detach() for weight in weights]


def reconstruct(shadows, targets, pictures):
    """Learn the way from weights to pictures by ridge regression, and go it.

    Args:
        shadows, targets (Tensor): Weights of the shadow nets and of the nets under attack, (N, weights).
        pictures (Tensor): Those of the shadow nets, (N, 64).

    Returns:
        Tensor: The pictures of the nets under attack, (N, 64) in [0, 1].
    """
    mean, spread = shadows.mean(0), shadows.std(0)
    spread = torch.where(spread > 1e-7, spread, torch.inf)  # rounding alone
    shadows, targets = ((weights - mean).double() / spread for weights in (shadows, targets))
    held = len(shadows) // 5
    learn, truth = (shadows[held:], pictures[held:].double()), pictures[:held]
    tried = {ridge: (_regress(*learn, shadows[:held], ridge) - truth).square().mean() for ridge in RIDGES}
    best = min(tried, key=tried.get)
    return _regress(shadows, pictures.double(), targets, best).clamp(0, 1).float()


def _regress(inputs, outputs, asked, ridge):
    middle = outputs.mean(0)
    products = inputs @ inputs.T + ridge * torch.eye(len(inputs), dtype=inputs.dtype)
    return asked @ inputs.T @ torch.linalg.solve(products, outputs - middle) + middle
