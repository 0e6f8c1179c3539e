"""Entropic transport against exact problems, its marginals, its gradient, and small entropies."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog

from basicsr_unlearn.losses.transport import cosine_costs, log_transport_plan, transport_cost

EXACT = {'steps': 5000, 'tolerance': 1e-7}


def costs(n, m, seed=0):
    return torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_linear_programme(cost):
    """Return the exact cost of uniform masses on rows and columns."""
    n, m = cost.shape
    rows = torch.eye(n).repeat_interleave(m, 1)
    columns = torch.eye(m).repeat(1, n)
    masses = [1 / n] * n + [1 / m] * m
    return linprog(cost.flatten().numpy(), A_eq=torch.cat([rows, columns]).numpy(), b_eq=masses).fun


@pytest.mark.parametrize('n, m', [(6, 6), (3, 7), (5, 1), (1, 1)])
def test_towards_the_exact_cost(n, m):
    """The entropic cost lies above the exact one, by at most e times the largest KL divergence, log min(N, M)."""
    cost = costs(n, m, 2)
    best = by_linear_programme(cost)
    if n == m:
        assert best == pytest.approx(cost[linear_sum_assignment(cost.numpy())].mean().item())
    for reg in (1.0, 0.1, 0.01):
        found = transport_cost(cost, reg, **EXACT).item()
        assert -1e-6 < found - best <= reg * cost.mean().item() * math.log(min(n, m)) + 1e-6


def test_one_to_one_by_hand():
    """Two points, costs 0 and 1: P = [[p, q], [q, p]] / 2 with q / p = exp(-1 / e)."""
    cost, e = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.5 * 0.5
    p = 1 / (1 + math.exp(-1 / e))
    entropy = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert transport_cost(cost, 0.5, **EXACT).item() == pytest.approx(1 - p + e * entropy, abs=1e-6)


@pytest.mark.parametrize('reg', [1.0, 0.05, 1e-3])
def test_marginals(reg):
    plan = log_transport_plan(costs(6, 4), reg, **EXACT)[0].exp()
    torch.testing.assert_close(plan.sum(1), torch.full((6,), 1 / 6, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(plan.sum(0), torch.full((4,), 1 / 4, dtype=torch.float64), atol=1e-6, rtol=0)


def test_not_negative_symmetric_and_as_large_as_its_unit():
    for seed in range(5):
        cost = costs(4, 6, seed)
        found = transport_cost(cost, **EXACT).item()
        assert found > 0
        assert transport_cost(cost.T, **EXACT).item() == pytest.approx(found, abs=1e-6)
        assert transport_cost(1e-6 * cost, **EXACT).item() == pytest.approx(1e-6 * found, rel=1e-4)
    assert transport_cost(torch.zeros(3, 3)).item() == 0.0  # all points are one


def test_the_gradient_is_the_plan_of_the_entropic_cost():
    """By finite differences, e fixed: the mean of the costs stays when one falls by what another rises."""
    cost = costs(3, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(transport_cost(cost, 0.2, **EXACT), cost)
    torch.testing.assert_close(gradient, log_transport_plan(cost.detach(), 0.2, **EXACT)[0].exp())
    change = torch.zeros_like(gradient)
    change[0, 1], change[2, 3] = 1e-3, -1e-3
    with torch.no_grad():
        slope = (transport_cost(cost + change, 0.2, **EXACT) - transport_cost(cost - change, 0.2, **EXACT)) / 2e-3
    assert slope.item() == pytest.approx((gradient[0, 1] - gradient[2, 3]).item(), rel=1e-3)


@pytest.mark.parametrize('reg', [1e-4, 1e-8, 1e-30])
def test_stable_where_the_entropy_hardly_counts(reg):
    cost = costs(5, 5).float().requires_grad_()
    found = transport_cost(cost, reg)
    (gradient,) = torch.autograd.grad(found, cost)
    assert found.item() == pytest.approx(by_linear_programme(cost.detach()), abs=0.01)
    assert torch.isfinite(gradient).all() and gradient.sum().item() == pytest.approx(1, abs=1e-6)


def test_cosine_costs():
    one = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    other = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    expected = torch.tensor([[1.0, 0.0, 2.0], [0.2, 0.4, 1.6]])
    torch.testing.assert_close(cosine_costs(one, other), expected)
