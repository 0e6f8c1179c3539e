"""The Python of the READMEs runs as it stands, and the leaderboards of README.md are measured ones."""

import glob
import json
import os
import re
import subprocess
import sys
from copy import deepcopy
from os import path as osp

import pytest
import torch
import yaml
from conftest import make_net

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
README = osp.join(ROOT, 'README.md')


def blocks(path, language):
    with open(path, encoding='utf-8') as file:
        return re.findall(rf'```{language}\n(.*?)```', file.read(), re.S)


def test_training_loop():
    torch.manual_seed(0)
    images = [torch.rand(2, 3, 32, 32) for _ in range(4)]
    names = {'batches': [images]}
    (loop,) = blocks(osp.join(ROOT, 'options', 'README.md'), 'python')
    exec(loop, names)
    gradients = [value.grad for value in names['net'].parameters() if value.grad is not None]
    assert len(gradients) == len(list(names['net'].parameters())) - 6
    assert names['loss'].isfinite()


@pytest.mark.slow
def test_a_method_outside_of_the_package_in_a_benchmark(options, pairs, tmp_path):
    """As the README has it: one file with an entry point, installed, is a row beside the others."""
    (method,), (project,) = blocks(README, 'python'), blocks(README, 'toml')
    source, site, home = (tmp_path / name for name in ('source', 'site', 'home'))
    source.mkdir(), home.mkdir()
    (source / 'my_methods.py').write_text(method)
    (source / 'pyproject.toml').write_text(project)
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation', '--target', site]
    subprocess.run([*pip, source], check=True)
    base = deepcopy(options)
    torch.save({'params': make_net(6).state_dict()}, home / 'oracle.pth')
    base['path']['pretrain_network_oracle'] = str(home / 'oracle.pth')
    base['train']['oracle_cost'] = 1000
    (home / 'base.yml').write_text(yaml.safe_dump(base))
    sets = {
        'haze': {'type': 'PairedFilesDataset', 'role': 'forget', **pairs['haze']},
        'rain': {'type': 'PairedFilesDataset', 'role': 'retain', **pairs['rain']},
    }
    bench = {
        'name': 'mine',
        'base': 'base.yml',
        'finalists': 1,
        'crop': 32,
        'rows': {'Blur': {'set': {'train:method': {'type': 'Blur'}}}, 'NegGrad': {}},
        'screening': {'images': 1, 'steps': 1},
        'full': {'images': 1, 'steps': 1},
        'attack': {'data': pairs['haze'], 'batch_size': 1},
        'sets': {'val': sets, 'test': sets},
    }
    (home / 'bench.yml').write_text(yaml.safe_dump(bench))
    path = os.pathsep.join([str(site), ROOT])
    command = [sys.executable, '-m', 'basicsr_unlearn', 'bench', '-opt', 'bench.yml', '--workers', '1']
    run = subprocess.run(
        command, cwd=home, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    content = json.loads((home / 'bench/mine/leaderboard.json').read_text())
    rows = {row['row']: row for row in content['tables']['screening']['rows']}
    assert set(rows) == {'Blur', 'NegGrad'} and rows['Blur']['unchanged'] == 0
    summary = json.loads((home / 'bench/mine/runs/experiments/Blur-t0-s0/unlearn_summary.json').read_text())
    assert summary['method'] == 'Blur' and summary['finished']
    (source / 'my_methods.py').write_text(method.replace('5, 1, 2', '3, 1, 1'))
    before = (home / 'bench/mine/jobs/unlearn-Blur-t0-s0.json').read_text()
    subprocess.run([*pip, '--upgrade', source], check=True)
    subprocess.run(command, cwd=home, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, check=True)
    assert (home / 'bench/mine/jobs/unlearn-Blur-t0-s0.json').read_text() != before  # another method, done anew


def test_it_is_short():
    with open(README, encoding='utf-8') as file:
        lines = file.readlines()
    assert len(lines) <= 200 and not any('@@' in line for line in lines)


def rows_of_tables(path):
    """Return `{column: cell}` for each row of the Markdown tables of a file whose first column is `row`."""
    rows, head = [], None
    with open(path, encoding='utf-8') as file:
        for line in file:
            cells = [cell.strip() for cell in line.strip().strip('|').split('|')] if line.startswith('|') else None
            if cells is None:
                head = None
            elif head is None:
                head = cells
            elif head[0] == 'row' and set(cells[0]) != {'-'}:
                rows.append(dict(zip(head, cells, strict=True)))
    return rows


def test_its_leaderboards_are_the_benchmarks_own():
    measured = []
    for path in glob.glob(osp.join(ROOT, 'options', '*', 'leaderboard*.md')):
        measured += [set(row.items()) for row in rows_of_tables(path)]
    shown = rows_of_tables(README)
    assert len(shown) >= 14
    for row in shown:
        assert any(set(row.items()) <= known for known in measured), row
