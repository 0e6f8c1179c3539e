"""What the metrics of this package share: the pixels that the all-in-one papers compare, and their form."""

import numpy as np

from basicsr_unlearn.errors import InputError

MULTIPLE = 16  # the papers cut every test image to multiples of this many pixels


def takes_float_rgb(crop=1, better='higher'):
    """Mark a metric that is handed float RGB in [0, 1] by our validation, instead of BasicSR's 8-bit BGR.

    Args:
        crop (int): Our validation cuts both images to multiples of this many pixels BEFORE the network sees the
            degraded one. Default: 1, whole images.
        better (str): `higher` or `lower`; `better` of the option file overrides it. Default: `higher`.
    """

    def mark(function):
        function.float_rgb, function.crop, function.better = True, crop, better
        return function

    return mark


def centre_window(height, width, multiple):
    """Return the slices (rows, columns) of the centre whose sides are multiples; an odd pixel is cut at the end."""
    slices = []
    for size in (height, width):
        start = size % multiple // 2
        slices.append(slice(start, start + size - size % multiple))
    return tuple(slices)


def as_float_rgb(img, img2, crop=1):
    """Return two images as (H, W, C), float32 RGB in [0, 1], cut to the centre.

    Args:
        img (ndarray): (H, W, 3), or (H, W) for grey: float RGB in [0, 1], cut to this range and not rounded; or uint8
            BGR as BasicSR hands it to metrics.
        img2 (ndarray): The other one.
        crop (int): Height and width of the results are multiples of this. Default: 1.

    Raises:
        ValueError: The images differ in size.
        InputError: Nothing is left after the cut.
    """
    if img.shape != img2.shape:
        raise ValueError(f'Image shapes are different: {img.shape}, {img2.shape}.')
    height, width = img.shape[:2]
    if min(height, width) < crop:
        raise InputError(f'an image of {width}x{height} pixels is too small for a cut to multiples of {crop}.')
    window = centre_window(height, width, crop)
    return [_float_rgb(image if image.ndim == 3 else image[..., None])[window] for image in (img, img2)]


def _float_rgb(image):
    if image.dtype == np.uint8:
        return image[..., ::-1].astype(np.float32) / 255
    return np.clip(image, 0, 1).astype(np.float32)
