"""Which weights matter for what is forgotten: memory aware synapses (MAS) on the residual of a restorer."""

import torch


def residual_importance(run, net, images):
    """Measure how much each weight moves the residual R(x) = f(x) - x.

    Source: Aljundi et al., Memory Aware Synapses (ECCV 2018), with the norm unsquared and the gradient of a batch's
    mean as in Cha et al. (arXiv 2301.11578); of the residual, because the norm of f(x) is mostly brightness.

    Args:
        run (Run): Gives batches of forget images, to each process its part.
        net (nn.Module): Never changed; its weights need not ask for gradients.
        images (int): How many of all processes together.

    Returns:
        dict[str, Tensor]: For each parameter the mean over the images of |d mean ||R(x)||_2 / d weight|.
    """
    weights = {name: weight.detach().requires_grad_() for name, weight in net.named_parameters()}
    importance, seen = {name: torch.zeros_like(weight) for name, weight in weights.items()}, 0
    for batch in run.batches(images, 'importance', with_retain=False):
        with torch.enable_grad():
            residual = torch.func.functional_call(net, weights, (batch.forget_lq,)) - batch.forget_lq
            length = residual.flatten(1).norm(dim=1).mean()
            gradients = torch.autograd.grad(length, list(weights.values()), materialize_grads=True)
        run.average(gradients)
        for total, gradient in zip(importance.values(), gradients, strict=True):
            total += batch.whole * gradient.abs()
        seen += batch.whole
    return {name: total / seen for name, total in importance.items()}


def drift(run, omega=None):
    """Return sum Omega (theta - theta_0)^2 of the weights that train; Omega is 1 without one."""
    before, total = dict(run.original.named_parameters()), 0.0
    for name, weight in run.net.named_parameters():
        if weight.requires_grad:
            way = (weight - before[name]).square()
            total = total + (way if omega is None else omega[name] * way).sum()
    return total


def stiffness(importance):
    """Return Omega = 1 - I of each tensor, I scaled to [0, 1] within the tensor; 1 where all weights matter alike."""
    result = {}
    for name, value in importance.items():
        low, width = value.min(), value.max() - value.min()
        result[name] = 1 - torch.where(width > 0, (value - low) / width, 0.0)
    return result
