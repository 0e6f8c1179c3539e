"""Images that cannot be used: at the start and during the run, from files and LMDBs, with and without workers."""

import io
import os
import shutil
import struct
import zlib

import cv2
import lmdb
import numpy as np
import pytest
from conftest import write_pairs
from PIL import Image

from basicsr.data import build_dataset
from basicsr_unlearn import compat
from basicsr_unlearn.data import lmdb_files, sources
from basicsr_unlearn.data.image_header import ImageFault, check_bytes, check_file
from basicsr_unlearn.data.lmdb_files import write_lmdb
from basicsr_unlearn.data.sources import ImageReader
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.unlearn_model import UnlearnModel

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8))


def encoded(kind, image=RGB, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_zeros(content, share):
    """Put zeros where a crash lost the end: the file has its full length."""
    kept = int(len(content) * share)
    return content[:kept] + bytes(len(content) - kept)


def flipped(content, position):
    return content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :]


def png_of_size(width, height):
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = [(b'IHDR', header), (b'IDAT', zlib.compress(b'')), (b'IEND', b'')]
    content = b'\x89PNG\r\n\x1a\n'
    for kind, body in chunks:
        content += struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    return content


def jpeg_with_preview():
    """A JPEG that is cut off behind the preview in its EXIF, which has an end of its own."""
    exif = Image.Exif()
    exif[0x010E] = 'x'
    whole = encoded('JPEG', exif=exif.tobytes() + encoded('JPEG', RGB.resize((16, 16))))
    return whole[: len(whole) * 2 // 3]


SIXTEEN = cv2.imencode('.png', np.full((48, 48, 3), 5000, np.uint16))[1].tobytes()
FAULTS = {  # content of the file, None: it is gone; words of the error
    'no image': (b'not an image', 'cannot be read as an image: of no known kind'),
    'empty': (b'', 'cannot be read as an image: of no known kind'),
    'gone': (None, 'cannot be read as an image: No such file'),
    'truncated PNG': (encoded('PNG')[:-30], 'truncated'),
    'PNG without its end': (encoded('PNG')[:-12], 'truncated'),
    'PNG filled with zeros': (with_zeros(encoded('PNG'), 0.6), 'cannot be read as an image'),
    'damaged PNG': (flipped(encoded('PNG'), 3000), 'wrong checksum'),
    'truncated JPEG': (encoded('JPEG')[:-200], 'truncated'),
    'JPEG without its end': (encoded('JPEG')[:-2], 'truncated'),
    'JPEG filled with zeros': (with_zeros(encoded('JPEG'), 0.7), 'truncated'),
    'truncated progressive JPEG': (encoded('JPEG', progressive=True)[:-300], 'truncated'),
    'truncated JPEG with a preview': (jpeg_with_preview(), 'truncated'),
    'truncated WebP': (encoded('WEBP')[:-200], 'cannot be read as an image'),
    'truncated BMP': (encoded('BMP')[:-200], 'cannot be read as an image'),
    'truncated TIFF': (encoded('TIFF', compression='tiff_lzw')[:4000], 'cannot be read as an image'),
    'grey': (encoded('PNG', RGB.convert('L')), 'is grey'),
    'grey JPEG': (encoded('JPEG', RGB.convert('L')), 'is grey'),
    'grey with alpha': (encoded('PNG', RGB.convert('LA')), 'is grey with alpha'),
    'alpha': (encoded('PNG', RGB.convert('RGBA')), 'is RGB with alpha'),
    'transparent colour': (encoded('PNG', transparency=(0, 0, 0)), 'partly transparent'),
    'transparent palette': (encoded('PNG', RGB.quantize(8), transparency=0), 'partly transparent'),
    '16 bits': (SIXTEEN, 'of 16 bits'),
    '16-bit grey': (encoded('PNG', Image.new('I;16', (48, 48))), '16-bit grey'),
    'CMYK': (encoded('JPEG', RGB.convert('CMYK')), 'is CMYK'),
    'animated': (encoded('PNG', save_all=True, append_images=[RGB.rotate(90)]), 'animated or of several pages (2)'),
    'pages': (encoded('TIFF', save_all=True, append_images=[RGB]), 'animated or of several pages (2)'),
    'GIF': (encoded('GIF'), 'a GIF file'),
    'bomb': (png_of_size(30_000, 30_000), 'cannot be read as an image: Image size (900000000 pixels)'),
    'other size': (encoded('PNG', RGB.resize((48, 40))), '48x48'),
}
DURING = ('gone', 'truncated PNG', 'truncated JPEG', 'grey', 'bomb', 'other size')


def put(path, content):
    if content is None:
        os.remove(path)
    else:
        with open(path, 'wb') as file:
            file.write(content)


def own_forget(options, tmp_path, number=4):
    """Give the forget set files of its own; returns the path of a degraded one."""
    section = write_pairs(tmp_path / 'own', {'type': 'haze'}, number)
    options['datasets']['train']['forget'] = section
    return f'{section["dataroot_lq"]}/0003.png'


def spoil_after_the_check(monkeypatch, spoil):
    monkeypatch.setattr(compat, 'checks', [*compat.checks, lambda opt: spoil()])


def assert_named(status, capsys, *words):
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and line.startswith('basicsr: error: '), line
    for word in words:
        assert word in line, line
    return line


@pytest.mark.parametrize('fault', [fault for fault in FAULTS if fault != 'other size'])
def test_the_reader_names_the_file(fault, tmp_path, monkeypatch):
    """OpenCV never sees what the look refuses; damage that only decoding shows is refused by either."""
    content, words = FAULTS[fault]
    path = str(tmp_path / 'a.png')
    put(path, b'')
    put(path, content)
    if fault not in ('truncated WebP', 'truncated BMP'):
        monkeypatch.setattr(sources, 'imfrombytes', lambda content: pytest.fail('decoded'))
    with pytest.raises(ImageFault) as found:
        ImageReader({})(path, 'lq')
    assert str(found.value).startswith(f'{path}: ') and words in str(found.value) and found.value.path == path
    assert '\n' not in str(found.value) and 'take it out of the data set.' in str(found.value)
    with pytest.raises(ImageFault, match='a.png'):
        check_file(path, pixels=True)


@pytest.mark.parametrize('fault', FAULTS)
def test_at_the_start(fault, options, run, tmp_path, capsys):
    path = own_forget(options, tmp_path)
    content, words = FAULTS[fault]
    if content is None:
        return  # a missing file has no pair: test_bad_input
    put(path, content)
    status, home = run(options)
    assert_named(status, capsys, '0003.png', words)
    assert os.listdir(home) == []


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('fault', DURING)
def test_during_the_run(fault, workers, options, run, tmp_path, capsys, monkeypatch):
    path = own_forget(options, tmp_path)
    content, words = FAULTS[fault]
    options['datasets']['train'].update(num_worker_per_gpu=workers)
    options['datasets'] = {key: options['datasets'][key] for key in ('train', 'val_noise')}
    options['train']['stop']['probes'] = 1  # the first pair, which is whole
    spoil_after_the_check(monkeypatch, lambda: put(path, content))
    status, home = run(options)
    assert_named(status, capsys, '0003.png', words)
    assert (home / 'experiments/tiny').exists()


def test_truncated_among_more_than_a_thousand_files(options, run, tmp_path, capsys):
    """Only headers are read at the start; what lies behind them is looked at when it is read."""
    own_forget(options, tmp_path)
    for side in ('lq', 'gt'):
        for number in range(4, 501):
            os.link(tmp_path / f'own/{side}/{number % 3:04d}.png', tmp_path / f'own/{side}/{number:04d}.png')
    path = tmp_path / 'own/lq/0250.png'  # the second of two probes
    whole = path.read_bytes()
    os.remove(path)
    put(path, whole[:-20])
    options['datasets'] = {key: options['datasets'][key] for key in ('train', 'val_noise')}
    status, home = run(options)
    assert_named(status, capsys, '0250.png', 'it is truncated')
    assert (home / 'experiments/tiny').exists()


@pytest.mark.parametrize('kind', ['PairedImageDataset', 'PairedFilesDataset', 'DegradedImageDataset'])
@pytest.mark.parametrize('fault', ['gone', 'truncated JPEG', 'no image'])
def test_validation_during_the_run(kind, fault, options, run, tmp_path, capsys, monkeypatch):
    section = write_pairs(tmp_path / 'val', {'type': 'haze'})
    path = f'{section["dataroot_gt"]}/0002.png'
    options['datasets']['val_haze'].update(section, type=kind)
    if kind == 'DegradedImageDataset':
        del options['datasets']['val_haze']['dataroot_lq']
        options['datasets']['val_haze']['degradation'] = {'type': 'haze'}
    begin = UnlearnModel.begin
    monkeypatch.setattr(UnlearnModel, 'begin', lambda model: put(path, FAULTS[fault][0]) or begin(model))
    assert_named(run(options)[0], capsys, path, FAULTS[fault][1])


def test_a_private_run_names_the_file_on_stderr_only(options, run, tmp_path, capsys, monkeypatch):
    path = own_forget(options, tmp_path)
    options['logger']['private'] = True
    spoil_after_the_check(monkeypatch, lambda: put(path, b''))
    status, home = run(options)
    assert_named(status, capsys, path)
    (log,) = (home / 'experiments/tiny').glob('*.log')
    assert '0003.png' not in log.read_text()


@pytest.mark.parametrize('kind, options', [('PNG', {}), ('PNG', {'bits': 4}), ('BMP', {})])
def test_a_palette_is_read_without_loss(kind, options, tmp_path):
    palette = RGB.quantize(16)
    path = str(tmp_path / 'a.png')
    put(path, encoded(kind, palette, **options))
    assert check_file(path, pixels=True) == (48, 48)
    assert (ImageReader({})(path, 'gt')[..., ::-1] == np.array(palette.convert('RGB'))).all()


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_the_size_is_that_of_the_turned_image(kind, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    tags = {'tiffinfo': {0x0112: 6}} if kind == 'TIFF' else {'exif': exif}
    content = encoded(kind, RGB.resize((32, 48)), **tags)
    put(str(tmp_path / 'a.png'), content)
    read = ImageReader({})(str(tmp_path / 'a.png'), 'gt')
    assert check_bytes(content, 'a') == read.shape[1::-1] == (48, 32)


def test_what_follows_the_end_is_no_damage():
    for kind in ('JPEG', 'PNG'):
        assert check_bytes(encoded(kind) + b'\0' * 100, 'a') == (48, 48)


# LMDBs


@pytest.fixture
def stored(options, tmp_path):
    """Give the forget set LMDBs of its own; returns the folder of the degraded images."""
    section = write_pairs(tmp_path / 'own', {'type': 'haze'})
    for key, root in list(section.items()):
        write_lmdb(root, sorted(os.listdir(root)), str(tmp_path / f'{key}.lmdb'))
        section[key] = str(tmp_path / f'{key}.lmdb')
    options['datasets']['train']['forget'] = {**section, 'io_backend': {'type': 'lmdb'}}
    return tmp_path / 'dataroot_lq.lmdb'


def change(folder, **images):
    """Replace images of an LMDB; None deletes one."""
    with lmdb.open(str(folder)) as store, store.begin(write=True) as transaction:
        for key, content in images.items():
            transaction.delete(key.encode())
            if content is not None:
                transaction.put(key.encode(), content)


def truncated_map(folder):
    os.truncate(folder / 'data.mdb', os.path.getsize(folder / 'data.mdb') - 8192)


def garbage(folder):
    put(folder / 'data.mdb', os.urandom(50_000))


def empty_map(folder):
    put(folder / 'data.mdb', b'')


def another_key(folder):
    change(folder, **{'0002': None, '0009': encoded('PNG')})


@pytest.mark.parametrize(
    'spoil, words',
    [
        (truncated_map, 'its data.mdb is truncated'),
        (garbage, 'cannot be opened as an LMDB'),
        (empty_map, 'cannot be opened as an LMDB'),
        (another_key, 'has no 0002, which its meta_info.txt names'),
        (lambda folder: change(folder, **{'0001': None}), 'holds 3 of the 4 images'),
    ],
)
def test_lmdbs_at_the_start(spoil, words, stored, options, run, capsys):
    spoil(stored)
    status, home = run(options)
    assert_named(status, capsys, 'datasets: train: forget', 'dataroot_lq.lmdb', words)
    assert os.listdir(home) == []


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('content, words', [(None, 'the LMDB has no such key'), (encoded('PNG')[:-40], 'truncated')])
def test_lmdbs_during_the_run(workers, content, words, stored, options, run, capsys, monkeypatch):
    change(stored, **{'0003': content, '0009': encoded('PNG')})
    monkeypatch.setattr(lmdb_files, 'KEYS_TRIED', 1)
    options['datasets']['train'].update(num_worker_per_gpu=workers)
    options['train']['stop']['probes'] = 1
    status, home = run(options)
    assert_named(status, capsys, '0003 in ', 'dataroot_lq.lmdb', words)
    assert (home / 'experiments/tiny').exists()


@pytest.mark.parametrize('fault', ['grey', 'truncated JPEG', 'bomb'])
def test_nothing_unusable_comes_into_an_lmdb(fault, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    put(folder / 'a.png', FAULTS[fault][0])
    with pytest.raises(InputError, match='a.png'):
        write_lmdb(str(folder), ['a.png'], str(tmp_path / 'x.lmdb'))
    assert not os.path.exists(tmp_path / 'x.lmdb/meta_info.txt')


def test_pairs_are_found_once_for_a_run(options, run, tmp_path, monkeypatch):
    """The check, the loader and the probes share them; a run in the same process looks anew."""
    looked = []
    monkeypatch.setattr(sources, 'find_pairs', lambda *args: looked.append(args[0]) or find_pairs(*args))
    from basicsr_unlearn.data.pairing import find_pairs

    options['train']['total_iter'] = 1
    assert run(options)[0] == 0
    assert sorted(looked) == ['datasets: haze', 'datasets: train: forget', 'datasets: train: retain: rain']
    shutil.rmtree('experiments')
    assert run(options)[0] == 0 and len(looked) == 6
    build_dataset(options['datasets']['train'])
    assert len(looked) == 8
