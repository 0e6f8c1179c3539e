"""Restoring images of any size: padding to the network's multiple, and tiles; how networks are measured."""

from contextlib import contextmanager

import torch
from torch.nn import functional as F
from tqdm import tqdm

from basicsr.utils.dist_util import get_dist_info
from basicsr_unlearn.errors import InputError

AT_ONCE = 8 * 64**2  # pixels: tiles smaller than this go through the network together


@contextmanager
def measuring(net):
    """Evaluation mode, no gradient, and not compiled (every new size would compile anew); then as it was."""
    training = net.training
    net.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance('force_eager'):
            yield
    finally:
        net.train(training)


def restore(net, image, tile=None, overlap=32, multiple=None):
    """Run a network on an image of any size.

    Tiles overlap; of the overlap, the outer quarter of each tile is dropped and the middle half is blended linearly. So
    a network whose outputs depend on no more than `overlap // 4` pixels around gives exactly what it gives for the
    whole image. Networks that look at all of what they are given, as most restorers do, give something else.

    Args:
        net (nn.Module): Restorer.
        image (Tensor): (N, C, H, W) in [0, 1].
        tile (int): Cut the image into tiles of this many pixels, for little memory, or where the network was trained on
            patches and knows no larger image (its attention and prompts look at the whole of what they are given).
            Default: None, the whole image at once.
        overlap (int): Pixels that neighbouring tiles share at least (fewer where the tile is not larger than overlap
            and multiple together). Default: 32.
        multiple (int): The sizes that the network takes are multiples of it, and so are the places of the tiles.
            Default: None, the network's `size_multiple` or (SwinIR) `window_size`, 1 if it has neither.

    Returns:
        Tensor: The same shape.

    Raises:
        InputError: The network gives another size than it takes.
    """
    height, width = image.shape[-2:]
    multiple = multiple or getattr(net, 'size_multiple', getattr(net, 'window_size', 1))
    image = _pad(image, multiple)
    if tile is None or max(height, width) <= tile:
        return _run(net, image)[..., :height, :width]
    tile = max(tile - tile % multiple, multiple)
    rows, columns = (_places(size, tile, overlap, multiple) for size in image.shape[-2:])
    corners = [(top, left) for top in rows for left in columns]
    tall, wide = (min(tile, size) for size in image.shape[-2:])
    group = max(1, AT_ONCE // (tall * wide * len(image)))
    total, weight = torch.zeros_like(image), torch.zeros_like(image[:1, :1])
    quiet = True if get_dist_info()[0] else None  # None: only on a terminal
    with tqdm(total=len(corners), desc='tiles', unit='tile', leave=False, delay=2, disable=quiet) as bar:
        for first in range(0, len(corners), group):
            chosen = corners[first : first + group]
            tiles = torch.cat([image[..., top : top + tall, left : left + wide] for top, left in chosen])
            for (top, left), result in zip(chosen, _run(net, tiles).split(len(image)), strict=True):
                window = rows[top].unsqueeze(1) * columns[left]
                window = window.to(image)
                total[..., top : top + tall, left : left + wide] += result * window
                weight[..., top : top + tall, left : left + wide] += window
            bar.update(len(chosen))
    return (total / weight)[..., :height, :width]


def _run(net, image):
    result = net(image)
    if result.shape != image.shape:
        found, expected = ('x'.join(map(str, shape[1:])) for shape in (result.shape, image.shape))
        raise InputError(f'network_g: {type(net).__name__} makes {found} of {expected}; it has to keep the size.')
    return result


def _pad(image, multiple):
    """Pad at right and bottom by reflection, by repetition where the image is too small for that."""
    height, width = image.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return image
    mode = 'reflect' if down < height and right < width else 'replicate'
    return F.pad(image, (0, right, 0, down), mode=mode)


def _places(size, tile, overlap, multiple):
    """Return {start of a tile: weights along it}; starts are multiples, the last tile is flush with the end."""
    if size <= tile:
        return {0: torch.ones(size)}
    step = max((tile - overlap) // multiple * multiple, multiple)
    overlap = min(overlap, tile - step)  # less than asked for where tile and multiple leave no more
    starts = [*range(0, size - tile, step), size - tile]
    margin, blend = overlap // 4, overlap - 2 * (overlap // 4)
    ramp = ((torch.arange(tile) - margin + 1) / (blend + 1)).clamp(0, 1)  # rises over the middle of the overlap
    weights = {}
    for start in starts:
        weights[start] = torch.ones(tile)
        if start > 0:
            weights[start] = torch.minimum(weights[start], ramp)
        if start < size - tile:
            weights[start] = torch.minimum(weights[start], ramp.flip(0))
    return weights
