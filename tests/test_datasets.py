from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from conftest import write_pairs
from torch.utils.data import DataLoader

from basicsr.data import build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.utils import FileClient  # noqa: F401
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from basicsr_unlearn.data.pairing import pair_by_name
from basicsr_unlearn.data.sampler import CountingSampler, shuffled_index
from basicsr_unlearn.errors import InputError


def options(forget, retain=None, **more):
    return {
        'name': 'train',
        'type': 'ForgetRetainPairedDataset',
        'forget': forget,
        'retain': retain,
        'gt_size': 24,
        'use_hflip': True,
        'use_rot': True,
        'batch_size_per_gpu': 2,
        'manual_seed': 1,
        **more,
    }


def batches(opt, workers=0, start=0):
    CountingSampler.start_iter = start
    data = build_dataset(opt)
    sampler = EnlargedSampler(data, 1, 0, 3)
    loader = DataLoader(data, batch_size=2, sampler=sampler, num_workers=workers, drop_last=True)
    found = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        found += list(loader)
    CountingSampler.start_iter = 0
    return found


def test_sample(pairs):
    sample = build_dataset(options(pairs['haze'], {'rain': {**pairs['rain'], 'target': 'gt'}}))[0]
    for key in ('forget_lq', 'forget_gt', 'retain_lq', 'retain_gt'):
        assert sample[key].shape == (3, 24, 24) and sample[key].dtype == torch.float32
        assert 0 <= sample[key].min() and sample[key].max() <= 1
    assert sample['retain_task'] == 'rain' and sample['retain_from_original'] is False
    assert sample['forget_lq_path'].startswith(pairs['haze']['dataroot_lq'])
    assert sample['forget_gt_path'].startswith(pairs['haze']['dataroot_gt'])


def test_crops_and_turns_are_the_same_for_both_images(tmp_path):
    """The degraded file is the clean one plus 20 grey levels: any other crop or turn would show."""
    source = write_pairs(tmp_path, {'type': 'rain'}, number=2)
    for name in ('0000.png', '0001.png'):
        gt = cv2.imread(f'{source["dataroot_gt"]}/{name}') // 2
        cv2.imwrite(f'{source["dataroot_gt"]}/{name}', gt)
        cv2.imwrite(f'{source["dataroot_lq"]}/{name}', gt + 20)
    data = build_dataset(options(source, {'same': source}))
    for number in range(20):
        for part in ('forget', 'retain'):
            difference = (data[number][f'{part}_lq'] - data[number][f'{part}_gt']) * 255
            assert torch.allclose(difference, torch.full_like(difference, 20.0), atol=1e-3)


def test_images_are_rgb(tmp_path):
    source = write_pairs(tmp_path, {'type': 'rain'}, number=1)
    red = np.zeros((48, 48, 3), np.uint8)
    red[..., 2] = 255
    for key in source.values():
        cv2.imwrite(f'{key}/0000.png', red)
    sample = build_dataset(options(source))[0]
    assert sample['forget_gt'].mean((1, 2)).tolist() == [1, 0, 0]


def test_every_turn_is_used(tmp_path):
    source = write_pairs(tmp_path, {'type': 'rain'}, number=1, size=24)
    data = build_dataset(options(source))
    assert len({data[n]['forget_gt'].numpy().tobytes() for n in range(80)}) == 8
    still = build_dataset(options(source, use_hflip=False, use_rot=False))
    assert len({still[n]['forget_gt'].numpy().tobytes() for n in range(20)}) == 1


def test_every_forget_pair_once_per_pass(pairs):
    data = build_dataset(options(pairs['haze']))
    assert len(data) == 4
    for sweep in range(3):
        assert len({data[4 * sweep + n]['forget_lq_path'] for n in range(4)}) == 4
    assert [shuffled_index(n, 50, 1) for n in range(50)] != [shuffled_index(n, 50, 2) for n in range(50)]


def test_a_run_repeats_whatever_the_number_of_workers(pairs):
    opt = options(
        pairs['haze'],
        {'noise': {'dataroot_gt': pairs['rain']['dataroot_gt'], 'degradation': {'type': 'gaussian_noise'}}},
    )
    one, two = batches(opt), batches(opt, workers=2)
    assert len(one) == len(two) == 12
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a['retain_lq'], b['retain_lq']) and torch.equal(a['forget_lq'], b['forget_lq'])
    assert not torch.equal(one[0]['forget_lq'], one[6]['forget_lq'])  # the second epoch is not the first again
    other = batches({**opt, 'manual_seed': 2})
    assert not torch.equal(one[0]['retain_lq'], other[0]['retain_lq'])


@pytest.mark.parametrize('done', [4, 6, 9])
def test_resume_goes_on_with_the_next_sample(pairs, done):
    opt = options(pairs['haze'], {'rain': pairs['rain']})
    whole, rest = batches(opt), batches(opt, start=done)
    assert len(rest) == 12 - done
    for a, b in zip(whole[done:], rest, strict=True):
        assert torch.equal(a['forget_lq'], b['forget_lq']) and a['retain_lq_path'] == b['retain_lq_path']


def test_processes_share_the_samples():
    class Data:
        opt, counts_samples = {'batch_size_per_gpu': 2}, True

        def __len__(self):
            return 12

    numbers = [list(EnlargedSampler(Data(), 3, rank)) for rank in range(3)]
    assert numbers == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


def test_other_data_sets_keep_the_sampler_of_basicsr():
    sampler = EnlargedSampler(list(range(10)), 2, 0, 1)
    assert not isinstance(sampler, CountingSampler) and len(list(sampler)) == 5


def test_weights_are_shares(pairs):
    retain = {'rain': {**pairs['rain'], 'weight': 3}, 'haze': {**pairs['haze'], 'weight': 1, 'target': 'gt'}}
    data = build_dataset(options(pairs['haze'], retain))
    count = Counter(data[n]['retain_task'] for n in range(200))
    assert 0.67 < count['rain'] / 200 < 0.83
    assert {data[n]['retain_from_original'] for n in range(20) if data[n]['retain_task'] == 'haze'} == {False}


def test_retain_free(pairs):
    sample = build_dataset(options(pairs['haze'], None))[0]
    assert not [key for key in sample if key.startswith('retain')]


def test_proxies_come_from_the_clean_forget_images(pairs):
    proxy = {'from': 'forget', 'degradation': {'type': 'gaussian_noise'}}
    sample = build_dataset(options(pairs['haze'], {'proxy': proxy}))[0]
    assert sample['retain_gt_path'].startswith(pairs['haze']['dataroot_gt'])
    assert sample['retain_from_original'] is True


def test_reside_names():
    found = pair_by_name(['0001_0.8_0.2.jpg', '0001_0.9_0.1.jpg', '0002_1.png'], ['0001.png', '0002.png'], '{}', 'x')
    assert found == [('0001_0.8_0.2.jpg', '0001.png'), ('0001_0.9_0.1.jpg', '0001.png'), ('0002_1.png', '0002.png')]
    assert pair_by_name(['a_b.png'], ['a_b.jpg'], '{}', 'x') == [('a_b.png', 'a_b.jpg')]
    assert pair_by_name(['7x4.png'], ['7.png'], '{}x4', 'x') == [('7x4.png', '7.png')]


@pytest.mark.parametrize(
    'lq, gt, culprit', [(['1.png', '2.png'], ['1.png'], '2.png'), (['1.png'], ['1.png', '3.png'], '3.png')]
)
def test_unpaired_files_are_named(lq, gt, culprit):
    with pytest.raises(InputError, match=culprit):
        pair_by_name(lq, gt, '{}', 'datasets: train')


def test_meta_info_file(pairs, tmp_path):
    meta = tmp_path / 'meta.txt'
    meta.write_text('0002.png (48,48,3)\n')
    data = build_dataset(options({**pairs['haze'], 'meta_info_file': str(meta)}))
    assert len(data) == 1 and data[0]['forget_lq_path'].endswith('lq/0002.png')


def test_lmdb_reads_the_same_images(pairs, tmp_path):
    roots = {}
    for key, folder in pairs['haze'].items():
        roots[key] = str(tmp_path / f'{key}.lmdb')
        names = [f'{index:04d}.png' for index in range(4)]
        make_lmdb_from_imgs(folder, roots[key], names, [name[:-4] for name in names])
    opt = options({**roots, 'io_backend': {'type': 'lmdb'}})
    lmdb, files = build_dataset(opt), build_dataset(options(pairs['haze']))
    assert all(torch.equal(lmdb[n]['forget_lq'], files[n]['forget_lq']) for n in range(4))
    assert opt['forget']['io_backend'] == {'type': 'lmdb'}  # the options are never changed


def test_cache_gives_the_same_images(pairs):
    cached, plain = build_dataset(options({**pairs['haze'], 'cache': True})), build_dataset(options(pairs['haze']))
    for number in (0, 5, 0, 9):
        assert torch.equal(cached[number]['forget_lq'], plain[number]['forget_lq'])


def test_mixed_paired_dataset(pairs):
    data = build_dataset(
        {
            'name': 'all',
            'type': 'MixedPairedDataset',
            'gt_size': 24,
            'batch_size_per_gpu': 2,
            'sources': {
                'haze': pairs['haze'],
                'rain': pairs['rain'],
                'drawn': {'scenes': 10, 'degradation': {'type': 'haze'}},
            },
        }
    )
    assert len(data) == 18
    assert {data[n]['task'] for n in range(30)} == {'haze', 'rain', 'drawn'}
    assert data[0]['lq'].shape == data[0]['gt'].shape == (3, 24, 24)


SCENES = {'scenes': 3, 'first_scene': 40, 'degradation': {'type': 'rain', 'density': [0.02, 0.03]}}


def scenes(**more):
    return build_dataset({'name': 'scenes', 'type': 'SceneDataset', 'gt_size': 32, **SCENES, **more})


def test_a_scene_is_the_training_pair():
    fixed = {**SCENES, 'fixed': True}
    data, train = scenes(fixed=True), build_dataset(options(fixed, gt_size=32, use_hflip=False, use_rot=False))
    trained = {sample['forget_lq_path']: sample for sample in (train[n] for n in range(3))}
    assert [data[n]['lq_path'] for n in range(len(data))] == sorted(trained) == [f'scene_00004{n}' for n in range(3)]
    for n in range(3):
        for key in ('lq', 'gt'):
            assert torch.equal(data[n][key], trained[data[n]['lq_path']][f'forget_{key}'])
    assert data[0]['lq'].shape == (3, 32, 32) and data[0]['lq'].dtype == torch.float32
    assert (data[0]['lq'] - data[0]['gt']).abs().mean() > 0.01
    assert not torch.equal(data[0]['gt'], data[1]['gt'])


def test_scenes_that_are_not_fixed_are_other_pairs_and_repeat():
    fixed, free = scenes(fixed=True), scenes()
    assert torch.equal(free[1]['gt'], fixed[1]['gt']) and not torch.equal(free[1]['lq'], fixed[1]['lq'])
    assert torch.equal(free[1]['lq'], scenes()[1]['lq'])
    assert torch.equal(free[1]['lq'], scenes(first_scene=41)[0]['lq'])


@pytest.mark.parametrize('key', ['scenes', 'degradation', 'gt_size'])
def test_scenes_need_their_keys(key):
    with pytest.raises(InputError, match=f'datasets: scenes: {key}: is missing'):
        scenes(**{key: None})


def test_cached_scenes_are_the_same():
    plain, cached = (build_dataset(options({**SCENES, **more})) for more in ({}, {'cache': True}))
    for n in (0, 5, 0, 9):
        assert torch.equal(cached[n]['forget_lq'], plain[n]['forget_lq'])
    assert len(cached.forget.drawn) == 3


def test_small_images_are_named(pairs):
    with pytest.raises(InputError, match=r'48x48 pixels are smaller than gt_size: 64'):
        build_dataset(options(pairs['haze'], gt_size=64))[0]
