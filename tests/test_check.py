"""`basicsr check`: one table with a row for each test, nothing created, and a fault hides no other."""

import os
import shutil
from copy import deepcopy

import cv2
import lmdb
import numpy as np
import pytest
import torch
import yaml
from conftest import NET, make_net, write_pairs
from test_bad_input import (
    checkpoint_is_text,
    checkpoint_of_another_net,
    empty_forget_folder,
    fewer_clean_files,
    file_list,
    lmdbs,
    other_size,
    own_copy,
    put,
    remove,
    truncated,
    unreadable,
)

from basicsr_unlearn import check_machine
from basicsr_unlearn.cli import main
from basicsr_unlearn.data.degraded_image_dataset import PhotographDataset
from basicsr_unlearn.data.duplicates import copies, near, print_of
from basicsr_unlearn.models import estimate
from basicsr_unlearn.options import hashed

FORGET, RAIN = 'datasets: train: forget', 'datasets: train: retain: rain'
KEPT, MEASURED, TWICE = (
    f'duplicates: {what}' for what in ('forgotten and kept', 'trained and measured', 'within a set')
)


PASS_BYTES = estimate.pass_bytes  # takes seconds of each check; a few tests want it


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    """Folders of pairs that have no scene in common."""
    root = tmp_path_factory.mktemp('scenes')
    kinds = {'haze': 'haze', 'rain': 'rain', 'val_haze': 'haze', 'val_rain': 'rain'}
    return {
        name: write_pairs(root / name, {'type': kind}, first=20 * i) for i, (name, kind) in enumerate(kinds.items())
    }


@pytest.fixture
def tree(options, scenes):
    """An option tree without a fault."""
    options['network_g'] = dict(NET)
    options['datasets']['train'].update(forget=dict(scenes['haze']), retain={'rain': dict(scenes['rain'])})
    options['datasets']['val_haze'].update(scenes['val_haze'])
    options['datasets']['val_noise']['dataroot_gt'] = scenes['val_rain']['dataroot_gt']
    return options


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Run `basicsr check` on an option tree in an empty folder, which stays empty; gives status and {test: row}."""
    home = tmp_path / 'home'
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr(estimate, 'pass_bytes', lambda *_, **__: 2**20)

    def run(tree, *arguments):
        (tmp_path / 'options.yml').write_text(yaml.safe_dump(tree))
        capsys.readouterr()
        status = main(['check', '-opt', str(tmp_path / 'options.yml'), *arguments])
        rows, test = {}, None
        for line in capsys.readouterr().out.splitlines()[2:]:
            name, result, details = (cell.strip() for cell in line[2:-2].split(' | '))
            test = name or test
            rows[test] = (result or rows[test][0], f'{rows[test][1]} {details}' if not name else details)
        assert os.listdir(home) == []
        return status, rows

    return run


def results(rows, kind):
    return {test for test, (result, _) in rows.items() if result == kind}


def test_a_tree_without_a_fault(tree, check, monkeypatch):
    monkeypatch.setattr(estimate, 'pass_bytes', PASS_BYTES)
    status, rows = check(tree)
    assert status == 0 and set(result for result, _ in rows.values()) == {'ok'}
    assert rows[f'{FORGET}: images'][1] == '8 images of 4 pairs, all readable'
    assert rows[f'{RAIN}: sizes'][1] == '4 pairs, 48x48 pixels'
    assert rows['datasets: val_noise: images'][1] == '4 images, all readable'
    assert rows['network_g'][1] == f'PromptIR, {sum(p.numel() for p in make_net().parameters()):,} parameters'
    assert {KEPT, MEASURED, TWICE, 'path: pretrain_network_g', 'disk space', 'memory'} < set(rows)


def test_other_model_files(tree, check):
    val = {'val_haze': tree['datasets']['val_haze'], 'val_noise': tree['datasets']['val_noise']}
    test = {'name': 'test', 'model_type': 'RestorationModel', 'num_gpu': 0, 'scale': 1, 'network_g': tree['network_g']}
    test.update(path=tree['path'], datasets={f'test_{key}': dict(section) for key, section in val.items()})
    test['val'] = {'save_img': False}
    status, rows = check(test)
    assert status == 0 and rows['disk space'][1].startswith('0 MiB') and 'a step' not in rows['memory'][1]
    pairs = tree['datasets']['train']
    mixed = {'type': 'MixedPairedDataset', 'sources': {'haze': pairs['forget'], **pairs['retain']}}
    train = {**test, 'datasets': {'train': {**pairs, **mixed}, **val}, 'train': tree['train']}
    train.update(logger=tree['logger'], val=tree['val'])
    train['train']['pixel_opt'] = {'type': 'L1Loss'}
    for key in ('forget', 'retain'):
        del train['datasets']['train'][key]
    status, rows = check(train)
    assert status == 0, results(rows, 'error')
    assert rows['datasets: train: sources: haze: images'][1].startswith('8 images of 4 pairs')
    assert 'a step on 2 images of 32x32' in rows['memory'][1]
    train['datasets']['val_haze'] = {**val['val_haze'], **pairs['forget']}
    assert check(train)[1][MEASURED][1].startswith('train: sources: haze and val_haze: 4 of 4 (4 the same, 0 alike)')


def broken_in_an_lmdb(tree, tmp_path):
    lmdbs(tree, tmp_path)
    with lmdb.open(str(tmp_path / 'dataroot_lq.lmdb')) as store, store.begin(write=True) as transaction:
        keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        transaction.put(keys[0], transaction.get(keys[0])[:40])


def five_bad_images(tree, tmp_path):
    own_copy(tree, tmp_path)
    for side, number in (('lq', 0), ('lq', 1), ('gt', 1), ('gt', 2), ('lq', 3)):
        (tmp_path / f'own/dataroot_{side}/{number:04d}.png').write_bytes(b'')


def no_retain_folder(tree, tmp_path):
    tree['datasets']['train']['retain']['rain']['dataroot_lq'] = '/nowhere'


FIVE = '5 of 8 images of 4 pairs: 0000.png, 0001.png, 0001.png. '
FAULTS = {
    'misspelt key': (put('train:warmup_itr', 3), {'options': 'Did you mean warmup_iter?'}),
    'misspelt in method': (put('train:method:retain_wieght', 1.0), {'train: method': 'Did you mean retain_weight?'}),
    'unknown scheduler': (put('train:scheduler:type', 'Cosine'), {'train: optim_g, scheduler': 'Cosine is unknown'}),
    'unknown amp': (put('train:amp', 'fp16'), {'train: amp, compile': 'amp: fp16 is unknown'}),
    'unknown metric': (
        put('val:metrics', {'psnr': {'type': 'calculate_psnrr'}}),
        {'val: metrics': 'Did you mean calculate_psnr'},
    ),
    'unset variable': (
        put('datasets:val_haze:dataroot_lq', '${NO_SUCH_VARIABLE}/x'),
        {'datasets: val_haze': 'NO_SUCH_VARIABLE is not set'},
    ),
    'missing folder': (no_retain_folder, {RAIN: '/nowhere: no such folder'}),
    'empty folder': (empty_forget_folder, {FORGET: 'no image file in this folder'}),
    'counts differ': (fewer_clean_files, {FORGET: '0002.png in dataroot_lq has no clean image'}),
    'list of a missing file': (file_list('0001.png\n0007.png\n'), {FORGET: '0007.png: no such file'}),
    'sizes differ': (other_size, {f'{FORGET}: sizes': '1 of 4 pairs: 0001.png. '}),
    'patch too large': (
        put('datasets:train:gt_size', 64),
        {f'{FORGET}: sizes': '4 of 4 pairs: 0000.png, 0001.png, 0002.png. ', f'{RAIN}: sizes': 'gt_size: 64'},
    ),
    'unreadable': (unreadable, {f'{FORGET}: images': '1 of 8 images of 4 pairs: 0003.png. '}),
    'truncated': (truncated, {f'{FORGET}: images': '1 of 8 images of 4 pairs: 0003.png. '}),
    'five bad images': (five_bad_images, {f'{FORGET}: images': FIVE}),
    'broken in an LMDB': (broken_in_an_lmdb, {f'{FORGET}: images': '1 of 8 images of 4 pairs: 0000. '}),
    'bad weight': (
        put('datasets:train:retain:rain:weight', 0),
        {'datasets: train': 'weight: 0 must be a positive number'},
    ),
    'unknown network': (put('network_g:type', 'PromptIRR'), {'network_g': 'Did you mean PromptIR?'}),
    'missing weights': (put('path:pretrain_network_g', '/nowhere/a.pth'), {'path: pretrain_network_g': 'no such file'}),
    'another net': (checkpoint_of_another_net, {'path: pretrain_network_g': 'surplus.weight'}),
    'oracle is text': (checkpoint_is_text, {'path: pretrain_network_oracle': 'no checkpoint'}),
    'missing state': (put('path:resume_state', '/nowhere/3.state'), {'path: resume_state': 'no such file'}),
    'no share': (put('train:stop:max_cost_share', 0.01), {'train: oracle_cost': 'max_cost_share'}),
    'reset of nothing': (
        put('train:method', {'type': 'DeepForget', 'reset': ['latnt']}),
        {'modules of the method': 'reset: latnt'},
    ),
}


@pytest.mark.parametrize('case', FAULTS)
def test_a_fault_has_its_row(case, tree, check, tmp_path):
    spoil, expected = FAULTS[case]
    spoil(tree, tmp_path)
    status, rows = check(tree)
    assert status == 2 and results(rows, 'error') == set(expected)
    for test, words in expected.items():
        assert words in rows[test][1], rows[test]


def test_a_fault_hides_no_other(tree, check, tmp_path):
    five_bad_images(tree, tmp_path)
    no_retain_folder(tree, tmp_path)
    for spoil in (put('train:warmup_itr', 3), put('path:pretrain_network_g', '/nowhere'), put('val:tile', 8)):
        spoil(tree, tmp_path)
    shutil.copytree(tree['datasets']['val_noise']['dataroot_gt'], tmp_path / 'noise')
    tree['datasets']['val_noise']['dataroot_gt'] = str(tmp_path / 'noise')
    (tmp_path / 'noise/0061.png').write_bytes(b'')
    status, rows = check(tree)
    bad = {'options', f'{FORGET}: images', RAIN, 'datasets: val_noise: images', 'path: pretrain_network_g'}
    assert status == 2 and bad <= results(rows, 'error')
    assert rows['datasets: val_noise: images'][1].startswith('1 of 4 images: 0061.png. ')
    assert rows['datasets: val_haze: images'][0] == rows['network_g'][0] == 'ok'


def test_without_a_section(tree, check, tmp_path):
    remove('train')(tree, tmp_path)
    status, rows = check(tree)
    assert status == 2 and results(rows, 'error') == {'options'} and 'no section train' in rows['options'][1]
    assert rows['disk space'][0] == 'warning' and rows[f'{FORGET}: images'][0] == 'ok'


@pytest.mark.parametrize('path', ['train:method', 'network_g', 'train:optim_g'])
def test_a_section_that_is_none(path, tree, check, tmp_path):
    put(path, 'NegGrad')(tree, tmp_path)
    status, rows = check(tree)
    assert status == 2 and rows['options'][0] == 'error'
    assert rows['datasets: val_haze: images'][0] == rows[f'{FORGET}: images'][0] == 'ok'


def test_a_list_of_sources(tree, check):
    tree['datasets']['train']['retain'] = [tree['datasets']['train']['retain']['rain']]
    status, rows = check(tree)
    assert status == 2 and results(rows, 'error') == {'options', 'datasets: train'}
    assert rows['datasets: val_haze: images'][0] == rows['path: pretrain_network_g'][0] == 'ok'


def test_forced_values_and_files_that_are_none(tree, check, capsys):
    assert check(tree, '--force_yml', 'train:total_iter=0')[1]['options'][0] == 'error'
    assert main(['check', '-opt', 'nothing.yml']) == 2
    assert capsys.readouterr().err == 'basicsr: error: -opt nothing.yml: no such file.\n'
    tree['model_type'] = 'SRModel'
    assert check(tree) == (2, {})


def test_private_names(tree, check, tmp_path):
    five_bad_images(tree, tmp_path)
    tree['logger']['private'] = True
    for spoil, test in ((None, f'{FORGET}: images'), (fewer_clean_files, FORGET)):
        if spoil:
            shutil.rmtree(tmp_path / 'own')
            tree['datasets']['train']['forget'] = tree['datasets']['val_haze'].copy()
            for key in set(tree['datasets']['train']['forget']) - {'dataroot_lq', 'dataroot_gt'}:
                del tree['datasets']['train']['forget'][key]
            own_copy(tree, tmp_path)
            (tmp_path / 'own/dataroot_gt/0042.png').unlink()
        hidden, shown = check(tree)[1], check(tree, '--names')[1]
        assert hidden[test][0] == shown[test][0] == 'error'
        assert '.png' in shown[test][1]
        assert not any('.png' in details for _, details in hidden.values())
        if not spoil:
            assert f': {hashed("0000.png")}, {hashed("0001.png")}, {hashed("0001.png")}. ' in hidden[test][1]
    tree['logger']['private'] = None
    tree['train']['method']['task'] = 'instance'
    tree['train']['stop']['forget_psnr_below'] = 20
    assert '.png' not in check(tree)[1][FORGET][1]


def test_hashed():
    assert hashed('0001.png') == '65bd923e'


@pytest.mark.parametrize('task', ['degradation', 'source', 'instance'])
def test_what_counts_as_a_copy(task, tree, check, scenes):
    """Which pairs of roles are warned of, by task; measuring the very pairs to forget is meant for source, instance."""
    tree['train']['method']['task'] = task
    tree['train']['stop']['forget_psnr_below'] = 20
    tree['logger']['private'] = False
    of_pairs = task != 'degradation'
    train, haze = tree['datasets']['train'], scenes['haze']
    clean = {'dataroot_gt': haze['dataroot_gt'], 'degradation': {'type': 'gaussian_noise', 'sigma': 25}}

    def warned(**sections):
        changed = deepcopy(tree)
        for key, section in sections.items():
            if key == 'retain':
                changed['datasets']['train']['retain']['more'] = section
            else:
                changed['datasets'][key].update(section)
        status, rows = check(changed)
        assert status == (2 if any(result == 'error' for result, _ in rows.values()) else 0)
        strict = task == 'instance' and KEPT in rows and '(0 the same' not in rows[KEPT][1]
        assert rows[KEPT][0] != 'warning' or not strict  # the same pixels are an error there
        return {test: rows[test][1] for test in (KEPT, MEASURED, TWICE) if rows[test][0] != 'ok'}

    assert warned(retain=dict(haze))[KEPT].startswith('train: forget and train: retain: more: 4 of 4 (4 the same')
    assert set(warned(retain=dict(haze))) == {KEPT}
    assert set(warned(retain=clean)) == ({KEPT} if of_pairs else set())
    assert warned(retain={'from': 'forget', 'degradation': {'type': 'rain'}}) == {}
    assert set(warned(val_haze=haze)) == (set() if of_pairs else {MEASURED})
    assert set(warned(val_haze={**haze, 'role': 'retain'})) == ({KEPT} if of_pairs else {KEPT, MEASURED})
    assert set(warned(val_haze={**scenes['rain']})) == ({KEPT} if of_pairs else {KEPT, MEASURED})
    assert set(warned(val_noise={'dataroot_gt': train['retain']['rain']['dataroot_gt']})) == {MEASURED}
    assert set(warned(val_noise={'dataroot_gt': haze['dataroot_gt']})) == ({KEPT} if of_pairs else {MEASURED})


def test_a_copy_within_a_set(tree, check, tmp_path):
    root = own_copy(tree, tmp_path)
    for side in ('lq', 'gt'):
        shutil.copy(root / f'dataroot_{side}/0001.png', root / f'dataroot_{side}/0009.png')
    noise = tmp_path / 'noise'
    shutil.copytree(tree['datasets']['val_noise']['dataroot_gt'], noise)
    tree['datasets']['val_noise']['dataroot_gt'] = str(noise)
    cv2.imwrite(str(noise / '0099.jpg'), cv2.imread(str(noise / '0062.png')), [cv2.IMWRITE_JPEG_QUALITY, 70])
    row = check(tree)[1][TWICE]
    assert row[0] == 'warning'
    assert 'train: forget: 1 of 5 (1 the same, 0 alike), as 0009.png and 0001.png.' in row[1]
    assert 'val_noise: 1 of 5 (0 the same, 1 alike), as 0099.jpg and 0062.png.' in row[1]
    shutil.copy(root / 'dataroot_gt/0002.png', root / 'dataroot_gt/0003.png')  # two versions of one clean image
    assert 'train: forget: 1 of 5' in check(tree)[1][TWICE][1]


@pytest.fixture(scope='module')
def photographs():
    """Twelve crops of photographs, float32 BGR; two of each photograph, some overlap."""
    dataset = PhotographDataset({'name': 'photographs', 'degradation': {'type': 'gaussian_noise', 'sigma': 25}})
    return {path: dataset._read(index)[0] for index, path in enumerate(dataset.paths)}


CHANGES = {
    'none': lambda image: image,
    'smaller': lambda image: cv2.resize(image, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA),
    'larger': lambda image: cv2.resize(image, None, fx=1.1, fy=1.1, interpolation=cv2.INTER_CUBIC).clip(0, 1),
    'JPEG': lambda image: (
        cv2.imdecode(cv2.imencode('.jpg', image * 255, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 1).astype(np.float32) / 255
    ),
    'brighter': lambda image: (1.1 * image).clip(0, 1),
    'darker': lambda image: 0.8 * image,
}


@pytest.mark.parametrize('name', CHANGES)
def test_copies_are_found_and_other_pictures_are_not(name, photographs):
    first = {path: ('first', print_of(image)) for path, image in photographs.items()}
    second = {path: ('second', print_of(CHANGES[name](image))) for path, image in photographs.items()}
    assert copies(first, second) == {path: (path, name == 'none') for path in photographs}
    assert copies(first, {path: ('first', image) for path, (_, image) in second.items()}) == {}
    for path in photographs:
        others = {other: entry for other, entry in second.items() if other != path}
        assert copies({path: first[path]}, others) == {}


def test_flat_images_are_alike_only_if_they_are_the_same():
    flat = {value: (value, print_of(np.full((40, 40, 3), value / 255, np.float32))) for value in (0, 8, 200)}
    assert copies(flat, flat) == {} and all(image.sketch is None for _, image in flat.values())
    assert copies(flat, {'copy': ('copy', flat[8][1])}) == {8: ('copy', True)}


@pytest.mark.parametrize('distance', [0, 4, 9])
def test_near_finds_what_a_full_comparison_finds(distance, monkeypatch):
    monkeypatch.setattr('basicsr_unlearn.data.duplicates.AT_ONCE', 64)
    random = np.random.default_rng(0)
    first = random.integers(0, 2**64, 200, dtype=np.uint64)
    noise = np.array([sum(1 << int(bit) for bit in random.choice(64, i % 12, False)) for i in range(120)], np.uint64)
    second = np.concatenate([first[:120] ^ noise, random.integers(0, 2**64, 50, dtype=np.uint64)])
    bits = np.unpackbits((first[:, None] ^ second[None]).view(np.uint8), axis=1).reshape(200, 170, 64).sum(2)
    rows, columns = np.nonzero(bits <= distance)
    assert len(rows) >= 10 * (distance + 1)
    found = near(first, second, distance)
    assert [part.tolist() for part in found] == [rows.tolist(), columns.tolist(), bits[rows, columns].tolist()]


def test_disk_space(tree, run):
    needed = estimate.disk_bytes({**tree, 'is_train': True}, make_net(), {})
    status, home = run(tree)
    written = {
        'checkpoints': sum(path.stat().st_size for path in home.glob('experiments/tiny/models/*')),
        'states': sum(path.stat().st_size for path in home.glob('experiments/tiny/training_states/*')),
    }
    assert status == 0 and needed['cache'] == needed['pictures'] == 0
    for kind, size in written.items():
        assert 0.7 * size < needed[kind] < 2 * size, (kind, size, needed)


def test_disk_space_of_everything(tree):
    tree['is_train'] = True
    net, method = make_net(), {'type': 'InstanceWise', 'craft': 'cache', 'cache_images': 100}
    whole = sum(value.numel() * 4 for value in net.state_dict().values())
    tree['train'].update(total_iter=100, method=method)
    tree['val'].update(save_img=True, val_freq=50)
    tree['logger'].update(save_checkpoint_freq=10)
    needed = estimate.disk_bytes(tree, net, {'val_haze': 1000})
    assert needed['checkpoints'] == 11 * whole and needed['pictures'] == 3 * 3 * 1000
    assert needed['cache'] == 100 * 2 * 3 * 32 * 32 * 2 + 2**20
    tree['logger']['keep_last'] = 2
    assert estimate.disk_bytes(tree, net, {})['checkpoints'] == 4 * whole


def test_too_little_disk_and_memory(tree, check, monkeypatch):
    monkeypatch.setattr(check_machine.shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(2**30, 2**30, 1000))
    monkeypatch.setattr(check_machine, '_free_memory', lambda: 0)
    status, rows = check(tree)
    assert status == 2 and results(rows, 'error') == {'disk space'} and ', 0 MiB free in' in rows['disk space'][1]
    assert results(rows, 'warning') == {'memory'} and 'Lower batch_size_per_gpu' in rows['memory'][1]


def test_memory_of_a_known_network():
    """Each layer keeps its input for the backward pass; in the forward pass alone only two images are alive."""
    net = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(4)))
    weights, image = 4 * 3 * 3 * 9 * 4, 2 * 3 * 16 * 16 * 4
    assert estimate.pass_bytes(net, 2, 16, 16, training=False) == weights + 2 * image + image
    step = estimate.pass_bytes(net, 2, 16, 16, training=True)
    assert weights + 5 * image <= step <= 2 * weights + 9 * image
    half = estimate.pass_bytes(net, 2, 16, 16, training=True, bf16=True)
    assert half < step


def test_memory_of_a_restorer():
    """The pass holds at least what a real pass keeps for its backward, and not much more."""
    net, image, kept = make_net(), torch.rand(2, 3, 32, 32), {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = net(image)
    whole, trained = estimate.weight_bytes(net)
    needed = sum(kept.values()) + whole
    assert needed < estimate.pass_bytes(net, 2, 32, 32, training=True) < 1.3 * needed + trained
    del result


def test_images_of_a_step(tree):
    assert estimate.images_in_step(tree) == 4
    tree['train']['method'] = {'type': 'InstanceWise', 'n_adv': 2}
    assert estimate.images_in_step(tree) == 8
    del tree['datasets']['train']['retain']
    assert estimate.images_in_step(tree) == 6


def test_copies_of_the_weights(tree):
    net = make_net()
    whole, trained = estimate.weight_bytes(net)
    assert estimate.kept_bytes(tree, net) == 2 * trained + 3 * whole
    tree['train']['method'] = {'type': 'SalUn', 'host': {'type': 'DeepForget'}}
    assert estimate.kept_bytes(tree, net) == 2 * trained + 3 * whole + int(5.25 * whole)
    tree.update(model_type='RestorationModel')
    tree['train'].update(ema_decay=0.9, optim_g={'type': 'SGD', 'lr': 0.1, 'momentum': 0.9})
    assert estimate.kept_bytes(tree, net) == trained + whole


def test_a_network_that_cannot_be_rehearsed(tree, check, monkeypatch):

    def refuse(*_, **__):
        raise RuntimeError('a value is needed')

    monkeypatch.setattr(estimate, 'pass_bytes', refuse)
    status, rows = check(tree)
    assert status == 0 and results(rows, 'warning') == {'memory'} and '(RuntimeError)' in rows['memory'][1]
