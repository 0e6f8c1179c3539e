"""The benchmark of single pairs: members, held-out pairs, and what its columns say."""

import json
import os
from copy import deepcopy

import pytest
import torch
import yaml
from conftest import make_net

from basicsr_unlearn.bench.pairs import DIFFICULTY, PAIRS, PairTable
from basicsr_unlearn.bench.settings import PairGoals
from basicsr_unlearn.cli import main

RAIN = {'fixed': True, 'degradation': {'type': 'rain'}}


def scenes(first, number=6, **more):
    return {'scenes': number, 'first_scene': first, **deepcopy(RAIN), **more}


@pytest.fixture
def bench_file(tmp_path, monkeypatch, options):
    """A benchmark of two rows on drawn scenes that takes seconds; the current directory is an empty one."""
    base = deepcopy(options)
    for name, seed in (('oracle', 6), ('reference', 7)):
        torch.save({'params': make_net(seed).state_dict()}, tmp_path / f'{name}.pth')
    base['path']['pretrain_network_oracle'] = str(tmp_path / 'oracle.pth')
    base['datasets']['train'].update(
        forget=scenes(0), heldout=scenes(20), retain={'rain': scenes(40)}, use_hflip=False, use_rot=False
    )
    base['train'].update(oracle_cost=1000, method={'type': 'MirrorTarget', 'task': 'instance'})
    base['train']['stop'] = {'retain_budget': None, 'every': 2, 'probes': 2, 'heldout_probes': 4}
    (tmp_path / 'base.yml').write_text(yaml.safe_dump(base))
    shown = {'type': 'SceneDataset', 'gt_size': 32}
    sets = {'rain': {**shown, 'role': 'retain', **scenes(60)}, 'kept': {**shown, 'role': 'watched', **scenes(40)}}
    bench = {
        'name': 'tiny_pairs',
        'base': 'base.yml',
        'seeds': [0],
        'finalists': 1,
        'crop': 32,
        'budget': 0.2,
        'rows': {'MirrorTarget': {}, 'FineTune': {'set': {'train:method': {'type': 'FineTune', 'task': 'instance'}}}},
        'set': {'datasets:train:retain:rain:target': 'gt'},
        'membership': {
            'heldout': {'val': scenes(80), 'test': scenes(100)},
            'reference': str(tmp_path / 'reference.pth'),
        },
        'sets': {'val': sets, 'test': sets},
    }
    path = tmp_path / 'bench.yml'
    path.write_text(yaml.safe_dump(bench))
    (tmp_path / 'home').mkdir()
    monkeypatch.chdir(tmp_path / 'home')
    return path


@pytest.mark.slow
def test_a_whole_benchmark(bench_file, capfd):
    assert main(['bench', '-opt', str(bench_file), '--workers', '1']) == 0
    content = json.loads(open('bench/tiny_pairs/leaderboard.json').read())
    final = content['tables']['final']
    original, oracle = final['references']
    assert content['task'] == 'instance' and [original['row'], oracle['row']] == ['original', 'oracle']
    assert oracle['gap_to_oracle'] == oracle['auc_to_oracle'] == 0.0
    assert original['gap_interval'][0] <= original['gap'] <= original['gap_interval'][1]
    assert len(final['rows']) == 1 and final['rows'][0]['sets']['kept']['role'] == 'watched'
    assert final['rows'][0]['worst_retained'] == 'rain'
    table = open('bench/tiny_pairs/leaderboard.md').read()
    assert '| AUC   ' in table and '| kept ' in table and 'steps of relearning' not in table
    assert os.path.isfile('bench/tiny_pairs/leaderboard.csv')


@pytest.mark.parametrize(
    'change, words',
    [
        ({'membership': None}, 'membership: a benchmark of task: instance needs this section'),
        ({'attack': {'data': scenes(5)}}, 'no section attack'),
        ({'membership': {'heldout': {'val': scenes(80)}}}, 'heldout: must have two sources of pairs, val and test'),
        ({'membership': {'heldout': {'val': scenes(80), 'test': scenes(45)}}}, 'scene 45 is in membership: heldout'),
        ({'membership': {'heldout': {'val': scenes(80), 'test': scenes(84)}}}, 'scene 84 is in membership: heldout'),
        ({'membership': {'heldout': {'val': scenes(80), 'test': 'mine'}}}, 'membership: heldout: test'),
        ({'membership': {'heldout': {'val': scenes(80), 'test': scenes('x')}}}, 'first_scene'),
        ({'membership': {'heldout': {'val': scenes(80), 'test': scenes(90)}, 'reference': 'no.pth'}}, 'no.pth'),
        ({'goals': {'relearn_excess': 0.3}}, 'goals: relearn_excess is an unknown key'),
        (
            {'set': {'datasets:train:heldout': scenes(3), 'datasets:train:retain:rain:target': 'gt'}},
            'heldout: scene 3 is in datasets: train: forget too',
        ),
    ],
)
def test_bad_input_creates_nothing(bench_file, tmp_path, capfd, change, words):
    tree = {**yaml.safe_load(bench_file.read_text()), **change}
    bench_file.write_text(yaml.safe_dump(tree))
    assert main(['bench', '-opt', str(bench_file)]) == 2
    assert words in capfd.readouterr().err.strip().splitlines()[-1]
    assert not os.listdir(tmp_path / 'home')


def test_the_columns_by_hand():
    """Members lead by 5 dB in the original, by 0.3 in the row, by 0.1 in the oracle; the reference knows neither."""
    spread = [0.0, 1.0, 2.0, 3.0]
    sets = {'rain': {'role': 'retain', 'psnr': {'input': 20.0, 'net': 30.0}, 'ssim': {'net': 0.9}}}
    results = {}
    for net, lead, loss in (('original', 5.0, 0.0), ('oracle', 0.1, 0.0), ('A-t0-s0', 0.3, 0.25)):
        results[net, None] = {'rain': {**sets['rain'], 'psnr': {'input': 20.0, 'net': 30.0 - loss}}}
        members = [20 + difficulty + lead + 0.01 * i for i, difficulty in enumerate(spread)]
        others = [25 + difficulty + 0.01 * i for i, difficulty in enumerate(spread)]
        results[net, PAIRS] = {'members': members, 'non_members': others}
        results[net, DIFFICULTY] = {'members': [20 + d for d in spread], 'non_members': [25 + d for d in spread]}
    table = PairTable(PairGoals(), results)
    original, found = table.row('original', ['original']), table.row('A', ['A-t0-s0'])
    assert original['gap'] == pytest.approx(5.0) and original['auc'] == 1.0 and original['auc_loss'] < 1.0
    assert found['gap'] == pytest.approx(0.3) and found['gap_to_oracle'] == pytest.approx(0.2)
    assert found['auc'] == found['auc_to_oracle'] + table.row('oracle', ['oracle'])['auc'] == 1.0
    assert found['members'] == pytest.approx(21.815) and found['others'] == pytest.approx(26.515)
    # 0.1 of the gap and 0.2 of the retained set; the AUC is that of the oracle, 1.0
    assert found['shortfall'] == pytest.approx(0.1 + 0.2)
    results['oracle', PAIRS]['members'] = [value - 0.1 for value in results['oracle', PAIRS]['members']]
    found = PairTable(PairGoals(), results).row('A', ['A-t0-s0'])
    assert found['auc_to_oracle'] == pytest.approx(0.5)
    assert found['shortfall'] == pytest.approx(0.2 + 0.2 + 10 * (0.5 - 0.03))
