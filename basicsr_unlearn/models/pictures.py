"""Pictures of users, read and written with nothing lost that a network does not touch.

Kept: 8 or 16 bits, grey, alpha, the colour profile. Done: the turn that EXIF asks for. Dropped: all other metadata.
"""

import dataclasses
import os
import struct
import zlib

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from basicsr_unlearn.atomic import atomic
from basicsr_unlearn.data.image_header import (
    FORMATS,
    KINDS,
    ORIENTATION,
    UNREADABLE,
    number_of_pictures,
    sample_bits,
)
from basicsr_unlearn.errors import InputError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
MODES = {  # Pillow's: what it is read as, and what where one colour is declared transparent
    '1': ('L', 'LA'),
    'L': ('L', 'LA'),
    'LA': ('LA', 'LA'),
    'P': ('RGB', 'RGBA'),
    'PA': ('RGBA', 'RGBA'),
    'RGB': ('RGB', 'RGBA'),
    'RGBA': ('RGBA', 'RGBA'),
    'RGBX': ('RGB', 'RGB'),
    'YCbCr': ('RGB', 'RGB'),
}
SIXTEEN = ('I;16', 'I;16B', 'I;16L', 'I;16N')  # Pillow's modes of 16-bit grey; 16-bit colour it calls RGB or RGBA
UPRIGHT = 1  # value of ORIENTATION
UNUSUAL = ((284, 2), (262, 0))  # TIFF: planar configuration, photometric interpretation; OpenCV ignores them
PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels: grey, grey with alpha, RGB, RGBA


@dataclasses.dataclass
class Picture:
    """A picture in memory.

    Attributes:
        colour (ndarray): (H, W, 3) RGB, or (H, W, 1) grey; uint8 or uint16.
        alpha (ndarray): (H, W, 1) of the same type, or None.
        profile (bytes): ICC profile, or None.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    profile: bytes | None = None

    def to_tensor(self):
        """Return (1, 3, H, W), float32 in [0, 1]; grey becomes three equal channels."""
        colour = self.colour.astype(np.float32) / np.iinfo(self.colour.dtype).max
        return torch.from_numpy(np.ascontiguousarray(colour.transpose(2, 0, 1)))[None].expand(-1, 3, -1, -1)

    def with_colour(self, result):
        """Return this picture with the colour of (1, 3, H, W), cut to [0, 1] and rounded; for grey the channels' mean.

        Depth, alpha and profile stay as they are.
        """
        colour = result[0].float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        if self.colour.shape[2] == 1:
            colour = colour.mean(axis=2, keepdims=True)
        kind = self.colour.dtype
        return dataclasses.replace(self, colour=np.round(colour * np.iinfo(kind).max).astype(kind))

    def to_8_bits(self):
        """Return the colour as (H, W, 3) uint8 RGB, for sheets."""
        colour = np.round(self.colour / 257).astype(np.uint8) if self.colour.dtype == np.uint16 else self.colour
        return np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour


def read_picture(path, pixels=True):
    """Read a JPEG, PNG, BMP, TIFF or WebP file of 8 or 16 bits: colour, grey or palette, with alpha or without.

    Args:
        path (str): The file.
        pixels (bool): False looks at the header only, and returns None. Default: True.

    Returns:
        Picture: Turned as EXIF says; a palette is resolved; 1, 2 and 4 bits become 8.

    Raises:
        InputError: Unreadable, truncated, or of a kind that would lose something; the file is named.
    """
    try:
        with Image.open(path) as image:
            bits = sample_bits(image)
            _check_kind(path, image, bits)
            if not pixels:
                return None
            image.load()  # finds what is truncated; OpenCV would fill it with grey
            samples = _read_16_bits(path) if bits == 16 else _read_8_bits(image)
            profile = image.info.get('icc_profile')
    except InputError:
        raise
    except (*UNREADABLE, cv2.error) as error:
        reason = 'no picture, or of an unknown kind' if isinstance(error, Image.UnidentifiedImageError) else error
        raise InputError(f'{path}: cannot be read as a picture ({reason}).') from None
    colours = samples.shape[2] - 1 + samples.shape[2] % 2  # 1, 1, 3, 3
    return Picture(samples[..., :colours], samples[..., colours:] if samples.shape[2] > colours else None, profile)


def _check_kind(path, image, bits):
    fault = None
    if image.format not in FORMATS:
        fault = f'a {image.format} file; JPEG, PNG, BMP, TIFF and WebP can be restored.'
    elif number_of_pictures(image) > 1:
        fault = f'animated or of several pages ({image.n_frames}). Save the ones to restore as single pictures.'
    elif image.mode not in MODES and image.mode not in SIXTEEN:
        kind = KINDS.get(image.mode, image.mode)
        fault = f'a {kind} picture; networks restore RGB and grey of 8 or 16 bits. Convert it first.'
    elif bits not in (1, 2, 4, 8, 16) or (image.mode in SIXTEEN and bits != 16):
        fault = f'a picture of {bits} bits; 8 and 16 can be restored. Convert it first.'
    elif bits == 16 and image.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT:
        fault = 'a 16-bit picture that EXIF says to turn. Save it upright first.'
    elif bits == 16 and image.format == 'TIFF' and any(image.tag_v2.get(tag) == value for tag, value in UNUSUAL):
        fault = 'a 16-bit TIFF of separate planes, or whose zero is white. Save it as a 16-bit PNG first.'
    if fault:
        raise InputError(f'{path}: is {fault}')


def _read_8_bits(image):
    image = ImageOps.exif_transpose(image)
    image = image.convert(MODES[image.mode]['transparency' in image.info])
    samples = np.array(image)
    return samples if samples.ndim == 3 else samples[..., None]


def _read_16_bits(path):
    """Return (H, W, 1 to 4) uint16: grey, grey and alpha, RGB, RGBA."""
    samples = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16:
        raise InputError(f'{path}: cannot be read as 16-bit whole numbers. Save it as a 16-bit PNG first.')
    if samples.ndim == 2:
        return samples[..., None]
    with open(path, 'rb') as file:
        header = file.read(26)
    if samples.shape[2] == 4 and header.startswith(b'\x89PNG') and header[25] == PNG_COLOUR_TYPES[2]:
        return samples[..., [0, 3]]  # OpenCV makes RGBA of grey with alpha
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]] if samples.shape[2] > 2 else samples


def write_png(path, picture):
    """Write a PNG file: at `path` is the whole picture or none.

    Written here because Pillow writes no 16-bit colour, and OpenCV neither grey with alpha nor profiles. Source: W3C,
    Portable Network Graphics; every row is stored as differences to the left (filter 1).

    Args:
        path (str): Folders on the way are created.
        picture (Picture): 8 or 16 bits, any number of channels.

    Raises:
        InputError: The file cannot be written.
    """
    samples = picture.colour if picture.alpha is None else np.concatenate([picture.colour, picture.alpha], axis=2)
    height, width, channels = samples.shape
    big_endian = np.ascontiguousarray(samples, samples.dtype.newbyteorder('>'))
    rows, step = big_endian.view(np.uint8).reshape(height, -1), channels * samples.itemsize
    stored = np.ones((height, 1 + rows.shape[1]), np.uint8)
    stored[:, 1:] = rows
    stored[:, 1 + step :] -= rows[:, :-step]
    header = struct.pack('>IIBBBBB', width, height, 8 * samples.itemsize, PNG_COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [(b'IHDR', header), (b'IDAT', zlib.compress(stored, 6)), (b'IEND', b'')]
    if picture.profile:
        chunks.insert(1, (b'iCCP', b'ICC profile\0\0' + zlib.compress(picture.profile)))

    def write(temporary):
        with open(temporary, 'wb') as file:
            file.write(b'\x89PNG\r\n\x1a\n')
            for kind, content in chunks:
                file.write(struct.pack('>I', len(content)) + kind + content)
                file.write(struct.pack('>I', zlib.crc32(content, zlib.crc32(kind))))

    try:
        os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
        atomic(path, write)
    except OSError as error:
        raise InputError(f'{path}: cannot be written ({error.strerror}).') from None
