"""When training has gone wrong: values that are not finite, gradients that explode."""

import math

import torch

FIRST = 10  # iterations that show how large gradients are


class Divergence:
    """Judge the losses and the gradient of every iteration.

    Args:
        limit (float): How many times the largest gradient norm of the first ten iterations is too many; None: no limit.
    """

    def __init__(self, limit):
        self.limit, self.largest, self.seen = limit, 0.0, 0

    def judge(self, values):
        """Return what is wrong in words, or None.

        Args:
            values (dict): Losses and `grad_norm`, averaged over all processes; empty for a step without losses.
        """
        for name, value in values.items():
            if not math.isfinite(value):
                return f'{name} is {value}'
        norm = values.get('grad_norm')
        if norm is None:
            return None
        if self.seen < FIRST:
            self.largest, self.seen = max(self.largest, norm), self.seen + 1
        elif self.limit is not None and 0 < self.limit * self.largest < norm:
            return (
                f'grad_norm is {norm:.3g}, more than {self.limit:g} times the largest of the first {FIRST} iterations, '
                f'{self.largest:.3g}'
            )
        return None

    def state_dict(self):
        return {'largest': self.largest, 'seen': self.seen}

    def load_state_dict(self, state):
        self.largest, self.seen = state['largest'], state['seen']


def has_finite_weights(net):
    """Return whether all weights and buffers are finite."""
    values = [value for value in net.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack([value.isfinite().all() for value in values]).all())
