"""Gradient inversion: what the difference of the two checkpoints tells about a small forget set."""

from copy import deepcopy
from itertools import permutations

import torch
from tqdm import tqdm

from basicsr_unlearn.losses.ascent_loss import AscentLoss
from basicsr_unlearn.losses.identity_loss import IdentityLoss
from basicsr_unlearn.options import check_choice

LOSSES = {'identity': IdentityLoss(), 'ascent': AscentLoss(bound='none')}
MOVE = 1e-3  # of the norm of the weights: a step of the unlearning
REACH = 1e-4  # of the same: the finite differences of the attack


def inversion(net, pairs, batch=1, loss='identity', unlearn_steps=1, steps=300, restarts=1, seed=0):
    """Unlearn small forget sets with plain gradient steps, and draw them out of the change of the weights.

    Source: Zhu et al., Deep Leakage from Gradients (NeurIPS 2019), with dummy labels; Geiping et al., Inverting
    Gradients (NeurIPS 2020): cosine distance and total variation; Bertran et al., Reconstruction Attacks on Machine
    Unlearning (arXiv 2405.20272): the difference of two checkpoints is such a gradient. Who holds both must not be able
    to do this: never publish both. No oracle and no held-out data are needed, and any network that can be trained will
    do: nothing is differentiated twice.

    Args:
        net (nn.Module): The original. Left as it is.
        pairs (list[tuple]): `(lq, gt)`, each (1, C, S, S) in [0, 1], on the device of `net`; S a size that the network
            takes, 16 to 32.
        batch (int): Pairs of one forget set; what is left over is not used. Each set is unlearned and attacked on its
            own. Default: 1.
        loss (str): `identity` (IdentityLoss) or `ascent` (AscentLoss without bound). The attack does not know which.
            Default: `identity`.
        unlearn_steps (int): Gradient steps of the unlearning. Default: 1.
        steps (int): Adam steps of the attack. Default: 300.
        restarts (int): Starts of the attack; the one of least objective counts. Default: 1.
        seed (int): Of the starts. Default: 0.

    Returns:
        tuple(dict, Tensor): Plain numbers: `pairs batch size loss unlearn_steps steps restarts`, `objective` of every
        set, and for every pair the PSNR (dB) of its degraded picture against the recovered one (`recovered_psnr`), the
        best picture of one colour (`baseline_psnr`) and what the same attack drew out of another set's difference
        (`control_psnr`); `clean_psnr`: the original's restoration of the recovered picture against the clean one. The
        recovered pictures, (pairs, C, S, S). `({'missing': reason}, None)` with fewer than two forget sets, or where
        unlearning changes nothing.

    Raises:
        InputError: An unknown loss.
    """
    check_choice('inversion: loss', loss, list(LOSSES))
    sets = [pairs[first : first + batch] for first in range(0, len(pairs) - batch + 1, batch)]
    if len(sets) < 2:
        return {'missing': f'Two forget sets of {batch} are needed, one as the control of the other: give more.'}, None
    truths = [[torch.cat(images) for images in zip(*chosen, strict=True)] for chosen in sets]
    copies = [unlearn(net, lq, gt, LOSSES[loss], unlearn_steps) for lq, gt in truths]
    if not all(_changes(net, copy) for copy in copies):
        return {'missing': f'The loss {loss} changes no weight of the original on these pairs: take other ones.'}, None
    found, objectives = [], []
    with tqdm(total=len(sets) * restarts * steps, desc='gradient inversion', leave=False, disable=None) as bar:
        for (lq, _), copy in zip(truths, copies, strict=True):
            attack = _Attack(net, copy, lq.shape, lq.device)
            generator = torch.Generator().manual_seed(seed)
            tries = [attack.run(steps, generator, bar) for _ in range(restarts)]
            objective, recovered = min(tries, key=lambda attempt: attempt[0])
            found.append(recovered), objectives.append(objective)
    numbers = {'recovered_psnr': [], 'baseline_psnr': [], 'control_psnr': [], 'clean_psnr': []}
    for number, (lq, gt) in enumerate(truths):
        found[number] = _in_order(found[number], lq)
        numbers['recovered_psnr'] += psnr(found[number], lq)
        numbers['baseline_psnr'] += psnr(lq.mean((2, 3), keepdim=True).expand_as(lq), lq)
        numbers['clean_psnr'] += psnr(_restored(net, found[number]), gt)
    for number, (lq, _) in enumerate(truths):
        numbers['control_psnr'] += psnr(_in_order(found[number - 1], lq), lq)
    settings = {'batch': batch, 'loss': loss, 'unlearn_steps': unlearn_steps, 'steps': steps, 'restarts': restarts}
    size = {'pairs': len(sets) * batch, 'size': truths[0][0].shape[-1]}
    return {**size, **settings, 'objective': objectives, **numbers}, torch.cat(found)


def unlearn(net, lq, gt, loss, steps):
    """Return an unlearned copy of a network: plain gradient steps, each of `MOVE` of the norm of the weights."""
    net = deepcopy(net).eval().requires_grad_()
    weights = list(net.parameters())
    for _ in range(steps):
        gradient = torch.autograd.grad(loss(net(lq), gt, lq), weights, materialize_grads=True)
        with torch.no_grad():
            lr = MOVE * _norm(weights) / _norm(gradient).clamp_min(1e-30)
            for weight, change in zip(weights, gradient, strict=True):
                weight -= lr * change
    return net


def _changes(net, unlearned):
    """Return how the weights of an original differ from the unlearned ones, those that do: `{name: Tensor}`."""
    after = dict(unlearned.named_parameters())
    changes = {name: (weight - after[name]).detach() for name, weight in net.named_parameters()}
    return {name: change for name, change in changes.items() if change.any()}


class _Attack:
    """Looks for pictures and for the gradient of an unknown loss by each of their pixels, in [-1, 1].

    The weights' gradient of any loss on the result is that of `(net(picture) * slope).mean()` for some slope. For L1
    the slope is a sign, which jumps as the picture moves; free, it makes the search smooth. Every layer counts alike.
    The objective's gradient by the picture is (dg/dz)' v, with g the gradient by the weights and v the objective's
    gradient by g: a central difference, along v, of the gradient by the picture.

    Args:
        net, unlearned (nn.Module): The two checkpoints.
        shape (Size): Of the pictures, (N, C, S, S).
        device (device): Of the networks.
    """

    def __init__(self, net, unlearned, shape, device):
        self.net, self.shape, self.device = deepcopy(net).eval(), shape, device
        changes = _changes(net, unlearned)
        self.net.requires_grad_(False)
        self.weights = [self.net.get_parameter(name).requires_grad_() for name in changes]
        self.change = list(changes.values())
        self.origin = [weight.detach().clone() for weight in self.weights]
        norms = torch.stack([change.norm() for change in self.change])
        self.factors = (norms + 0.01 * norms.norm()).square().reciprocal()
        self.length = self._dot(self.change, self.change).sqrt()

    def run(self, steps, generator, bar):
        """Return the objective reached and the pictures."""
        picture = 0.5 + 0.1 * torch.randn(self.shape, generator=generator)
        slope = 2 * torch.rand(self.shape, generator=generator) - 1
        picture, slope = (start.to(self.device).requires_grad_() for start in (picture, slope))
        optimizer = torch.optim.Adam([{'params': picture, 'lr': 0.06}, {'params': slope, 'lr': 0.2}])
        fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(1 - step / steps, 0.02))
        for _ in range(steps):
            variation = 1e-3 * sum(picture.diff(dim=axis).abs().mean() for axis in (-1, -2))
            (smooth,) = torch.autograd.grad(variation, picture)
            distance, (of_picture, slope.grad) = self._look(picture.detach(), slope.detach())
            picture.grad = of_picture + smooth
            optimizer.step()
            fall.step()
            with torch.no_grad():
                picture.clamp_(0, 1)
                slope.clamp_(-1, 1)
            bar.update()
        return distance + float(variation.detach()), picture.detach()

    def _look(self, picture, slope):
        """Return the cosine distance of the gradients, and its gradients by picture and slope."""
        gradient = torch.autograd.grad((self.net(picture) * slope).mean(), self.weights, materialize_grads=True)
        gradient = [part.requires_grad_() for part in gradient]
        distance = 1 - self._dot(gradient, self.change) / (self._dot(gradient, gradient).sqrt() * self.length)
        direction = torch.autograd.grad(distance, gradient)
        reach = REACH * _norm(self.origin) / _norm(direction)
        ahead, behind = (self._by_pixels(picture, slope, side * reach, direction) for side in (1, -1))
        return float(distance.detach()), [(a - b) / (2 * reach) for a, b in zip(ahead, behind, strict=True)]

    def _by_pixels(self, picture, slope, reach, direction):
        with torch.no_grad():
            for weight, origin, part in zip(self.weights, self.origin, direction, strict=True):
                weight.copy_(origin + reach * part)
        unknown = picture.clone().requires_grad_(), slope.clone().requires_grad_()
        found = torch.autograd.grad((self.net(unknown[0]) * unknown[1]).mean(), unknown)
        with torch.no_grad():
            for weight, origin in zip(self.weights, self.origin, strict=True):
                weight.copy_(origin)
        return found

    def _dot(self, first, second):
        return (self.factors * torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)])).sum()


def psnr(images, truth):
    """Return the PSNR (dB) of each image of a batch, cut to [0, 1]."""
    error = (images.clamp(0, 1) - truth).square().flatten(1).mean(1)
    return (-10 * torch.log10(error + 1e-10)).tolist()


def _in_order(images, truth):
    """Return the images of a set in the order that fits best: a gradient says nothing of it."""
    orders = [list(order) for order in permutations(range(len(images)))]
    return images[max(orders, key=lambda order: sum(psnr(images[order], truth)))]


def _restored(net, images):
    with torch.no_grad():
        return deepcopy(net).eval()(images)


def _norm(tensors):
    return torch.stack([tensor.detach().norm() for tensor in tensors]).norm()
