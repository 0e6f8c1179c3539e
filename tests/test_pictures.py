"""Every kind of picture through `basicsr restore`: values, and what stays as it was."""

# ruff: noqa: F811
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import make_net
from PIL import Image, ImageCms
from test_restore import home, noise, restore, unchanged  # noqa: F401

from basicsr_unlearn.models import inference, pictures
from basicsr_unlearn.models.pictures import Picture, read_picture, write_png


def by_network(colour, **tiles):
    """Run the network of `weights` on (H, W, 3) in [0, 1] by itself; return (H, W, 3) cut to [0, 1]."""
    image = torch.tensor(colour.transpose(2, 0, 1)[None], dtype=torch.float32)
    with torch.no_grad():
        result = inference.restore(make_net().eval(), image, **tiles)
    return result[0].clamp(0, 1).permute(1, 2, 0).numpy()


@pytest.mark.parametrize('size', [(9, 9), (33, 47), (48, 16), (1, 5)])
def test_sizes_and_values(home, size):
    image = noise(*size)
    Image.fromarray(image).save('in/a.png')
    assert restore() == 0
    result = np.array(Image.open('out/a.png'))
    assert np.array_equal(result, np.round(by_network(image / 255) * 255).astype(np.uint8))


def test_tiles_of_the_option_file(home):
    image = noise(40, 70)
    Image.fromarray(image).save('in/a.png')
    tree = yaml.safe_load((home / 'net.yml').read_text())
    (home / 'net.yml').write_text(yaml.safe_dump({**tree, 'val': {'tile': 32, 'tile_overlap': 8}}))
    assert restore() == 0
    expected = by_network(image / 255, tile=32, overlap=8) * 255
    assert np.abs(np.array(Image.open('out/a.png')) - expected).max() < 0.51
    assert np.abs(expected - by_network(image / 255) * 255).max() > 1  # tiles matter


@pytest.mark.parametrize('name', ['a.jpg', 'a.JPEG', 'a.png', 'a.bmp', 'a.tif', 'a.tiff', 'a.webp'])
def test_formats(home, name):
    Image.fromarray(cv2.GaussianBlur(noise(20, 30), (0, 0), 3)).save(f'in/{name}')
    assert restore() == 0
    expected = by_network(np.array(Image.open(f'in/{name}')) / 255) * 255
    assert np.abs(np.array(Image.open('out/a.png')) - expected).max() < 0.51


def test_16_bits_grey_and_colour(home):
    cv2.imwrite('in/colour.png', noise(20, 31, 3, np.uint16)[..., ::-1])
    cv2.imwrite('in/grey.tif', noise(20, 31, 1, np.uint16))
    assert restore() == 0
    colour, grey = (cv2.imread(f'out/{name}.png', cv2.IMREAD_UNCHANGED) for name in ('colour', 'grey'))
    assert colour.dtype == grey.dtype == np.uint16 and grey.shape == (20, 31)
    expected = by_network(noise(20, 31, 3, np.uint16) / 65535) * 65535
    assert np.abs(colour[..., ::-1] - expected).max() < 0.6
    three = np.repeat(noise(20, 31, 1, np.uint16)[..., None], 3, axis=2)
    assert np.abs(grey - (by_network(three / 65535) * 65535).mean(axis=2)).max() < 0.6


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bits_lose_nothing(home, unchanged, channels, suffix):
    image = noise(11, 13, channels, np.uint16)
    cv2.imwrite(f'in/a.{suffix}', image)
    assert restore() == 0
    assert np.array_equal(cv2.imread('out/a.png', cv2.IMREAD_UNCHANGED), image)


@pytest.mark.parametrize('mode, channels', [('L', 1), ('LA', 2), ('RGB', 3), ('RGBA', 4)])
def test_8_bits_lose_nothing(home, unchanged, mode, channels):
    image = noise(11, 13, channels)
    Image.fromarray(image, mode).save('in/a.png')
    assert restore() == 0
    result = Image.open('out/a.png')
    assert result.mode == mode and np.array_equal(np.array(result), image)


def test_alpha_is_not_touched(home):
    image = noise(19, 21, 4)
    Image.fromarray(image, 'RGBA').save('in/a.png')
    cv2.imwrite('in/b.png', noise(19, 21, 4, np.uint16))
    assert restore() == 0
    result = np.array(Image.open('out/a.png'))
    assert np.array_equal(result[..., 3], image[..., 3]) and not np.array_equal(result[..., :3], image[..., :3])
    assert np.array_equal(result[..., :3], np.round(by_network(image[..., :3] / 255) * 255))
    wide = cv2.imread('out/b.png', cv2.IMREAD_UNCHANGED)
    assert np.array_equal(wide[..., 3], noise(19, 21, 4, np.uint16)[..., 3])


def test_grey_with_alpha_of_16_bits(home, unchanged):
    image = noise(5, 7, 2, np.uint16)
    write_png('in/a.png', Picture(image[..., :1], image[..., 1:]))
    assert restore() == 0
    result = read_picture('out/a.png')
    assert np.array_equal(result.colour, image[..., :1]) and np.array_equal(result.alpha, image[..., 1:])


def test_palettes_bits_and_transparent_colours(home, unchanged):
    colour = Image.fromarray(cv2.GaussianBlur(noise(20, 30), (0, 0), 4))
    palette = colour.quantize(16)
    palette.save('in/palette.png')
    palette.save('in/clear.png', transparency=3)
    colour.convert('1').save('in/bit.png')
    colour.convert('L').save('in/key.png', transparency=int(np.array(colour.convert('L'))[0, 0]))
    assert restore() == 0
    found = {name: Image.open(f'out/{name}.png') for name in ('palette', 'clear', 'bit', 'key')}
    assert {name: image.mode for name, image in found.items()} == {
        'palette': 'RGB',
        'clear': 'RGBA',
        'bit': 'L',
        'key': 'LA',
    }
    assert np.array_equal(np.array(found['palette']), np.array(palette.convert('RGB')))
    assert np.array_equal(np.array(found['clear'])[..., 3] == 0, np.array(palette) == 3)
    assert np.array_equal(np.array(found['bit']) == 255, np.array(Image.open('in/bit.png')))
    assert np.array(found['key'])[0, 0, 1] == 0


@pytest.mark.parametrize('suffix', ['jpg', 'tif', 'png', 'webp'])
@pytest.mark.parametrize('orientation', [1, 3, 6, 8, 5])
def test_pictures_are_turned_as_exif_says(home, unchanged, orientation, suffix):
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    upright = cv2.GaussianBlur(noise(12, 20), (0, 0), 3)
    turn = {1: 0, 3: 2, 6: 1, 8: 3}  # quarter turns to the left that a viewer undoes
    stored = upright.transpose(1, 0, 2) if orientation == 5 else np.rot90(upright, turn[orientation])
    Image.fromarray(np.ascontiguousarray(stored)).save(f'in/a.{suffix}', exif=exif, quality=100)
    assert restore() == 0
    result = Image.open('out/a.png')
    assert result.size == (20, 12) and not result.getexif()
    assert np.abs(np.array(result).astype(int) - upright).mean() < 5


def test_colour_profiles_stay(home, unchanged):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    Image.fromarray(noise(8, 8)).save('in/a.jpg', icc_profile=profile)
    assert restore() == 0
    result = Image.open('out/a.png')
    result.load()
    assert result.info['icc_profile'] == profile


def test_a_telephone_picture_with_previews(home, unchanged):
    image = Image.fromarray(cv2.GaussianBlur(noise(20, 30), (0, 0), 3))
    image.save('in/a.jpg', format='MPO', save_all=True, append_images=[image.resize((4, 4))])
    assert restore() == 0 and Image.open('out/a.png').size == (30, 20)


def test_png_files_are_valid(tmp_path):
    for channels in (1, 2, 3, 4):
        for kind in (np.uint8, np.uint16):
            image = noise(6, 5, channels, kind).reshape(6, 5, channels)
            colours = {1: 1, 2: 1, 3: 3, 4: 3}[channels]
            picture = Picture(image[..., :colours], image[..., colours:] if channels > colours else None)
            write_png(str(tmp_path / 'sub/a.png'), picture)
            again = read_picture(str(tmp_path / 'sub/a.png'))
            assert np.array_equal(again.colour, picture.colour) and again.colour.dtype == kind
            assert (again.alpha is None) == (picture.alpha is None)
    assert os.listdir(tmp_path / 'sub') == ['a.png']
    with pytest.raises(ValueError, match='cannot be written'):
        write_png(str(tmp_path / 'sub/a.png/b.png'), picture)


def test_pictures_of_a_hand_made_png(tmp_path):
    """A file written byte by byte here, so that reader and writer do not agree on a common mistake."""
    samples = noise(4, 3, 4, np.uint16)

    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in samples)
    header = struct.pack('>IIBBBBB', 3, 4, 16, 6, 0, 0, 0)
    parts = [chunk(b'IHDR', header), chunk(b'IDAT', zlib.compress(rows)), chunk(b'IEND', b'')]
    (tmp_path / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n' + b''.join(parts))
    picture = read_picture(str(tmp_path / 'a.png'))
    assert np.array_equal(picture.colour, samples[..., :3]) and np.array_equal(picture.alpha, samples[..., 3:])
