"""`basicsr restore`: what is refused, in one line and with nothing created."""

# ruff: noqa: F811
import cv2
import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image
from test_restore import home, noise, refused, restore  # noqa: F401

from basicsr.utils.registry import ARCH_REGISTRY
from basicsr_unlearn.models import pictures


def save(**pictures_by_name):
    def spoil(home):
        for name, (image, options) in pictures_by_name.items():
            image.save(home / 'in' / name.replace('_', '.'), **options)

    return spoil


def cut(name, end):
    def spoil(home):
        Image.fromarray(noise(40, 40)).save(home / 'in' / name)
        (home / 'in' / name).write_bytes((home / 'in' / name).read_bytes()[:end])

    return spoil


def write(name, content):
    return lambda home: (home / 'in' / name).write_bytes(content)


def float_tiff(home):
    cv2.imwrite('in/a.tif', np.random.default_rng(0).random((5, 5, 3), np.float32))


def turned_16_bits(home):
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = 6
    Image.fromarray(noise(5, 7, 1, np.uint16)).save('in/a.png', exif=exif)


def tiff_of_16_bits(**options):
    return lambda home: tifffile.imwrite('in/a.tif', noise(3, 5, 3, np.uint16), **options)


def truncated_16_bits(home):
    cv2.imwrite('in/a.png', noise(40, 40, 3, np.uint16))
    (home / 'in/a.png').write_bytes((home / 'in/a.png').read_bytes()[:2000])


def not_a_net(home):
    (home / 'net.yml').write_text(
        yaml.safe_dump({'network_g': {'type': 'PromptIRR'}, 'path': {'pretrain_network_g': 'x.pth'}})
    )
    Image.fromarray(noise(4, 4)).save('in/a.png')


RGB, LAST = Image.fromarray(noise(8, 8)), Image.fromarray(noise(8, 8, seed=1))
SERIES = {'save_all': True, 'append_images': [LAST]}
REFUSED = {
    'empty folder': (lambda home: None, ['-i in: no picture']),
    'text': (write('a.jpg', b'hello'), ['in/a.jpg: cannot be read']),
    'empty file': (write('a.png', b''), ['in/a.png: cannot be read']),
    'truncated PNG': (cut('a.png', 2000), ['in/a.png: cannot be read', 'truncated']),
    'truncated JPEG': (cut('a.jpg', 1000), ['in/a.jpg: cannot be read', 'truncated']),
    'truncated BMP': (cut('a.bmp', 1000), ['in/a.bmp: cannot be read']),
    'truncated WebP': (cut('a.webp', 500), ['in/a.webp: cannot be read']),
    'truncated 16 bits': (truncated_16_bits, ['in/a.png: cannot be read']),
    'CMYK': (save(a_jpg=(RGB.convert('CMYK'), {})), ['in/a.jpg: is a CMYK picture']),
    'grey float': (save(a_tif=(RGB.convert('F'), {})), ['in/a.tif: is a floating-point picture']),
    'colour float': (float_tiff, ['in/a.tif: cannot be read as a picture', 'unknown kind']),
    '32 bits': (save(a_tif=(RGB.convert('I'), {})), ['in/a.tif: is a 32-bit picture']),
    'animated PNG': (save(a_png=(RGB, SERIES)), ['in/a.png: is animated', '(2)']),
    'animated WebP': (save(a_webp=(RGB, SERIES)), ['in/a.webp: is animated']),
    'TIFF of two pages': (save(a_tif=(RGB, SERIES)), ['in/a.tif: is animated or of several pages']),
    'a GIF in disguise': (save(a_png=(RGB, {'format': 'GIF'})), ['in/a.png: is a GIF file']),
    '16 bits to turn': (turned_16_bits, ['in/a.png: is a 16-bit picture that EXIF says to turn']),
    'planes': (tiff_of_16_bits(photometric='rgb', planarconfig='separate'), ['in/a.tif: is a 16-bit TIFF']),
    'white is zero': (tiff_of_16_bits(photometric='miniswhite'), ['in/a.tif: ']),
    'unknown network': (not_a_net, ['network_g: type: PromptIRR', 'Did you mean PromptIR?']),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused(case, home, capsys):
    spoil, words = REFUSED[case]
    Image.fromarray(noise(8, 8)).save('in/good.png') if case != 'empty folder' else None
    spoil(home)
    assert refused(restore(), capsys, *words) and not (home / 'out').exists()


@pytest.mark.parametrize(
    'arguments, words',
    [
        (('-i', 'nowhere'), ['-i nowhere: no such file or folder']),
        (('-o', 'net.yml'), ['-o net.yml: is a file']),
        (('-opt', 'no.yml'), ['-opt no.yml: no such file']),
        (('--weights', 'no.pth'), ['--weights: no.pth: no such file']),
        (('--compare', 'no.pth'), ['--compare: no.pth: no such file']),
        (('--compare',), ['--compare', 'is the restoring network itself']),
    ],
)
def test_bad_arguments(arguments, words, home, capsys):
    Image.fromarray(noise(8, 8)).save('in/a.png')
    assert refused(restore(*arguments), capsys, *words) and not (home / 'out').exists()


@pytest.mark.parametrize(
    'change, words',
    [
        ({'val': {'tile': 16}}, ['val: tile: 16']),
        ({'path': {'pretrain_network_g': None}}, ['path: pretrain_network_g: is missing']),
        ({'path': {'pretrain_network_g': '${NO_SUCH_VARIABLE}/a.pth'}}, ['NO_SUCH_VARIABLE is not set']),
        ({'network_g': None}, ['network_g: None is missing']),
        ({'network_g': {'type': 'PromptIR', 'dimm': 3}}, ['Did you mean dim?']),
    ],
)
def test_bad_options(change, words, home, capsys):
    Image.fromarray(noise(8, 8)).save('in/a.png')
    tree = yaml.safe_load((home / 'net.yml').read_text())
    (home / 'net.yml').write_text(yaml.safe_dump({**tree, **change}))
    assert refused(restore(), capsys, *words) and not (home / 'out').exists()


def test_a_network_that_changes_the_size(home, capsys):
    @ARCH_REGISTRY.register()
    class Doubles(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return torch.nn.functional.interpolate(x, scale_factor=2)

    try:
        torch.save({'params': {'weight': torch.zeros(1)}}, 'd.pth')
        tree = {'network_g': {'type': 'Doubles'}, 'path': {'pretrain_network_g': 'd.pth'}}
        (home / 'net.yml').write_text(yaml.safe_dump(tree))
        Image.fromarray(noise(8, 8)).save('in/a.png')
        assert refused(restore(), capsys, 'Doubles makes 3x128x128') and not (home / 'out').exists()
    finally:
        del ARCH_REGISTRY._obj_map['Doubles']


def test_values_that_are_not_finite(home, capsys, monkeypatch):
    from basicsr_unlearn import restore_folder

    class Broken(torch.nn.Module):
        def forward(self, x):
            return x * float('nan')

    monkeypatch.setattr(restore_folder, '_load', lambda *arguments: Broken())
    Image.fromarray(noise(8, 8)).save('in/a.png')
    assert refused(restore(), capsys, 'in/a.png: the network gives values that are not finite')


def test_a_picture_that_does_not_fit_into_memory(home, capsys, monkeypatch):
    from basicsr_unlearn import restore_folder

    class Large(torch.nn.Module):
        def forward(self, x):
            if x.shape[-1] != 64:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return x

    monkeypatch.setattr(restore_folder, '_load', lambda *arguments: Large())
    Image.fromarray(noise(8, 8)).save('in/a.png')
    assert refused(restore(), capsys, 'in/a.png: 8x8 pixels do not fit into memory. Set val: tile.')
