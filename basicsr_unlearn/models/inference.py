"""Restoring images of any size: padding to the network's multiple, and tiles."""

import torch
from torch.nn import functional as F

TILES_AT_ONCE = 8


def restore(net, image, tile=None, overlap=32):
    """Run a network on an image of any size.

    Args:
        net (nn.Module): Restorer; its `size_multiple` (1 if absent) divides the sizes that it takes.
        image (Tensor): (N, C, H, W) in [0, 1].
        tile (int): Cut the image into tiles of this many pixels, for little memory, or where the network was trained on
            patches and knows no larger image (its attention and prompts look at the whole of what they are given).
            Default: None, the whole image at once.
        overlap (int): Pixels that neighbouring tiles share; there they are blended linearly. Default: 32.

    Returns:
        Tensor: The same shape.
    """
    if tile is None or max(image.shape[-2:]) <= tile:
        return _restore_padded(net, image)
    height, width = (min(tile, size) for size in image.shape[-2:])
    corners = [
        (top, left)
        for top in _starts(image.shape[-2], height, overlap)
        for left in _starts(image.shape[-1], width, overlap)
    ]
    window = (_ramp(height, overlap)[:, None] * _ramp(width, overlap)).to(image)
    total, weight = torch.zeros_like(image), torch.zeros_like(image[:1, :1])
    for first in range(0, len(corners), TILES_AT_ONCE):
        group = corners[first : first + TILES_AT_ONCE]
        tiles = torch.cat([image[..., top : top + height, left : left + width] for top, left in group])
        results = _restore_padded(net, tiles).split(len(image))
        for (top, left), result in zip(group, results, strict=True):
            total[..., top : top + height, left : left + width] += result * window
            weight[..., top : top + height, left : left + width] += window
    return total / weight


def _restore_padded(net, image):
    """Pad at right and bottom by reflection (by repetition where the image is too small), and cut the result back."""
    multiple = getattr(net, 'size_multiple', 1)
    height, width = image.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return net(image)
    mode = 'reflect' if down < height and right < width else 'replicate'
    return net(F.pad(image, (0, right, 0, down), mode=mode))[..., :height, :width]


def _starts(size, tile, overlap):
    """Return where tiles start so that they cover `size` pixels, the last one flush with the end."""
    return [*range(0, size - tile, tile - overlap), size - tile]


def _ramp(tile, overlap):
    """Return weights that rise linearly over the overlap at both ends."""
    distance = torch.arange(1, tile + 1).float()
    distance = torch.minimum(distance, distance.flip(0))
    return (distance / (overlap + 1)).clamp(max=1)
