"""Patches of images: the same square, flips and turns for all images of a pair."""

from basicsr_unlearn.data.image_header import ImageFault
from basicsr_unlearn.data.regions import region_mask


def check_sizes(paths, sizes, patch=None):
    """Raise ImageFault unless the images of a pair have one size, which holds the patch; the file is named.

    Args:
        paths (tuple[str]): The degraded and the clean file, or one file.
        sizes (list[tuple]): Width and height of each.
        patch (int): `gt_size` in pixels, or None.
    """
    width, height = sizes[0]
    if len(set(sizes)) > 1:
        raise ImageFault(
            f'{paths[0]}: {width}x{height} pixels, but its clean image {paths[1]} has {sizes[1][0]}x{sizes[1][1]}. '
            'The two images of a pair must have one size.',
            paths[0],
        )
    if patch and min(width, height) < patch:
        text = f'{paths[0]}: {width}x{height} pixels are smaller than gt_size: {patch}. Lower gt_size.'
        raise ImageFault(text, paths[0])


def random_crop(images, rng, size, path, boxes=()):
    """Cut the same random square out of images of one size; the whole images if `size` is None.

    Args:
        images (Sequence[ndarray]): Each (H, W, C).
        rng (numpy.random.Generator): Says where.
        size (int): In pixels.
        path (str): Named in errors.
        boxes (Sequence[tuple]): Of regions.py. With any, the square holds a pixel of one of them, each as likely, and
            their mask comes behind the images. Default: none.

    Raises:
        ImageFault: They are smaller than `size`.
    """
    height, width = images[0].shape[:2]
    if boxes:
        images = [*images, region_mask(boxes, height, width)]
    if size is None:
        return images
    check_sizes((path,), [(width, height)], size)
    if boxes:
        x, y, w, h = boxes[rng.integers(len(boxes))]
        top, left = _around(y + rng.integers(h), height, size, rng), _around(x + rng.integers(w), width, size, rng)
    else:
        top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    return [image[top : top + size, left : left + size] for image in images]


def _around(pixel, length, size, rng):
    """Return where `size` of `length` pixels may begin so that a pixel is among them."""
    return rng.integers(max(0, pixel - size + 1), min(pixel, length - size) + 1)


def augment(images, rng, flip, rotate):
    """Flip and turn all images alike: `flip` left-right, `rotate` up-down and by 90 degrees, each with chance 1/2."""
    mirror, upside, turn = rng.random(3) < 0.5
    for number, image in enumerate(images):
        if flip and mirror:
            image = image[:, ::-1]
        if rotate and upside:
            image = image[::-1]
        if rotate and turn:
            image = image.transpose(1, 0, 2)
        images[number] = image
    return images
