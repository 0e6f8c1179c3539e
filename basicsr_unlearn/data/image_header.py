"""The look at an image before OpenCV decodes it: what it is, and whether all of it is there.

OpenCV says little. Depending on its version it fills what is missing of a file with grey, it takes grey, alpha and
16 bits for RGB of 8 bits without a word, and it knows no limit of size. Sources: W3C, Portable Network Graphics; ITU-T
T.81 (JPEG), annex B.
"""

import io
import re
import struct
import zlib
from os import path as osp

from PIL import Image

from basicsr_unlearn.errors import InputError

FORMATS = ('JPEG', 'MPO', 'PNG', 'BMP', 'TIFF', 'WEBP')  # MPO: a JPEG of a telephone, with previews behind it
SERIES = ('PNG', 'TIFF', 'WEBP')  # may hold several pictures
KINDS = {  # Pillow's modes, in words; all others (CMYK, LAB, ...) by Pillow's name
    '1': 'black and white',
    'L': 'grey',
    'LA': 'grey with alpha',
    'RGBA': 'RGB with alpha',
    'F': 'floating-point',
    'I': '32-bit',
    'I;16': '16-bit grey',
    'I;16B': '16-bit grey',
}
UNREADABLE = (  # what Pillow says of a bad image
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
ORIENTATION, BITS_PER_SAMPLE, TURNED = 0x0112, 258, 5  # tags of EXIF and TIFF; from 5 on height and width change places
REMEDY = 'Replace it or take it out of the data set.'
_MARKER = re.compile(rb'\xff[\x01-\xcf\xd8-\xfe]')  # in a JPEG; FF 00 and FF D0 to FF D7 are part of the pixels


class ImageFault(InputError):
    """An image that cannot be used: the one kind of bad input that `on_error: skip` leaves out.

    Args:
        text (str): The line that is shown.
        path (str): The file, or the key and its LMDB.
    """

    def __init__(self, text, path=''):
        super().__init__(text)
        self.path = path


def unreadable(name, reason):
    """Return the ImageFault of an image that cannot be decoded."""
    return ImageFault(f'{name}: cannot be read as an image: {reason}. {REMEDY}', name)


def check_file(path, pixels=False):
    """Check the header of an image file, or with `pixels` all of it.

    Returns:
        tuple(int, int): Width and height in pixels.

    Raises:
        ImageFault: As check_bytes, and for a file that is not there.
    """
    if pixels:
        return check_bytes(read_file(path), path, pixels)
    _check_kind(path)
    return _check_header(path, path)


def read_file(path):
    """Return the bytes of a file; ImageFault says why it cannot be read."""
    _check_kind(path)
    try:
        with open(path, 'rb') as file:
            return file.read()
    except OSError as error:
        raise unreadable(path, _reason(error)) from None


def _check_kind(path):
    if osp.exists(path) and not osp.isfile(path):  # a pipe would be waited for
        raise unreadable(path, 'is no file')


def check_bytes(content, name, pixels=False):
    """Check that an image is whole, and what a training takes: RGB of 8 bits without alpha.

    A palette of such colours will do. Damage inside the pixels is found by the checksums of a PNG, and by decoding a
    TIFF; JPEG, BMP, WebP and PPM have none.

    Args:
        content (bytes): The whole file.
        name (str): Named in errors.
        pixels (bool): Decode all of it as well, with Pillow. Default: False.

    Returns:
        tuple(int, int): Width and height in pixels, as EXIF turns them.

    Raises:
        ImageFault: It is not.
    """
    return _check_header(io.BytesIO(content), name, content, pixels)


def _check_header(file, name, content=None, pixels=False):
    try:
        with Image.open(file) as image:
            fault = _fault(image)
            if fault:
                raise ImageFault(
                    f'{name}: is {fault} Convert it to RGB of 8 bits, or take it out of the data set.', name
                )
            damage = content and _damage(content, image.format)
            if damage:
                raise unreadable(name, damage)
            if pixels or (content and image.format == 'TIFF'):
                image.load()
            return _turned_size(image)
    except ImageFault:
        raise
    except Image.UnidentifiedImageError:
        raise unreadable(name, 'of no known kind, or its beginning is missing') from None
    except UNREADABLE as error:
        raise unreadable(name, _reason(error)) from None


def _reason(error):
    text = getattr(error, 'strerror', None) or ' '.join(str(error).split()).rstrip('.')
    return text or type(error).__name__


def _fault(image):
    if image.format not in (*FORMATS, 'PPM'):
        return f'a {image.format} file; JPEG, PNG, BMP, TIFF, WebP and PPM are read.'
    frames = number_of_pictures(image)
    if frames > 1:
        return f'animated or of several pages ({frames}).'
    if image.mode not in ('RGB', 'P'):
        return f'{KINDS.get(image.mode, image.mode)}, and not RGB.'
    if 'transparency' in image.info:
        return 'partly transparent.'
    bits = sample_bits(image)
    return f'of {bits} bits.' if bits > 8 else None


def number_of_pictures(image):
    """Return how many pictures an open file holds: frames, pages; the previews of an MPO do not count."""
    return getattr(image, 'n_frames', 1) if image.format in SERIES else 1


def sample_bits(image):
    """Return the bits of a sample of an open image. Pillow itself reads 16-bit colour as 8 bits."""
    if image.format == 'PNG':
        position = image.fp.tell()
        image.fp.seek(24)
        bits = image.fp.read(1)[0]
        image.fp.seek(position)
        return bits
    if image.format == 'PPM' and image.tile[0].codec_name != 'raw':
        return 16 if image.tile[0].args[-1] > 255 else 8
    return max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))) if image.format == 'TIFF' else 8


def _turned_size(image):
    """Return the size that OpenCV will give: it turns images as EXIF says. Pillow itself turns TIFF."""
    turned = image.format != 'TIFF' and 'exif' in image.info and image.getexif().get(ORIENTATION, 1) >= TURNED
    return image.size[::-1] if turned else image.size


def _damage(content, kind):
    return _png_damage(content) if kind == 'PNG' else _jpeg_damage(content) if kind in ('JPEG', 'MPO') else None


def _png_damage(content):
    """Walk through the chunks to the last one, and compare their checksums."""
    view, position = memoryview(content), 8
    while True:
        end = position + 8 + int.from_bytes(view[position : position + 4], 'big')
        if end + 4 > len(view):
            return 'it is truncated'
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], 'big'):
            return 'it is damaged (wrong checksum)'
        if view[position + 4 : position + 8] == b'IEND':
            return None
        position = end + 4


def _jpeg_damage(content):
    """Walk through the segments to the end of the image; a preview inside a segment has an end of its own."""
    found = _MARKER.search(content, 2)
    while found and found[0] != b'\xff\xd9':
        length = int.from_bytes(content[found.end() : found.end() + 2], 'big')
        found = _MARKER.search(content, found.end() + length)
    return None if found else 'it is truncated'
