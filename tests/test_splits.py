"""Single pairs taken out of the training data: who belongs to which part, and that no image belongs to two."""

import os
import shutil
from copy import deepcopy
from os import path as osp

import pytest
from conftest import latest

from basicsr.data import build_dataset
from basicsr_unlearn.data.sources import build_source
from basicsr_unlearn.data.splits import check_split
from basicsr_unlearn.errors import InputError


@pytest.fixture
def versions(pairs, tmp_path):
    """Four clean images with two degraded versions each, as in RESIDE."""
    haze = pairs['haze']
    for side in ('lq', 'gt'):
        (tmp_path / side).mkdir()
    for name in ('0000', '0001', '0002', '0003'):
        shutil.copy(osp.join(haze['dataroot_gt'], f'{name}.png'), tmp_path / 'gt')
        for strength in ('0.8', '0.9'):
            shutil.copy(osp.join(haze['dataroot_lq'], f'{name}.png'), tmp_path / 'lq' / f'{name}_{strength}.png')
    return {'dataroot_lq': str(tmp_path / 'lq'), 'dataroot_gt': str(tmp_path / 'gt')}


def names(source):
    return [osp.basename(lq) for lq, _ in source.pairs]


def test_glob(versions):
    assert names(build_source('forget', {**versions, 'glob': '000[12]_0.8*'})) == ['0001_0.8.png', '0002_0.8.png']
    chosen = build_source('forget', {**versions, 'glob': ['0003*', '0000_0.9.png']})
    assert names(chosen) == ['0000_0.9.png', '0003_0.8.png', '0003_0.9.png']
    noise = {'dataroot_gt': versions['dataroot_gt'], 'glob': '*2.png', 'degradation': {'type': 'rain'}}
    assert [osp.basename(path) for path in build_source('noise', noise).paths] == ['0002.png']
    with pytest.raises(InputError, match='glob: 9. matches none of 8 names, such as 0000_0.8.png'):
        build_source('forget', {**versions, 'glob': ['0000*', '9*']})


def test_without_forget_goes_by_clean_image(versions):
    """One version of an image is to be forgotten: the other goes with it."""
    forget = build_source('forget', {**versions, 'glob': '0001_0.8.png'})
    left = build_source('rain', {**versions, 'without': 'forget'}, forget)
    assert len(left) == 6 and not any(name.startswith('0001') for name in names(left))
    noise = {'dataroot_gt': versions['dataroot_gt'], 'without': 'forget', 'degradation': {'type': 'rain'}}
    assert len(build_source('noise', noise, forget)) == 3
    linked = {**versions, 'dataroot_gt': versions['dataroot_gt'] + '/../gt', 'without': 'forget'}
    assert len(build_source('rain', linked, forget)) == 6
    with pytest.raises(InputError, match='no forget set of paired files'):
        build_source('rain', {**versions, 'without': 'forget'})


def test_without_a_list(versions, tmp_path):
    (tmp_path / 'list.txt').write_text('0001_0.9.png\nlq/0003_0.8.png\n')
    left = build_source('rain', {**versions, 'without': str(tmp_path / 'list.txt')})
    assert {name[:4] for name in names(left)} == {'0000', '0002'} and len(left) == 4
    (tmp_path / 'list.txt').write_text('0001_0.7.png\n')
    with pytest.raises(InputError, match='0001_0.7.png: the source has no such image'):
        build_source('rain', {**versions, 'without': str(tmp_path / 'list.txt')})


def test_a_copy_under_another_name_is_an_error(versions, tmp_path):
    forget = build_source('forget', {**versions, 'glob': '0001_0.8.png'})
    other = tmp_path / 'other'
    shutil.copytree(tmp_path / 'gt', other)
    (other / '0001.png').rename(other / 'renamed.png')
    noise = {'dataroot_gt': str(other), 'degradation': {'type': 'gaussian_noise', 'sigma': 25}}
    with pytest.raises(InputError, match='noise: .*renamed.png is in forget too.*Take the copy out'):
        check_split({'forget': forget}, {'noise': build_source('noise', noise)})
    noise['glob'] = '000*'
    check_split({'forget': forget}, {'noise': build_source('noise', noise)})


def test_retain_sources_may_share_images(versions):
    forget = build_source('forget', {**versions, 'glob': '0001*'})
    rain = build_source('rain', {**versions, 'without': 'forget'}, forget)
    check_split({'forget': forget}, {'rain': rain, 'again': rain})
    with pytest.raises(InputError, match='again: .*0000.* is in heldout too'):
        check_split({'forget': forget, 'heldout': rain}, {'again': rain})


@pytest.mark.parametrize(
    'first, found', [(0, None), (9, 'rain: scene 10 is in forget too'), (14, 'scene 14'), (15, None)]
)
def test_scenes_are_compared_by_number(first, found):
    def scenes(number, first):
        return build_source('scenes', {'scenes': number, 'first_scene': first, 'degradation': {'type': 'rain'}})

    parts = {'forget': scenes(5, 10)}, {'rain': scenes(10 if first == 0 else 3, first)}
    if found is None:
        check_split(*parts)
        return
    with pytest.raises(InputError, match=found):
        check_split(*parts)


def files_of(source):
    return sorted(os.listdir(source['dataroot_lq']))


def test_the_goal_is_the_level_of_held_out_pairs(options, pairs, run, tmp_path):
    rain = pairs['rain']
    files = files_of(rain)
    train = options['datasets']['train']
    train.update(
        forget={**rain, 'glob': files[:2]},
        heldout={**rain, 'glob': files[2]},
        retain={'rain': {**rain, 'glob': files[2:], 'without': 'forget'}},
        use_hflip=False,
        use_rot=False,
    )
    options['train'].update(method={'type': 'MirrorTarget', 'task': 'instance'})
    options['train']['stop'] = {'retain_budget': None, 'every': 2, 'probes': 2, 'heldout_probes': 6}
    options['train']['stop']['forget_psnr_below'] = 'heldout-50'
    shared = deepcopy(options)
    status, _ = run(shared)
    assert status == 2  # the held-out pair is a retain pair too
    train['retain'] = {'rain': {**rain, 'glob': files[3:]}}
    status, home = run(options)
    assert status == 0
    log = next((home / 'experiments/tiny').glob('train_*.log')).read_text()
    assert 'harder than the forget set, by the original, of mirror images' in log
    assert log.count('(goal ') == 3 and latest(home)


def test_probes_of_held_out_pairs(options, pairs):
    files = files_of(pairs['rain'])
    train = options['datasets']['train']
    section = {**train, 'heldout': {**pairs['rain'], 'glob': files[-1]}, 'manual_seed': 0, 'phase': 'train', 'scale': 1}
    dataset = build_dataset(section)
    assert len(dataset.heldout) == 1 and len(build_dataset({**section, 'heldout': None}).retain['rain']) == len(files)
