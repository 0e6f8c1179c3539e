"""Folders, list files and LMDBs as the authors lay them out; PairedFilesDataset."""

import os

import cv2
import pytest
import torch
from layouts import HAZY, write_data_root, write_image, write_rain100l, write_reside

from basicsr.data import build_dataset
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from basicsr_unlearn.data.pairing import find_images, find_pairs, list_images, match_names, pair_by_name
from basicsr_unlearn.errors import InputError


def roots(folder, lq, gt, **more):
    return {'dataroot_lq': str(folder / lq), 'dataroot_gt': str(folder / gt), **more}


def names_of(pairs):
    return [tuple(map(os.path.basename, pair)) for pair in pairs]


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_data_root(root)
    return root


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_ots_in_part_folders(tmp_path, suffix):
    write_reside(tmp_path, [['0025'], ['3068']], clean_suffix=suffix)
    found = find_pairs('x', roots(tmp_path, 'synthetic', 'original'))
    assert len(found) == 2 * len(HAZY)
    assert found[0] == (f'{tmp_path}/synthetic/part1/0025_0.8_0.04.jpg', f'{tmp_path}/original/0025{suffix}')
    assert found[-1] == (f'{tmp_path}/synthetic/part2/3068_1_0.2.jpg', f'{tmp_path}/original/3068{suffix}')


@pytest.mark.parametrize(
    'lq, gt, number',
    [
        ('Train/Dehaze/synthetic', 'Train/Dehaze/original', 9),
        ('Train/Derain/rainy', 'Train/Derain/gt', 2),
        ('Train/Deblur/blur', 'Train/Deblur/sharp', 2),
        ('Train/Enhance/low', 'Train/Enhance/gt', 2),
        ('test/dehaze/input', 'test/dehaze/target', 3),
        ('test/derain/Rain100L/input', 'test/derain/Rain100L/target', 2),
        ('test/deblur/gopro/input', 'test/deblur/gopro/target', 2),
        ('test/enhance/lol/input', 'test/enhance/lol/target', 2),
    ],
)
def test_prescribed_folders(data_root, lq, gt, number):
    assert len(find_pairs('x', roots(data_root, lq, gt))) == number


def test_rain_and_norain(tmp_path):
    write_rain100l(tmp_path, 11)
    found = names_of(find_pairs('x', roots(tmp_path, 'rainy', 'gt')))
    assert ('rain-1.png', 'norain-1.png') in found and ('rain-11.png', 'norain-11.png') in found and len(found) == 11
    assert pair_by_name(['rain-1.png'], ['rain-1.png'], '{}', 'x') == [('rain-1.png', 'rain-1.png')]


@pytest.mark.parametrize(
    'lq, gt, found',
    [
        ('0001_0.8_0.2', ['0001'], '0001'),  # keys of an LMDB
        ('0001_0.8_0.2', ['0001', '0001_0.8'], '0001_0.8'),
        ('part1/0001_1_0.2.jpg', ['0001.png'], '0001.png'),
        ('b/1.png', ['a/1.png', 'b/1.png'], 'b/1.png'),
        ('snow_1/7.png', ['snow.png', '7.png'], '7.png'),
    ],
)
def test_the_likeliest_name_wins(lq, gt, found):
    assert match_names([lq], gt) == [(lq, [found])]


def test_own_images_come_before_those_of_sub_folders(tmp_path):
    write_image(tmp_path / 'a.png', 0)
    write_image(tmp_path / 'thumbnails/b.png', 0)
    assert list_images(str(tmp_path), 'x') == ['a.png']
    os.remove(tmp_path / 'a.png')
    assert list_images(str(tmp_path), 'x') == ['thumbnails/b.png']


@pytest.mark.parametrize(
    'root, lines',
    [
        ('synthetic', 'synthetic/part1/0025_0.8_0.1.jpg\nsynthetic/part2/3068_1_0.2.jpg\n'),  # the authors' lists
        ('synthetic', 'part1/0025_0.8_0.1.jpg\r\n\r\npart2/3068_1_0.2.jpg'),
        ('.', 'synthetic/part1/0025_0.8_0.1.jpg\nsynthetic/part2/3068_1_0.2.jpg\n'),
        ('synthetic', 'part1/0025_0.8_0.1.jpg 0025.jpg\npart2/3068_1_0.2.jpg original/3068.jpg\n'),
        ('synthetic', 'part1/0025_0.8_0.1.jpg\t0025.jpg\npart2/3068_1_0.2.jpg\t3068.jpg\n'),
    ],
)
def test_file_list(tmp_path, data_root, root, lines):
    (tmp_path / 'list.txt').write_text(lines)
    section = roots(data_root / 'Train/Dehaze', root, 'original', file_list=str(tmp_path / 'list.txt'))
    expected = [('0025_0.8_0.1.jpg', '0025.jpg'), ('3068_1_0.2.jpg', '3068.jpg')]
    assert names_of(find_pairs('x', section)) == expected


def test_the_second_column_decides(tmp_path, data_root):
    (tmp_path / 'list.txt').write_text('part1/0025_0.8_0.1.jpg 0039.jpg\n')
    section = roots(data_root / 'Train/Dehaze', 'synthetic', 'original', file_list=str(tmp_path / 'list.txt'))
    assert names_of(find_pairs('x', section)) == [('0025_0.8_0.1.jpg', '0039.jpg')]


@pytest.mark.parametrize('line', ['a b_1.png', 'a b_1.png a b.png', 'a b_1.png\ta b.png'])
def test_names_with_spaces(tmp_path, line):
    write_image(tmp_path / 'lq/a b_1.png', 0)
    write_image(tmp_path / 'gt/a b.png', 0)
    (tmp_path / 'list.txt').write_text(line)
    section = roots(tmp_path, 'lq', 'gt', file_list=str(tmp_path / 'list.txt'))
    assert names_of(find_pairs('x', section)) == [('a b_1.png', 'a b.png')]


def test_file_list_of_clean_images(tmp_path, data_root):
    (tmp_path / 'list.txt').write_text('5096.jpg\n00012.bmp\n')
    section = {'dataroot_gt': str(data_root / 'Train/Denoise'), 'file_list': str(tmp_path / 'list.txt')}
    assert [os.path.basename(path) for path in find_images('x', section)] == ['5096.jpg', '00012.bmp']
    (tmp_path / 'pairs.txt').write_text('a.jpg\t5096.jpg\nb.jpg\t5096.jpg\n')  # a list of pairs: its clean images
    assert len(find_images('x', {**section, 'file_list': str(tmp_path / 'pairs.txt')})) == 1


def test_lmdbs_of_basicsr_many_to_one(tmp_path):
    """Keys with dots, as RESIDE's files are named; BasicSR's own reader would cut them at the first dot."""
    write_reside(tmp_path, [['0001', '0002']], height=40, width=48)
    hazy = list_images(str(tmp_path / 'synthetic'), 'x')
    make_lmdb_from_imgs(str(tmp_path / 'synthetic'), str(tmp_path / 'lq.lmdb'), hazy, [name[6:-4] for name in hazy])
    make_lmdb_from_imgs(
        str(tmp_path / 'original'), str(tmp_path / 'gt.lmdb'), ['0001.jpg', '0002.jpg'], ['0001', '0002']
    )
    section = roots(tmp_path, 'lq.lmdb', 'gt.lmdb', io_backend={'type': 'lmdb'})
    found = find_pairs('x', section)
    assert found[0] == ('0001_0.8_0.04', '0001') and found[-1] == ('0002_1_0.2', '0002') and len(found) == 6
    opt = {'name': 'x', 'type': 'PairedFilesDataset', 'phase': 'val', 'scale': 1}
    stored, files = (
        build_dataset({**opt, **section}),
        build_dataset({**opt, **roots(tmp_path, 'synthetic', 'original')}),
    )
    assert all(torch.equal(stored[i][key], files[i][key]) for i in range(6) for key in ('lq', 'gt'))


def test_filename_tmpl(tmp_path):
    write_image(tmp_path / 'lq/7x4.png', 0)
    write_image(tmp_path / 'gt/7.png', 0)
    assert names_of(find_pairs('x', roots(tmp_path, 'lq', 'gt', filename_tmpl='{}x4'))) == [('7x4.png', '7.png')]


def test_paired_files_dataset(data_root):
    section = roots(data_root / 'test/dehaze', 'input', 'target')
    data = build_dataset({'name': 'haze', 'type': 'PairedFilesDataset', 'phase': 'val', 'scale': 1, **section})
    assert len(data) == 3
    item = data[1]
    assert item['lq_path'].endswith('input/0002_0.8_0.08.jpg') and item['gt_path'].endswith('target/0002.png')
    assert item['lq'].shape == item['gt'].shape == (3, 128, 136) and item['gt'].dtype == torch.float32
    red = cv2.imread(item['gt_path'])[..., 2] / 255
    assert torch.allclose(item['gt'][0], torch.from_numpy(red).float())


def test_pairs_of_two_sizes_are_named(tmp_path):
    write_image(tmp_path / 'lq/1.png', 0)
    write_image(tmp_path / 'gt/1.png', 0, height=140)
    data = build_dataset({'name': 'x', 'type': 'PairedFilesDataset', **roots(tmp_path, 'lq', 'gt')})
    with pytest.raises(InputError, match='136x128 pixels, but its clean image .* has 136x140'):
        data[0]
