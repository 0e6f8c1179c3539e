"""Restoring images of any size with networks that take multiples of some number."""

from torch.nn import functional as F


def restore(net, image):
    """Run a network on an image of any size.

    Args:
        net (nn.Module): Restorer; its `size_multiple` (1 if absent) divides the sizes that it takes.
        image (Tensor): (N, C, H, W) in [0, 1].

    Returns:
        Tensor: The same shape. The image is padded at right and bottom by reflection (by repetition of the edge where
        it is too small to reflect), and the result is cut back.
    """
    multiple = getattr(net, 'size_multiple', 1)
    height, width = image.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return net(image)
    mode = 'reflect' if down < height and right < width else 'replicate'
    return net(F.pad(image, (0, right, 0, down), mode=mode))[..., :height, :width]
