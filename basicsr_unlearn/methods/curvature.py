"""Products with the curvature of a loss, and two solvers of (H + lambda I) u = g that need nothing else.

Vectors are flat, over all weights that move, in their order (`flat`).
"""

import math

import torch

from basicsr.utils.registry import LOSS_REGISTRY
from basicsr_unlearn.errors import Diverged, InputError

GROWN = 10.0  # batches differ: their noise alone may make a change larger than the first


def flat(tensors):
    """Return tensors as one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def parts_of(vector, tensors):
    """Return the parts of a flat vector, in the shapes of some tensors."""
    parts = vector.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def slope_along(gradients, vector):
    """Return the scalar product of gradients and a flat vector."""
    return sum((g * part).sum() for g, part in zip(gradients, parts_of(vector, gradients), strict=True))


def hessian_product(loss, weights, vector):
    """Return H v with the Hessian H of a loss: the gradient of its slope along v (Pearlmutter 1994).

    Args:
        loss (Tensor): A scalar with its graph, which is gone afterwards.
        weights (list[Tensor]): What it is differentiated by.
        vector (Tensor): v, flat.
    """
    gradients = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
    slope = slope_along(gradients, vector)
    return flat(torch.autograd.grad(slope, weights, materialize_grads=True))


def gauss_newton_product(pred, criterion, weights, vector):
    """Return J^T L J v: the curvature that a loss has on the output, without that of the network; never negative.

    Args:
        pred (Tensor): The network's output with its graph, which is gone afterwards.
        criterion (callable): The loss of an output, a convex one.
        weights (list[Tensor]): What J, the Jacobian of `pred`, is by.
        vector (Tensor): v, flat.
    """
    probe = torch.zeros_like(pred, requires_grad=True)  # J^T probe is linear in it, with J v for a slope
    transposed = torch.autograd.grad(pred, weights, probe, create_graph=True, materialize_grads=True)
    (moved,) = torch.autograd.grad(slope_along(transposed, vector), probe, retain_graph=True)
    output = pred.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(criterion(output), output, create_graph=True)
    (curved,) = torch.autograd.grad(gradient, output, moved)
    return flat(torch.autograd.grad(pred, weights, curved, materialize_grads=True))


def lissa(product, gradient, damping, scale, steps, patience):
    """Return (H + s d I)^-1 g as the limit of u <- g + (1 - d) u - H u / s, divided by s.

    Args:
        product (callable): H v of a flat vector v, of one batch or of all data.
        gradient (Tensor): g, flat.
        damping (float): d.
        scale (float): s; the recursion settles where s is above half the largest eigenvalue of H + s d I.
        steps (int): At most so many.
        patience (int): Ends after so many steps in which the L1 norm of the change has found no new minimum.

    Raises:
        Diverged: The last change is not finite, or GROWN times as large as the first.
    """
    update, changes = gradient, []
    for step in range(steps):
        new = gradient + (1 - damping) * update - product(update) / scale
        changes.append((new - update).abs().sum().item())
        update = new
        if not math.isfinite(changes[-1]) or step - changes.index(min(changes)) >= patience:
            break
    if not changes[-1] <= GROWN * changes[0]:
        raise Diverged('LiSSA does not settle', 'Raise train: method: scale or damping, or set order: gauss_newton.')
    return update / scale


def conjugate_gradient(product, gradient, damping, steps, tolerance=1e-3):
    """Return (H + lambda I)^-1 g by conjugate gradients, from zero on; H must not be negative.

    Args:
        product (callable): H v of a flat vector v, always of the same data.
        gradient (Tensor): g, flat.
        damping (float): lambda.
        steps (int): At most so many.
        tolerance (float): Ends when the residual is this share of |g|. Default: 1e-3.

    Raises:
        Diverged: Something is not finite.
    """
    solution, residual = torch.zeros_like(gradient), gradient.clone()
    direction, size = residual, residual.dot(residual)
    goal = tolerance**2 * size
    for _ in range(steps):
        if size <= goal:
            break
        image = product(direction) + damping * direction
        length = size / direction.dot(image)
        solution, residual = solution + length * direction, residual - length * image
        size, before = residual.dot(residual), size
        direction = residual + size / before * direction
    if not torch.isfinite(solution).all():
        raise Diverged('conjugate gradients are not finite', 'Raise train: method: damping.')
    return solution


@torch.no_grad()
def step_along(weights, update, share):
    """Move weights against a flat update, by a share of their norm."""
    update = share * flat(weights).norm() / update.norm() * update
    for weight, part in zip(weights, parts_of(update, weights), strict=True):
        weight -= part


def check_curvature(option, section):
    """Raise InputError for a loss that is straight between an error of 0.05 and the next one, as L1 is."""
    loss = dict(section)
    kind = loss.pop('type', None)
    if kind not in LOSS_REGISTRY:
        return  # the check of names says so
    error = torch.full((1, 3, 8, 8), 0.05, requires_grad=True)
    try:
        criterion = LOSS_REGISTRY.get(kind)(**loss)  # build_loss would start the log
    except (TypeError, ValueError):
        return  # the check of its options says so
    (slope,) = torch.autograd.grad(criterion(error, torch.zeros_like(error)), error, create_graph=True)
    bent = slope.requires_grad and torch.autograd.grad(slope.sum(), error, materialize_grads=True)[0].mean() * 0.05
    if not bent > 1e-3 * slope.abs().mean():
        raise InputError(
            f'{option}: {section} has no curvature, which the second order needs. Set '
            '{type: CharbonnierLoss, eps: 1e-3}, or order: first.'
        )
