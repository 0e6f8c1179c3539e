"""Any size, with and without tiles; what tiles may change and what they must not."""

import pytest
import torch
from conftest import make_net
from torch import nn
from torch.nn import functional as F

from basicsr_unlearn.models.inference import measuring, restore


def local_net(radius):
    """Convolutions that look `radius` pixels far, with zero padding: at the edge of a tile they are wrong."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(radius)]
    return nn.Sequential(*layers).requires_grad_(False)


class Strided(nn.Module):
    """A local network that works at an eighth of the resolution: tiles must start at multiples of eight."""

    size_multiple = 8

    def forward(self, x):
        small = F.pixel_unshuffle(x, 8)
        return F.pixel_shuffle(small * torch.arange(small.shape[1])[:, None, None], 8)


def test_padding_is_cut_off_again():
    net, x = make_net(), torch.rand(1, 3, 21, 35)
    padded = F.pad(x, (0, 5, 0, 3), mode='reflect')
    with torch.no_grad():
        assert torch.equal(restore(net, x), net(padded)[..., :21, :35])
        assert restore(net, x[..., :3, :2]).shape == (1, 3, 3, 2)
        assert torch.equal(restore(net, x[..., :16, :32]), net(x[..., :16, :32]))


@pytest.mark.parametrize('size', [(9, 9), (9, 70), (33, 31), (1, 1)])
@pytest.mark.parametrize('tile', [None, 16])
def test_odd_sizes(size, tile):
    x = torch.rand(1, 3, *size)
    with torch.no_grad():
        result = restore(make_net(), x, tile, 8)
    assert result.shape == x.shape and result.isfinite().all()


@pytest.mark.parametrize('size, tile, overlap', [((40, 72), 32, 8), ((57, 90), 24, 16), ((16, 61), 32, 13)])
def test_tiles_are_exact_for_local_networks(size, tile, overlap):
    """A network that looks no further than a quarter of the overlap does not notice the tiles."""
    net, x = local_net(overlap // 4), torch.rand(2, 3, *size)
    assert torch.allclose(restore(net, x, tile, overlap), net(x), atol=1e-6)


def test_a_network_that_looks_further_notices():
    net, x = local_net(6), torch.rand(1, 3, 40, 72)
    assert not torch.allclose(restore(net, x, 32, 8), net(x), atol=1e-4)


@pytest.mark.parametrize('size, tile, overlap', [((40, 72), 32, 8), ((41, 93), 28, 5)])
def test_tiles_start_at_multiples(size, tile, overlap):
    x = torch.rand(1, 3, *size)
    assert torch.allclose(restore(Strided(), x, tile, overlap), restore(Strided(), x), atol=1e-4)


@pytest.mark.parametrize('tile, overlap, multiple', [(64, 32, 64), (96, 32, 64), (40, 32, 32), (8, 7, 8), (9, 2, 8)])
def test_any_overlap_covers_the_image(tile, overlap, multiple):
    x = torch.rand(1, 3, 150, 170)
    assert torch.allclose(restore(lambda image: image, x, tile, overlap, multiple), x, atol=1e-6)


def test_memory_is_bounded_by_the_tile():
    sizes = []

    def identity(tiles):
        sizes.append(tiles.shape)
        return tiles

    x = torch.rand(1, 3, 300, 500)
    assert torch.allclose(restore(identity, x, 200, 20), x, atol=1e-6)
    assert {tuple(size) for size in sizes} == {(1, 3, 200, 200)}
    sizes.clear()
    restore(identity, x, 64, 16)
    assert max(size[0] for size in sizes) == 8 and all(size[2:] == (64, 64) for size in sizes)


def test_seams_are_smooth():
    """Tiles of different brightness meet in a ramp: no step larger than one part of it."""
    number = iter(range(100))

    def brightness(tiles):
        return torch.stack([torch.full_like(tile, next(number) % 2) for tile in tiles])

    result = restore(brightness, torch.zeros(1, 3, 32, 200), 40, 16)
    steps = result.diff(dim=-1).abs()
    assert result.min() == 0 and result.max() == 1
    assert steps.max() < 1 / 8


def test_measuring_leaves_the_mode_as_it_was():
    net = make_net().train()
    with pytest.raises(KeyError), measuring(net):
        assert not net.training and not torch.is_grad_enabled()
        raise KeyError
    assert net.training and torch.is_grad_enabled()
