"""Optimal transport between two small sets of points of equal mass."""

import math

import torch


def cosine_costs(one, other):
    """Return the cosine distances (N, M) of vectors of length one, (N, D) and (M, D)."""
    return (one[:, None] - other[None]).square().sum(2) / 2


def transport_cost(cost, reg=0.05, steps=200, tolerance=1e-3):
    """Return what it costs to move the one set to the other: min over plans P of <P, C> + e KL(P | uniform).

    Source: Cuturi, Sinkhorn Distances (NeurIPS 2013). Its gradient with respect to C is the plan, which is computed
    without one.

    Args:
        cost (Tensor): C, (N, M), what it costs to move point n to point m; not negative.
        reg (float): e as a share of the mean of C; towards 0 the cost becomes that of the best plan, and takes more
            steps. Below 1e-9 of the largest of C it stays there. Default: 0.05.
        steps (int): At most. Default: 200.
        tolerance (float): Ends when no point of the other set has got a share of mass that is wrong by more than this.
            Default: 1e-3.

    Returns:
        Tensor: A scalar, at least 0.
    """
    log_plan, e = log_transport_plan(cost.detach().double(), reg, steps, tolerance)
    plan = log_plan.exp()
    entropy = e * (plan * (log_plan + math.log(plan.numel()))).sum()
    return (plan.to(cost.dtype) * cost).sum() + entropy.to(cost.dtype)


def log_transport_plan(cost, reg, steps, tolerance):
    """Return the logarithm of P, (N, M), by Sinkhorn's steps on logarithms, and e.

    e falls from the largest cost to its value on the way, for which small values take far fewer steps. The rows of P
    sum to 1 / N to rounding, its columns to 1 / M to the tolerance.
    """
    (n, m), rows = cost.shape, torch.zeros_like(cost[:, :1])
    e = cost.max().clamp_min(torch.finfo(cost.dtype).tiny)
    goal = torch.maximum(reg * cost.mean(), 1e-9 * e)
    for _ in range(steps):
        e = torch.maximum(e / 2, goal)
        columns = -e * (((rows - cost) / e).logsumexp(0, keepdim=True) - math.log(n))
        rows = -e * (((columns - cost) / e).logsumexp(1, keepdim=True) - math.log(m))
        log_plan = (rows + columns - cost) / e - math.log(n * m)
        if e == goal and (m * log_plan.exp().sum(0) - 1).abs().max() < tolerance:
            break
    return log_plan, e
