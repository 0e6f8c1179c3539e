"""Low-rank adapters: what an attacker trains who leaves the weights alone."""

import torch
from torch import nn
from torch.nn.utils import parametrize

SCOPE = (r'.*\.parametrizations\.weight\.0\.(up|down)',)  # the adapters, among the parameters of an adapted network


class LowRank(nn.Module):
    """Add a product of two thin matrices to a weight; at first the product is zero.

    Args:
        weight (Tensor): (out, in, ...), seen as (out, everything else).
        rank (int): Columns of the first matrix.
        generator (torch.Generator): Draws the other one.
    """

    def __init__(self, weight, rank, generator):
        super().__init__()
        rows, columns = weight.flatten(1).shape
        down = torch.randn(rank, columns, generator=generator) / columns**0.5
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))

    def forward(self, weight):
        return weight + (self.up @ self.down).view_as(weight)


def add_lora(net, rank=4, seed=0):
    """Add an adapter to every linear layer and every convolution that is not depthwise; in place.

    Source: Hu et al., LoRA (ICLR 2022); that it undoes unlearning: ForgetGate (ours: for restorers).

    Args:
        net (nn.Module): Restorer.
        rank (int): Of the adapters. Default: 4.
        seed (int): Of their first values. Default: 0.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in list(net.modules()):
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            parametrize.register_parametrization(module, 'weight', LowRank(module.weight, rank, generator))
