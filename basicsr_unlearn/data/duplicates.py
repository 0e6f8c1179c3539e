"""Which images are there twice: copies of a file, and the same picture resized, recompressed or a little brighter."""

import dataclasses
import hashlib

import cv2
import numpy as np

DISTANCE = 4  # bits of 64 that two sketches of one picture differ in at most; they differ in even numbers
FLAT = 2.0  # grey levels: standard deviation below which an image has nothing to tell it by
AT_ONCE = 1 << 22  # pairs of sketches compared in one step
BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


@dataclasses.dataclass(frozen=True)
class Print:
    """What tells an image: its size, a digest of its pixels, and a sketch of the picture (None: it is flat)."""

    width: int
    height: int
    digest: bytes
    sketch: int | None


def print_of(image):
    """Return the Print of an image (H, W, 3), float32 in [0, 1], BGR.

    The sketch is a perceptual hash of 64 bits: the signs of the low frequencies of a cosine transform of 32x32 grey
    pixels (without the row and column of the mean) about their median.
    """
    height, width = image.shape[:2]
    pixels = np.round(image * 255).astype(np.uint8)
    digest = pixel_digest(pixels)
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    if small.std() * 255 < FLAT:
        return Print(width, height, digest, None)
    frequencies = cv2.dct(small)[1:9, 1:9].ravel()
    signs = np.packbits(frequencies > np.median(frequencies))
    return Print(width, height, digest, int(signs.view('>u8')[0]))


def pixel_digest(pixels):
    """Return 16 bytes that tell the pixels of an image (H, W, 3), uint8, whatever file holds them."""
    return hashlib.sha256(pixels.tobytes() + bytes(f'{pixels.shape}', 'ascii')).digest()[:16]


def copies(first, second):
    """Find the images of one list that are in another one too, or twice in one list.

    Args:
        first, second (dict): `{key: (owner, Print)}`; images of one owner are no copies of each other.

    Returns:
        dict: Key of `first` to (key of `second`, whether its pixels are the same), the same pixels before a like
        picture, and then the first of `second`.
    """
    found = {}
    exact = _first_two(second, lambda image: image.digest)
    like = _first_two(second, lambda image: image.sketch)
    partners = _partners([image.sketch for _, image in first.values()], [key for key in like if key is not None])
    for key, (owner, image) in first.items():
        candidates = [(other, True) for other in exact.get(image.digest, {}).items()]
        candidates += [(other, False) for sketch in partners.get(image.sketch, ()) for other in like[sketch].items()]
        match = next(((other, same) for (other_owner, other), same in candidates if other_owner != owner), None)
        if match:
            found[key] = match
    return found


def _first_two(images, value_of):
    """Return `{value: {owner: key}}` with the first image of two owners: enough to find one that is not one's own."""
    table = {}
    for key, (owner, image) in images.items():
        entry = table.setdefault(value_of(image), {})
        if len(entry) < 2:
            entry.setdefault(owner, key)
    return table


def _partners(first, second):
    """Return `{sketch: [sketches of the second list that are near]}`, the nearest first."""
    first = np.array(sorted({sketch for sketch in first if sketch is not None}), np.uint64)
    second = np.array(second, np.uint64)
    rows, columns, distances = near(first, second)
    table = {}
    for position in np.lexsort((columns, distances)):
        table.setdefault(int(first[rows[position]]), []).append(int(second[columns[position]]))
    return table


def near(first, second, distance=DISTANCE):
    """Find the pairs of 64-bit numbers that differ in few bits, without comparing all of them.

    Of `distance + 1` bands of bits one is the same in such a pair; only numbers that share a band are compared.

    Args:
        first, second (ndarray): (N,) and (M,), uint64.
        distance (int): Bits. Default: 4.

    Returns:
        tuple[ndarray]: Index in `first`, index in `second` and number of bits of every pair.
    """
    edges = np.linspace(0, 64, distance + 2).astype(int)
    found = [np.zeros((3, 0), np.int64)]
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        bands = [numbers >> np.uint64(low) & np.uint64((1 << int(high - low)) - 1) for numbers in (first, second)]
        order = np.argsort(bands[1], kind='stable')
        starts, ends = (np.searchsorted(bands[1][order], bands[0], side) for side in ('left', 'right'))
        before = np.concatenate([[0], np.cumsum(ends - starts)])  # pairs before each row
        start = 0
        while start < len(first):
            stop = max(start + 1, int(np.searchsorted(before, before[start] + AT_ONCE, 'right')) - 1)
            counts = (ends - starts)[start:stop]
            rows = np.repeat(np.arange(start, stop), counts)
            offsets = np.repeat(starts[start:stop] - before[start:stop] + before[start], counts)
            columns = order[np.arange(len(rows)) + offsets]
            bits = BITS[(first[rows] ^ second[columns]).view(np.uint8)].reshape(-1, 8).sum(1, dtype=np.int64)
            close = bits <= distance
            found.append(np.stack([rows[close], columns[close], bits[close]]))
            start = stop
    return tuple(np.unique(np.concatenate(found, 1), axis=1))
