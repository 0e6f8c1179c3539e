"""`datasets: train: on_error: skip`: what takes the place of an image that cannot be used, and what is said of it."""

import json
import os
import shutil
from copy import deepcopy
from hashlib import sha256

import pytest
import torch
from conftest import write_pairs
from test_image_faults import assert_named, spoil_after_the_check
from torch.utils.data import DataLoader

from basicsr.data import build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr_unlearn.data import skipped
from basicsr_unlearn.data.forget_retain_paired_dataset import ForgetRetainPairedDataset
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.run import FRESH
from basicsr_unlearn.models.unlearn_model import UnlearnModel
from basicsr_unlearn.preflight_data import check_data


@pytest.fixture
def section(tmp_path):
    """A section `datasets: train` whose forget set (8 pairs) and rain set (6) have files of their own."""
    return {
        'name': 'train',
        'type': 'ForgetRetainPairedDataset',
        'forget': write_pairs(tmp_path / 'haze', {'type': 'haze'}, 8),
        'retain': {'rain': write_pairs(tmp_path / 'rain', {'type': 'rain'}, 6)},
        'gt_size': 24,
        'use_hflip': True,
        'use_rot': True,
        'num_worker_per_gpu': 0,
        'batch_size_per_gpu': 2,
        'manual_seed': 1,
        'on_error': 'skip',
        'max_skipped': 0.3,
    }


def spoil(section, *numbers, side='dataroot_lq'):
    """Truncate files of a source; returns their paths."""
    paths = [f'{section[side]}/{number:04d}.png' for number in numbers]
    for path in paths:
        os.truncate(path, os.path.getsize(path) - 20)
    return paths


def number_of(path):
    return int(os.path.basename(path)[:4])


def load(section, workers, iterations=24):
    data = build_dataset(section)
    sampler = EnlargedSampler(data, 1, 0, iterations * 2 // len(data))
    return list(DataLoader(data, batch_size=2, sampler=sampler, num_workers=workers))


def test_the_next_pair_of_the_source_takes_its_place(section):
    whole = build_dataset(section)
    expected = [whole[number] for number in range(40)]
    spoil(section['forget'], 3, 4)
    spoil(section['retain']['rain'], 5, side='dataroot_gt')
    data = build_dataset(section)
    replaced = 0
    for number, before in enumerate(expected):
        sample = data[number]
        for part, instead in (('forget', {3: 5, 4: 5}), ('retain', {5: 0})):
            index = number_of(before[f'{part}_lq_path'])
            found = [number_of(sample[f'{part}_{side}_path']) for side in ('lq', 'gt')]
            assert found == [instead.get(index, index)] * 2
        left_out = json.loads(sample['skipped'])
        if not left_out:
            assert all(torch.equal(sample[key], before[key]) for key in ('forget_lq', 'forget_gt', 'retain_lq'))
        for source, files, path, text in left_out:
            replaced += 1
            assert (source, files) in (('datasets: train: forget', 16), ('datasets: train: retain: rain', 12))
            assert text.startswith(f'{path}: cannot be read as an image: it is truncated')
    assert replaced > 10


def test_the_same_samples_with_any_number_of_workers(section):
    spoil(section['forget'], 0, 3, 4)
    spoil(section['retain']['rain'], 2)
    one, two = load(section, 0), load(section, 2)
    assert len(one) == len(two) == 24
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key]
    assert {path for batch in one for path in batch['forget_lq_path']} == {
        f'{section["forget"]["dataroot_lq"]}/{number:04d}.png' for number in (1, 2, 5, 6, 7)
    }
    assert [json.loads(text) for batch in two for text in batch['skipped'] if text != '[]']


def test_nothing_is_skipped_by_default(section):
    spoil(section['forget'], 3)
    del section['on_error'], section['max_skipped']
    data = build_dataset(section)
    with pytest.raises(InputError, match='0003.png: cannot be read as an image: it is truncated'):
        for number in range(8):
            data[number]
    assert 'skipped' not in build_dataset({**section, 'forget': section['retain']['rain']})[0]


@pytest.mark.parametrize('share, allowed', [(0.12, 1), (0.13, 2)])
def test_the_share_is_that_of_the_files_of_a_source(section, share, allowed):
    """16 files: 0.12 of them is one, 0.13 two."""
    spoil(section['forget'], 1, 2)
    section['max_skipped'] = share
    if allowed == 2:
        return check_data({'datasets: train': section})
    with pytest.raises(InputError, match=r'forget: 2 of 16 files cannot be used, more than max_skipped: 0.12: .*0001'):
        check_data({'datasets: train': section})


def test_a_set_of_which_all_is_damaged_ends_at_the_share(section):
    data = build_dataset(section)
    spoil(section['forget'], *range(8))
    with pytest.raises(InputError, match='forget: 5 of 16 files cannot be used'):
        data[0]


@pytest.mark.parametrize('key, value', [('on_error', 'skipp'), ('max_skipped', 1), ('max_skipped', '1%')])
@pytest.mark.parametrize('kind', ['ForgetRetainPairedDataset', 'MixedPairedDataset'])
def test_unknown_values_are_refused(kind, key, value, section):
    section['sources'] = section.pop('retain')
    if kind != 'MixedPairedDataset':
        section['retain'] = section.pop('sources')
    else:
        del section['forget']
    section.update({'type': kind, key: value})
    with pytest.raises(InputError, match=f"datasets: train: {key}: '?{value}"):
        check_data({'datasets: train': section})


# runs


@pytest.fixture
def tree(options, section):
    """A whole option tree that skips."""
    options = deepcopy(options)
    del section['manual_seed'], section['name']
    options['datasets']['train'].update(section)
    options['datasets'] = {key: options['datasets'][key] for key in ('train', 'val_noise')}
    return options


def summary_of(home):
    folder = home / 'experiments/tiny'
    return json.loads((folder / 'unlearn_summary.json').read_text()), (folder / 'unlearn_summary.md').read_text()


def logs_of(home, name='tiny'):
    return ''.join(path.read_text() for path in sorted((home / f'experiments/{name}').glob('*.log')))


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_counts_and_names_what_it_skipped(workers, tree, run, monkeypatch):
    """One file is damaged at the start, two afterwards; each is one warning, however often it is met."""
    train = tree['datasets']['train']
    train['num_worker_per_gpu'] = workers
    tree['train']['total_iter'] = 9
    paths = spoil(train['forget'], 3)
    spoil_after_the_check(
        monkeypatch, lambda: paths.extend(spoil(train['forget'], 4) + spoil(train['retain']['rain'], 0))
    )
    status, home = run(tree)
    assert status == 0
    summary, text = summary_of(home)
    assert summary['skipped'] == {'count': 3, 'files': sorted(paths)}
    assert f'3 files could not be used: {", ".join(sorted(paths))}.' in text
    log = logs_of(home)
    assert log.count('Skipped (') == 3 and all(log.count(f'{path}: cannot be read') == 1 for path in paths)


def test_the_summary_of_a_whole_set(tree, run):
    tree['train']['total_iter'] = 1
    status, home = run(tree)
    summary, text = summary_of(home)
    assert summary['skipped'] == {'count': 0, 'files': []} and 'could not be used' not in text


def test_a_private_run_shows_hashes(tree, run):
    tree['logger']['private'] = True
    (path,) = spoil(tree['datasets']['train']['forget'], 3)
    status, home = run(tree)
    digest = sha256(path.encode()).hexdigest()[:8]
    summary, text = summary_of(home)
    assert summary['skipped'] == {'count': 1, 'files': [digest]} and digest in text
    log = logs_of(home)
    assert f'Skipped {digest} of datasets: train: forget.' in log and '0003.png' not in log + text


def test_more_than_the_share_ends_a_run(tree, run, capsys, monkeypatch):
    forget = tree['datasets']['train']['forget']
    tree['datasets']['train']['max_skipped'] = 0.1
    tree['train']['total_iter'] = 9
    spoil_after_the_check(monkeypatch, lambda: spoil(forget, 2, 6))
    status, home = run(tree)
    assert_named(status, capsys, 'forget: 2 of 16 files cannot be used', 'max_skipped: 0.1', '0002.png', '0006.png')


def test_a_resumed_run_knows_what_was_skipped(tree, run, monkeypatch):
    """The file is whole again when the run goes on, and still counts: it was left out of the first half."""
    forget = tree['datasets']['train']['forget']
    shutil.copy(f'{forget["dataroot_lq"]}/0003.png', f'{forget["dataroot_lq"]}/../whole.png')
    (path,) = spoil(forget, 3)
    interrupted = deepcopy(tree)
    save = UnlearnModel.save_training_state

    def stop_after(model, epoch, iteration):
        save(model, epoch, iteration)
        raise KeyboardInterrupt

    monkeypatch.setattr(UnlearnModel, 'save_training_state', stop_after)
    with pytest.raises(KeyboardInterrupt):
        run(interrupted)
    monkeypatch.setattr(UnlearnModel, 'save_training_state', save)
    shutil.move(f'{forget["dataroot_lq"]}/../whole.png', path)
    status, home = run(tree, '--auto_resume')
    assert status == 0 and summary_of(home)[0]['skipped'] == {'count': 1, 'files': [path]}


def test_further_samples_of_a_method_are_counted(tree, run, monkeypatch):
    """`Run.batches` reads samples that no iteration sees; the probes read every pair here."""
    forget = tree['datasets']['train']['forget']
    tree['train'].update(total_iter=1, method={'type': 'SalUn', 'host': {'type': 'NegGrad'}})
    read = []
    item = ForgetRetainPairedDataset.__getitem__

    def spoil_before_the_further_ones(data, number):
        if number >= FRESH and not read:
            read.extend(spoil(forget, *[n for n in range(8) if n % 4 == 3]))
        return item(data, number)

    monkeypatch.setattr(ForgetRetainPairedDataset, '__getitem__', spoil_before_the_further_ones)
    status, home = run(tree)
    assert status == 0 and len(read) == 2
    assert summary_of(home)[0]['skipped'] == {'count': 2, 'files': sorted(read)}


def test_mixed_training_skips(tree, run, capsys, monkeypatch):
    train = tree['datasets']['train']
    train.update(type='MixedPairedDataset', sources={'haze': train.pop('forget'), **train.pop('retain')})
    tree.update(model_type='RestorationModel', name='mixed')
    tree['train'] = {
        'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
        **{key: tree['train'][key] for key in ('optim_g', 'scheduler')},
        'total_iter': 24,
    }
    tree['path']['pretrain_network_g'] = None
    spoil_after_the_check(monkeypatch, lambda: spoil(train['sources']['haze'], 0, 1, 2))
    status, home = run(tree)
    assert status == 0 and logs_of(home, 'mixed').count('Skipped (datasets: train: sources: haze)') == 3
    spoil_after_the_check(monkeypatch, lambda: spoil(train['sources']['haze'], 0, 1, 2, 3, 4, 5))
    shutil.rmtree(home / 'experiments')
    assert_named(run(tree)[0], capsys, 'sources: haze: 5 of 16 files cannot be used')


def test_processes_join_what_they_skipped(options, monkeypatch):
    options['datasets']['train'].update(on_error='skip', max_skipped=0.5)
    mine = skipped.Skipped(options)
    mine.collect([('a', 10, '1.png', '1.png: x'), ('b', 10, '2.png', '2.png: x')])
    others = [list(mine.entries), [('a', 10, '1.png', ''), ('a', 10, '3.png', ''), ('c', 10, '4.png', '')]]
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda: 2)
    monkeypatch.setattr(torch.distributed, 'all_gather_object', lambda found, own: found.__setitem__(slice(2), others))
    mine.gather()
    assert [entry[::2] for entry in mine.entries] == [('a', '1.png'), ('b', '2.png'), ('a', '3.png'), ('c', '4.png')]
    assert mine.names() == ['1.png', '2.png', '3.png', '4.png']
    others[1] = [('b', 10, f'{number}.png', '') for number in range(3, 9)]
    with pytest.raises(InputError, match='b: 6 of 10 files cannot be used'):
        mine.gather()
