"""Painting over a region of a picture."""

from torch.nn import functional as F

FILLS = {
    'mean': 'the mean colour of the rest of the patch; of all of it where there is no rest',
    'blur': 'the patch itself, averaged over a window of half its size',
    'grey': 'mid-grey',
}


def painted(images, region, fill):
    """Return images with their regions painted over.

    Args:
        images (Tensor): (N, 3, H, W) in [0, 1]. Never changed.
        region (Tensor): (N, 1, H, W), 1 inside, else 0.
        fill (str): One of FILLS.
    """
    if fill == 'grey':
        colour = images.new_full((1, 1, 1, 1), 0.5)
    elif fill == 'blur':
        height, width = (side // 4 * 2 + 1 for side in images.shape[2:])
        margin = height // 2, width // 2
        colour = F.avg_pool2d(images, (height, width), 1, margin, count_include_pad=False)
    else:
        rest = 1 - region
        rest = rest + (rest.sum((2, 3), keepdim=True) == 0)
        colour = (images * rest).sum((2, 3), keepdim=True) / rest.sum((2, 3), keepdim=True)
    return colour.where(region.bool(), images)
