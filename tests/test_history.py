"""Requests one after another: the history in the checkpoint, earlier removals measured again, and the chain shown."""

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from conftest import latest, make_net, summary, write_pairs
from test_purge import events, scan
from test_report import read_page, tables_of

from basicsr.models.base_model import BaseModel
from basicsr_unlearn import checkpoint, history, leftovers
from basicsr_unlearn.cli import main
from basicsr_unlearn.data.digests import forgotten, pixel_digests
from basicsr_unlearn.data.sources import build_source
from basicsr_unlearn.report import words


def history_of(home, name, file='net_g_latest.pth'):
    return torch.load(home / 'experiments' / name / 'models' / file, weights_only=True)['history']


def log_of(home, name):
    return sorted((home / 'experiments' / name).glob('train_*.log'))[-1].read_text()


def second(options, pairs, **method):
    """Turn the options of a first run into those of a second one, which forgets rain."""
    tree = deepcopy(options)
    tree['name'] = 'second'
    tree['path']['pretrain_network_g'] = 'experiments/tiny/models/net_g_latest.pth'
    tree['datasets']['train'].update(
        forget=pairs['rain'],
        retain={
            'noise': {
                'dataroot_gt': pairs['rain']['dataroot_gt'],
                'degradation': {'type': 'gaussian_noise', 'sigma': 25},
                'target': 'gt',
            }
        },
    )
    tree['datasets']['val_haze']['role'] = 'forgotten'
    tree['datasets']['val_rain'] = {**tree['datasets']['val_haze'], 'name': 'rain', 'role': 'forget', **pairs['rain']}
    tree['train']['method'] = method or {'type': 'NegGrad'}
    return tree


@pytest.fixture
def first(options, run, tmp_path_factory):
    """A finished first request, which forgot haze; gives its folder. It runs once, and every test gets a copy."""
    kept, home = tmp_path_factory.getbasetemp() / 'first', Path.cwd()
    options['logger']['use_tb_logger'] = False
    if kept.exists():
        shutil.copytree(kept, home / 'experiments')
        return home
    assert run(options)[0] == 0
    shutil.copytree(home / 'experiments', kept)
    return home


def test_two_requests(options, pairs, weights, first, run):
    tree = second(options, pairs)
    tree['logger']['use_tb_logger'] = True
    status, home = run(tree)
    assert status == 0
    one, two = history_of(home, 'second')
    assert [one] == history_of(home, 'tiny') and [one['name'], two['name']] == ['tiny', 'second']
    assert one['weights_before_sha256'] == checkpoint.sha256(weights)
    assert two['weights_before_sha256'] == checkpoint.sha256(first / 'experiments/tiny/models/net_g_latest.pth')
    found = summary(home, 'second')
    for key in ('task', 'method', 'version', 'finished', 'iterations', 'kept_iteration', 'cost', 'stopped_by'):
        assert two[key] == found[key]
    assert (two['retain'], one['retain']) == (['noise'], ['rain'])
    for entry, measured in zip(two['sets'], found['sets'], strict=True):
        assert (entry['name'], entry['role']) == (measured['name'], measured['role'])
        assert entry['psnr'] == {key: measured['psnr'][key] for key in ('input', 'original', 'unlearned')}
    assert {entry['name']: entry['role'] for entry in two['sets']} == {
        'haze': 'forgotten', 'noise': 'retain', 'rain': 'forget',
    }  # fmt: skip
    assert found['history'] == history.brief([one, two])
    assert '| haze  | forgotten |' in (home / 'experiments/second/unlearn_summary.md').read_text()
    tags = events(home / 'tb_logger/second').Tags()['scalars']
    assert {'psnr_forgotten/haze', 'psnr_forget/rain', 'psnr_retain/noise'} <= set(tags)
    assert 'degraded' not in found['history'][0]['forget'] and 'clean' not in found['history'][1]['forget']


def test_the_forget_set_is_told_by_its_content(options, pairs, first):
    forget = history_of(first, 'tiny')[0]['forget']
    record = forgotten(pairs['haze'])
    assert {key: forget[key] for key in ('pairs', 'files', 'sha256')} == {
        key: record[key] for key in ('pairs', 'files', 'sha256')
    }
    digests = pixel_digests(build_source('x', pairs['haze']))
    assert forget['degraded'] == sorted(digests['degraded']) and len(forget['degraded']) == 4
    assert forget['clean'] == sorted(digests['clean'])
    text = json.dumps(history_of(first, 'tiny'))
    assert '.png' not in text and pairs['haze']['dataroot_lq'] not in text


def test_going_on_adds_nothing_twice(options, pairs, first, run):
    tree = second(options, pairs)
    _, home = run(tree)
    whole = history_of(home, 'second')
    assert [entry['name'] for entry in history_of(home, 'second', 'net_g_2.pth')] == ['tiny']
    tree['path']['resume_state'] = 'experiments/second/training_states/2.state'
    assert run(tree)[0] == 0
    again = history_of(home, 'second')
    assert [{**entry, 'finished': ''} for entry in again] == [{**entry, 'finished': ''} for entry in whole]
    assert [entry['name'] for entry in history_of(home, 'second', 'net_g_4.pth')] == ['tiny']
    third = {**second(options, pairs), 'name': 'third'}
    third['path']['pretrain_network_g'] = 'experiments/second/models/net_g_4.pth'  # before the second was finished
    assert history_of(run(third)[1], 'third')[1]['name'] == 'third'


def test_what_relearns_is_told(options, pairs, first, run):
    tree = second(options, pairs, type='FineTune')
    tree['train'].update(total_iter=20, optim_g={'type': 'Adam', 'lr': 2e-3})
    _, home = run(tree)
    found = summary(home, 'second')
    haze, left = found['sets'][0], summary(home)['sets'][0]['psnr']['unlearned']
    assert haze['left'] == {'request': 'tiny', 'psnr': left} and haze['psnr']['unlearned'] > left + history.CAME_BACK
    assert haze['came_back'] is True and found['came_back'] == ['haze']
    rise = haze['psnr']['unlearned'] - left
    said = f'haze CAME BACK: {haze["psnr"]["unlearned"]:.2f} dB, {rise:.2f} above what the request tiny left.'
    assert f'WARNING: {said}' in log_of(home, 'second')
    assert said in (home / 'experiments/second/unlearn_summary.md').read_text()
    assert main(['report', 'second']) == 0
    page, view, _ = read_page(home / 'experiments/second/report')
    assert said in view['notices'] and said in page.text


def test_what_stays_removed_is_told_too(options, pairs, first, run):
    tree = second(options, pairs)
    tree['train'].update(total_iter=1, optim_g={'type': 'Adam', 'lr': 1e-6})
    _, home = run(tree)
    found = summary(home, 'second')
    assert found['sets'][0]['came_back'] is False and found['came_back'] == []
    text = (home / 'experiments/second/unlearn_summary.md').read_text()
    assert 'haze did not come back: ' in text and 'CAME BACK' not in text + log_of(home, 'second')
    assert 'not measured again' not in text + log_of(home, 'second')


def test_a_removal_that_nobody_measures_again(options, pairs, first, run):
    tree = second(options, pairs)
    del tree['datasets']['val_haze']
    _, home = run(tree)
    said = 'Earlier removals that are not measured again: haze (request tiny). Add each to datasets as'
    assert log_of(home, 'second').count(f'WARNING: {said}') == 1
    assert said in (home / 'experiments/second/unlearn_summary.md').read_text()
    assert 'not measured again' not in log_of(home, 'tiny')


def levels(name, role, given, before, after):
    return {'name': name, 'role': role, 'psnr': {'input': given, 'original': before, 'unlearned': after}}


def requests():
    common = {'task': 'degradation', 'cost': 1566.0, 'finished': '2026-11-23T07:01:02+00:00', 'forget': {}}
    return [
        {'name': 'a', 'method': 'NegGrad', 'cost_share': 0.0186, **common,
         'sets': [levels('haze', 'forget', 13.0, 17.5, 13.2), levels('rain', 'retain', 25.0, 28.0, 28.1)]},
        {'name': 'b', 'method': 'Scrub', 'cost_share': None, **common,
         'sets': [levels('rain', 'forget', 25.0, 28.1, 26.0), levels('noise', 'retain', 20.0, 27.5, 27.4)]},
        {'name': 'c', 'method': 'SalUn', 'cost_share': None, **common,
         'sets': [levels('haze', 'forgotten', 13.0, 13.3, 13.5), levels('rain', 'forgotten', 24.0, 25.0, 26.5)]},
    ]  # fmt: skip


def test_the_chain():
    head, *rows = history.table(requests())
    assert head == ['set', 'role', 'before', 'after a', 'after b', 'after c']
    assert rows[:4] == [
        ['haze', 'forget, n/a, forgotten', 17.5, 13.2, 13.3, 13.5],  # after b: what c measured before it began
        ['rain', 'retain, forget, n/a', 28.0, 28.1, 26.0, None],
        ['noise', 'n/a, retain, n/a', None, 27.5, 27.4, None],
        ['rain', 'n/a, n/a, forgotten', None, None, 25.0, 26.5],  # of the same name, with other pictures
    ]
    assert rows[4:] == [
        ['method', '', '', 'NegGrad', 'Scrub', 'SalUn'],
        ['task', '', '', *['degradation'] * 3],
        ['cost', '', '', "1566 (1.86% of the oracle's)", '1566', '1566'],
        ['finished', '', '', *['2026-11-23'] * 3],
    ]


@pytest.mark.parametrize('now, judged', [(13.39, False), (13.41, True), (12.0, False)])
def test_what_coming_back_means(now, judged):
    sets = [levels('haze', 'forgotten', 13.0, 13.2, now), levels('rain', 'retain', 25.0, 26.0, 30.0)]
    history.judge(requests()[:2], sets)
    assert sets[0]['left'] == {'request': 'a', 'psnr': 13.2} and sets[0]['came_back'] is judged
    assert 'came_back' not in sets[1] and history.came_back(sets) == ['haze'] * judged


def test_another_set_of_that_name_is_not_judged():
    sets = [levels('haze', 'forgotten', 13.1, 13.2, 19.0), levels('fog', 'forgotten', 13.0, 13.2, 19.0)]
    history.judge(requests(), sets)
    assert [one['came_back'] for one in sets] == [None, None] and history.came_back(sets) == []
    assert all('cannot be judged' in said for said in history.verdicts(sets))


def test_the_pages_show_the_chain(options, pairs, first, run):
    tree = second(options, pairs)
    _, home = run(tree)
    expected = history.table(summary(home, 'second')['history'])
    texts = [[cell if isinstance(cell, str) else words.text_of(words.number(cell)) for cell in row] for row in expected]
    left, now = summary(home)['sets'], summary(home, 'second')['sets']
    haze = [left[0]['psnr']['original'], left[0]['psnr']['unlearned'], now[0]['psnr']['unlearned']]
    assert texts[1] == ['haze', 'forget, forgotten', *(f'{value:.2f}' for value in haze)]
    assert texts[3][:2] == ['rain', 'n/a, forget'] and texts[3][2] == 'n/a'
    assert main(['report', 'second']) == 0 and main(['report', 'tiny']) == 0
    page, view, markdown = read_page(home / 'experiments/second/report')
    assert texts in tables_of(view) and texts in page.tables
    table = [[cell.strip() for cell in line.strip('| ').split(' | ')] for line in markdown.splitlines()]
    assert texts[1] in table
    assert not any('One request after another' in text for text in (home / 'experiments/tiny/report.md').open())
    assert main(['compare', 'tiny', 'second', '-o', 'both']) == 0
    assert texts in tables_of(read_page(home / 'both')[1])
    in_summary = (home / 'experiments/second/unlearn_summary.md').read_text()
    assert '## One request after another' in in_summary
    assert re.search(r'\| haze +\| forget, forgotten \| ' + ' +\\| '.join(texts[1][2:]), in_summary)


def test_basicsr_loads_the_result(first):
    """Its own reader, with the entry that it asks for by default."""
    net, path = make_net(1), first / 'experiments/tiny/models/net_g_latest.pth'
    model = BaseModel({'num_gpu': 0, 'is_train': False, 'dist': False})
    model.load_network(net, str(path))
    assert all(torch.equal(value, latest(first)[key]) for key, value in net.state_dict().items())


def test_it_goes_along_in_every_form(first, tmp_path, capsys):
    source, known = str(first / 'experiments/tiny/models/net_g_latest.pth'), history_of(first, 'tiny')
    before = source
    for suffix in ('safetensors', 'ckpt', 'pth'):
        target = str(tmp_path / f'w.{suffix}')
        assert main(['convert', before, target]) == 0
        assert checkpoint.read_history(target, 'x') == known
        before = target
    assert 'history of tiny' in capsys.readouterr().out
    checkpoint.save_half(latest(first), str(tmp_path / 'half.safetensors'), known)
    assert checkpoint.read_history(str(tmp_path / 'half.safetensors'), 'x') == known
    for suffix in ('safetensors', 'ckpt', 'pth'):
        bare = tmp_path / f'bare.{suffix}'
        assert main(['convert', '--no-history', source, str(bare)]) == 0
        assert checkpoint.read_history(str(bare), 'x') == []
        assert known[0]['forget']['degraded'][0].encode() not in bare.read_bytes()
        weights = checkpoint.load_weights(str(bare), 'x')
        assert all(torch.equal(value, latest(first)[key]) for key, value in weights.items())


def retained(options, pairs, run, **source):
    """Return status and message of a second request that retains a source."""
    tree = second(options, pairs)
    tree['datasets']['train']['retain'] = {'kept': source}
    return run(tree)


def test_retained_files_are_compared_by_their_pixels(options, pairs, first, run, tmp_path, capsys):
    source = write_pairs(tmp_path / 'more', {'type': 'haze'}, first=100)
    assert retained(options, pairs, run, **source)[0] == 0
    shutil.rmtree(first / 'experiments/second')
    shutil.copy(f'{pairs["haze"]["dataroot_lq"]}/0002.png', tmp_path / 'more/lq/0102.png')  # under another name
    capsys.readouterr()
    status, home = retained(options, pairs, run, **source)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and not (home / 'experiments/second').exists()
    assert 'datasets: train: retain: kept: ' in line and 'more/lq/0102.png: the earlier request tiny made' in line
    shutil.copy(f'{pairs["haze"]["dataroot_gt"]}/0002.png', tmp_path / 'more/gt/0103.png')
    shutil.copy(f'{pairs["rain"]["dataroot_lq"]}/0002.png', tmp_path / 'more/lq/0102.png')
    assert retained(options, pairs, run, **source)[0] == 0  # of a degradation the photograph may stay


def test_of_instances_neither_side_may_stay(options, pairs, run, capsys):
    options['train']['method'] = {'type': 'NegGrad', 'task': 'instance'}
    options['datasets']['train'].pop('retain')
    options['logger']['use_tb_logger'] = False
    assert run(options)[0] == 0
    capsys.readouterr()
    clean = pairs['haze']['dataroot_gt']
    noise = {'dataroot_gt': clean, 'degradation': {'type': 'gaussian_noise', 'sigma': 25}}
    status, home = retained(options, pairs, run, **noise)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and f'{clean}/0000.png: the earlier request tiny made' in line and '4 clean images' in line
    proxies = {'from': 'forget', 'degradation': noise['degradation']}
    assert retained(options, {**pairs, 'rain': pairs['haze']}, run, **proxies)[0] == 2


def test_check_has_a_row(options, pairs, first, tmp_path, capsys):
    tree = second(options, pairs)
    (tmp_path / 'check.yml').write_text(yaml.safe_dump(tree))
    assert main(['check', '-opt', str(tmp_path / 'check.yml')]) == 0
    assert re.search(r'\| earlier requests +\| ok +\| nothing in common with tiny', capsys.readouterr().out)
    tree['datasets']['train']['retain'] = {'kept': pairs['haze']}
    (tmp_path / 'check.yml').write_text(yaml.safe_dump(tree))
    assert main(['check', '-opt', str(tmp_path / 'check.yml')]) == 2
    assert re.search(r'\| earlier requests +\| error +\| datasets: train: retain: kept: ', capsys.readouterr().out)


@pytest.mark.slow
def test_what_was_forgotten_earlier_is_treated_as_forgotten(options, pairs, first, run, tmp_path):
    """Its pictures are leftovers that purge removes, and in a private run there are none."""
    tree = second(options, pairs)
    tree['val']['save_img'] = True
    tree['logger'].update(use_tb_logger=True, private=False)
    tree['datasets']['val_haze'].update(write_pairs(tmp_path / 'private', {'type': 'haze'}, first=100))
    _, home = run(tree)
    sets = {entry['name']: entry['shows_forgotten'] for entry in summary(home, 'second')['sets']}
    assert sets == {'haze': True, 'noise': True, 'rain': True}  # noise is on the clean images of rain
    assert scan(home, tmp_path / 'private')
    assert main(['purge', '--yes', 'second']) == 0
    assert scan(home, tmp_path / 'private') == set()
    outside = {entry['path'] for entry in summary(home, 'second')['leftovers'] if entry['kind'] == 'forget_data'}
    assert str(tmp_path / 'private/lq') in outside
    shutil.rmtree(home / 'experiments/second')
    shutil.rmtree(home / 'tb_logger')
    tree['logger']['private'] = True
    run(tree)
    assert scan(home, tmp_path / 'private') == set()


def test_sets_by_role():
    common = {'type': 'PhotographDataset', 'degradation': {'type': 'haze'}}
    sets = {f'val_{role}': {**common, 'name': role, 'role': role} for role in ('forget', 'retain', 'forgotten')}
    opt = {'datasets': {'train': {'forget': {'scenes': 3, 'degradation': {'type': 'haze'}}}, **sets}}
    assert leftovers.forgotten_sets(opt) == ['forget', 'forgotten']
