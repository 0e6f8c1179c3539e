import glob
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from os import path as osp
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import make_net, write_pairs

from basicsr_unlearn import checkpoint, manifest, unlearn_job
from basicsr_unlearn.audits import subjects
from basicsr_unlearn.audits.relearn import excess, relearn
from basicsr_unlearn.bench import leaderboard as leaderboard_file
from basicsr_unlearn.bench import short_oracle
from basicsr_unlearn.bench.course import Course
from basicsr_unlearn.bench.options import Bench
from basicsr_unlearn.bench.relearning import RelearnTable
from basicsr_unlearn.bench.settings import Goals
from basicsr_unlearn.checkpoint import fingerprint
from basicsr_unlearn.cli import main
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import METHOD_REGISTRY
from basicsr_unlearn.methods.fine_tune import FineTune
from basicsr_unlearn.methods.l1_sparse import L1Sparse
from basicsr_unlearn.pool import Pool, _begin, digest

AIO3 = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'options', 'aio3')


def test_excess_by_hand():
    original = {0: 20.0, 2: 20.0, 4: 20.0}
    oracle = {0: 15.0, 2: 17.0, 4: 19.5}
    unlearned = {0: 15.0, 2: 19.0, 4: 19.0}
    # steps 1 to 4: oracle 16, 17, 18.25, 19.5; unlearned 17, 19, 19, 19; the original leads by 1 dB at steps 1, 2, 3
    assert excess(unlearned, oracle, original) == (pytest.approx((1 + 2 + 0.75) / 3), 3)
    assert excess(oracle, oracle, original) == (0.0, 3)
    assert excess(unlearned, original, original) == (None, 0)


def test_relearn_leaves_the_network_alone_and_moves_its_scope_only():
    net = make_net()
    before = fingerprint(net.state_dict())
    images = torch.rand(2, 2, 3, 16, 16)
    seen = []

    def measure(current):
        seen.append({name: value.clone() for name, value in current.state_dict().items()})
        return float(len(seen))

    curve = relearn(net, lambda step: images, measure, 2, 1e-3, ['output'])
    assert curve == {0: 1.0, 1: 2.0, 2: 3.0}
    assert fingerprint(net.state_dict()) == before and all(p.grad is None for p in net.parameters())
    moved = {name for name in seen[0] if not torch.equal(seen[0][name], seen[2][name])}
    assert moved == {'output.weight'}
    assert relearn(net, lambda step: images, lambda n: n.output.weight.sum().item(), 2, 1e-3) == relearn(
        net, lambda step: images, lambda n: n.output.weight.sum().item(), 2, 1e-3
    )
    with pytest.raises(InputError, match='outputt matches no parameter of PromptIR'):
        relearn(net, lambda step: images, measure, 2, 1e-3, ['outputt'])


@pytest.fixture
def bench_file(tmp_path, monkeypatch, options, pairs):
    """A benchmark of two rows that takes seconds; the current directory is an empty one."""
    torch.save({'params': make_net(6).state_dict()}, tmp_path / 'oracle.pth')
    torch.save({'params': make_net(7).state_dict()}, tmp_path / 'oracle_2.pth')
    base = deepcopy(options)
    base['path']['pretrain_network_oracle'] = str(tmp_path / 'oracle.pth')
    base['train']['oracle_cost'] = 1000
    (tmp_path / 'base.yml').write_text(yaml.safe_dump(base))
    attack = write_pairs(tmp_path / 'relearn', {'type': 'haze'}, first=20)
    sets = {
        'haze': {'type': 'PairedFilesDataset', 'role': 'forget', **pairs['haze']},
        'rain': {'type': 'PairedFilesDataset', 'role': 'retain', **pairs['rain']},
    }
    bench = {
        'name': 'tiny_bench',
        'base': 'base.yml',
        'oracle_2': str(tmp_path / 'oracle_2.pth'),
        'budget': 0.05,
        'seeds': [0, 1],
        'finalists': 1,
        'crop': 32,
        'rows': {'NegGrad': {'note': 'the floor'}, 'Identity': {'set': {'train:method': {'type': 'IdentityTarget'}}}},
        'screening': {'images': 2, 'steps': 2},
        'full': {'images': None, 'lrs': [1e-4, 1e-3], 'scopes': ['all', 'output'], 'seeds': [0], 'steps': 3},
        'attack': {'data': attack, 'batch_size': 2},
        'sets': {'val': sets, 'test': sets},
    }
    path = tmp_path / 'bench.yml'
    path.write_text(yaml.safe_dump(bench))
    (tmp_path / 'home').mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / 'home')
    return path


def leaderboard(folder):
    """Return the JSON of a leaderboard without what depends on the clock and the machine."""
    content = json.loads((folder / 'bench/tiny_bench/leaderboard.json').read_text())
    for table in content['tables'].values():
        for row in table['rows']:
            assert row.pop('seconds') > 0 and row.pop('memory') > 0
    return content


@pytest.mark.slow
def test_a_killed_benchmark_gives_the_same_leaderboard(bench_file, tmp_path, capfd):
    assert main(['bench', '-opt', str(bench_file), '--workers', '2']) == 0
    said = capfd.readouterr().out
    assert 'Plan of bench/tiny_bench with 2 processes' in said
    whole = leaderboard(tmp_path / 'home')
    final = whole['tables']['final']
    assert [entry['row'] for entry in final['references']] == ['original', 'oracle', 'oracle_2']
    assert final['references'][1]['forget_gap'] == 0 and final['references'][1]['relearn_excess'] in (0, None)
    assert [entry['seeds'] for entry in final['rows']] == [2] and len(final['attacks']) == 4
    for entry in whole['tables']['screening']['rows']:
        assert 0 < entry['cost_share'] <= 0.05 + 3 * 4 / 1000
    text = (tmp_path / 'home/bench/tiny_bench/leaderboard.md').read_text()
    assert '| oracle_2 ' in text and '## Final' in text and 'No search' in text

    other = tmp_path / 'other'
    other.mkdir()
    command = [sys.executable, '-m', 'basicsr_unlearn', 'bench', '-opt', str(bench_file), '--workers', '2']
    process = subprocess.Popen(command, cwd=other, stdout=subprocess.DEVNULL, start_new_session=True)
    while not list(other.glob('bench/tiny_bench/runs/experiments/*/training_states/*.state')):
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()  # itself alone: its workers and their trainings must see to their own end
    process.wait()
    for _ in range(300):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
            continue
        break
    else:
        raise AssertionError('a process of the killed benchmark is still running')
    before = {path.name: path.stat().st_mtime_ns for path in other.glob('bench/tiny_bench/jobs/*.json')}
    assert subprocess.run(command, cwd=other, stdout=subprocess.DEVNULL).returncode == 0
    assert leaderboard(other) == whole
    for name, written in before.items():  # nothing was done twice
        assert (other / 'bench/tiny_bench/jobs' / name).stat().st_mtime_ns == written


class Answers:
    """A pool that knows the result of every job; what it was asked is kept."""

    gpus, workers = 0, 1

    def __init__(self, shares, psnr):
        self.shares, self.psnr, self.asked = shares, psnr, []

    def run(self, jobs, title):
        self.asked += [job['key'] for job in jobs]
        return {job['key']: getattr(self, job['kind'])(job) for job in jobs}

    def unlearn(self, job):
        name, lr = job['tree']['name'], job['tree']['train']['optim_g']['lr']
        run = {'cost': 10, 'seconds': 1, 'memory': 1, 'stopped_by': 'total_iter', 'kept_iteration': 4, 'iterations': 4}
        assert lr == (1e-4 if '-t0-' in name else 1e-3)
        with open(f'{name}.pth', 'w') as file:
            file.write(name)
        return {'weights': f'{name}.pth', **run}

    def measure(self, job):
        haze, rain = self.psnr[job['key'].split('-test')[0].split('-val')[0].removeprefix('measure-')]
        values = {'haze': ('forget', haze), 'rain': ('retain', rain)}
        return {
            name: {'role': role, 'images': 1, 'psnr': {'input': 1, 'net': value}, 'ssim': {'input': 1, 'net': 1}}
            for name, (role, value) in values.items()
        }

    def attack(self, job):
        name = job['key'].split('-test')[0].split('-val')[0].removeprefix('attack-')
        return {'0': self.psnr[name][0], str(job['steps']): self.psnr[name][0] + self.shares.get(name, 0)}


def test_the_course_keeps_the_best_trial_and_the_best_rows(bench_file):
    tree = yaml.safe_load(bench_file.read_text())
    tree.update(search={'train:optim_g:lr': [1e-4, 1e-3]}, screening={'images': 1, 'steps': 1}, full={'steps': 1})
    bench_file.write_text(yaml.safe_dump(tree))
    psnr = {'original': (20, 30), 'oracle': (15, 33), 'oracle_2': (15.1, 33)}
    psnr |= {'NegGrad-t0-s0': (14, 29), 'NegGrad-t1-s0': (15, 29.9)}  # trial 1 is better
    psnr |= {'Identity-t0-s0': (15.1, 30), 'Identity-t1-s0': (15.1, 29), 'Identity-t0-s1': (15.3, 30)}
    pool = Answers({'original': 0, 'oracle': 1, 'Identity-t0-s0': 1.9, 'NegGrad-t1-s0': 2}, psnr)
    course = Course(Bench(str(bench_file)), pool)
    course.tune()
    assert course.chosen == {'NegGrad': 1, 'Identity': 0}
    os.makedirs('bench/tiny_bench')
    course.screen()
    by_row = {entry['row']: entry for entry in course.screening['rows']}
    # at step 1 the original is at 20, the oracle at 16, Identity and NegGrad at 17
    assert by_row['Identity']['relearn_excess'] == pytest.approx(1.0)
    assert by_row['NegGrad']['relearn_excess'] == pytest.approx(1.0)
    assert by_row['NegGrad']['retained'] == pytest.approx(-0.1)
    # misses: Identity 0.7 of E; NegGrad 0.05 of the retained task too
    assert [(e['row'], round(e['shortfall'], 6)) for e in course.screening['rows']] == [
        ('Identity', 0.7),
        ('NegGrad', 0.75),
    ]
    pool.asked.clear()
    course.final()
    assert [key for key in pool.asked if key.startswith('unlearn')] == [
        'unlearn-Identity-t0-s0',
        'unlearn-Identity-t0-s1',
    ]
    final = json.loads(open('bench/tiny_bench/leaderboard.json').read())['tables']['final']['rows']
    assert [entry['row'] for entry in final] == ['Identity'] and final[0]['forget_psnr'] == pytest.approx(15.2)
    assert final[0]['cost_share'] == pytest.approx(0.01)
    written = open('bench/tiny_bench/leaderboard.md').read()
    assert '[{"train:optim_g:lr": 0.0001}' in written and '- NegGrad: the floor\n' in written


NOWHERE = {'dataroot_gt': '/nowhere', 'degradation': {'type': 'rain'}}


@pytest.mark.parametrize(
    'change, words',
    [
        ({'rows': {'A': {'presett': 'x'}}}, 'rows: A: presett is an unknown key. Did you mean preset'),
        ({'rows': {'A': {'preset': 'saluun'}}}, 'Did you mean salun'),
        ({'rows': {'A': {'set': {'train:method': {'type': 'NegGrid'}}}}}, 'rows: A: train: method: type: NegGrid'),
        ({'rows': {'A': {'set': {'trainn:x': 1}}}}, 'there is no section trainn'),
        ({'rows': {'A': {}, 'B': {'search': {'train:total_iter': [1, 2]}}}}, 'as many trials as the others'),
        ({'finalists': 5}, 'finalists: 5'),
        ({'seeds': 3}, 'seeds'),
        ({'base': 'nowhere.yml'}, 'nowhere.yml: no such file'),
        ({'attack': {'data': {'dataroot_lq': 'x', 'dataroot_gt': 'y'}}}, 'attack'),
        ({'full': {'scopes': ['outpt']}}, 'outpt'),
        ({'sets': {'test': {}}}, 'sets: val'),
        (
            {'sets': {'val': {'haze': {'role': 'forgt'}}}},
            'sets: val: haze: role: forgt is unknown',
        ),
        ({'oracle_2': 'nowhere.pth'}, 'oracle_2: nowhere.pth'),
        ({'full': {'lrs': ['fast']}}, "full: lrs: ['fast'] must be a list such as [1e-4]"),
        ({'screening': {'seeds': []}}, 'screening: seeds: [] must be'),
        ({'seeds': []}, 'seeds: [] must be a list of whole numbers'),
        ({'rows': {'A': {}, 'B': {'set': {'network_g:dimm': 3}}}}, 'rows: B: network_g: dimm is an unknown key'),
        ({'rows': {'A': {'set': {'train:method': {'type': 'FineTune'}}}}}, 'stands still'),
        (
            {'rows': {'A': {'set': {'train:method': {'type': 'CovarianceNavigation', 'proxies': NOWHERE}}}}},
            'rows: A: train: method: proxies: images: dataroot_gt: /nowhere: no such folder',
        ),
    ],
)
def test_bad_input_creates_nothing(bench_file, tmp_path, capfd, change, words):
    tree = {**yaml.safe_load(bench_file.read_text()), **change}
    bench_file.write_text(yaml.safe_dump(tree))
    assert main(['bench', '-opt', str(bench_file)]) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert words in error
    assert not os.listdir(tmp_path / 'home')


def without_oracle(folder):
    """Take the oracle out of the base of `bench_file`; return its option tree."""
    base = folder / 'base.yml'
    tree = yaml.safe_load(base.read_text())
    del tree['path']['pretrain_network_oracle']
    base.write_text(yaml.safe_dump(tree))
    return tree


@pytest.mark.slow
def test_without_an_oracle_nothing_is_claimed_and_a_short_one_can_be_made(bench_file, tmp_path, capfd):
    without_oracle(tmp_path)
    bench = yaml.safe_load(bench_file.read_text())
    del bench['oracle_2']
    bench.update(seeds=[0], full={'steps': 2})
    bench_file.write_text(yaml.safe_dump(bench))
    assert main(['bench', '-opt', str(bench_file)]) == 0
    without = leaderboard(tmp_path / 'home')
    assert 'No oracle' in without['claims']
    assert {entry['relearn_excess'] for entry in without['tables']['final']['rows']} == {None}

    assert main(['bench', '-opt', str(bench_file), '--make-oracle', '0.024']) == 0
    found = leaderboard(tmp_path / 'home')
    assert found['claims'].startswith('Oracle: trained for a share')
    assert [entry['row'] for entry in found['tables']['final']['references']] == ['original', 'oracle']
    manifest = json.loads((tmp_path / 'home/bench/tiny_bench/manifest.json').read_text())
    assert manifest['short_oracle.safetensors']['share'] == 0.024
    assert Bench(str(bench_file)).kind_of_oracle == 'short'  # it stays


def test_a_broken_picture_of_the_attacker_is_named(bench_file, tmp_path, capfd):
    broken = sorted((tmp_path / 'relearn').glob('*/*'))[0]
    broken.write_bytes(b'no image')
    assert main(['bench', '-opt', str(bench_file)]) == 2
    assert f'{broken}: cannot be read' in capfd.readouterr().err
    assert not os.listdir(tmp_path / 'home')


def test_a_short_oracle_of_other_data_is_not_used(bench_file, tmp_path, capsys):
    tree = without_oracle(tmp_path)
    bench = Bench(str(bench_file))
    weights = tmp_path / 'home/bench/tiny_bench/short_oracle.safetensors'
    os.makedirs(weights.parent)
    sha256 = checkpoint.save_half(make_net(6).state_dict(), str(weights))
    entry = {'sha256': sha256, 'share': 0.1, 'whole_cost': 1000, 'recipe': short_oracle.recipe(bench, 0.1)}
    manifest.write_entry(str(weights), entry)
    assert Bench(str(bench_file)).kind_of_oracle == 'short'
    picture = sorted(Path(tree['datasets']['train']['retain']['rain']['dataroot_lq']).iterdir())[0]
    os.utime(picture, (1, 1))
    Pool('nowhere', {})  # looks at the files anew
    assert Bench(str(bench_file)).kind_of_oracle == 'none' and 'is not used' in capsys.readouterr().out


def test_a_job_is_known_by_the_content_of_its_files(tmp_path):
    (tmp_path / 'data').mkdir()
    for name in ('net.pth', 'data/a.png', 'data/lock.mdb'):
        (tmp_path / name).write_bytes(b'a')
    job = {'kind': 'x', 'tree': {'net': str(tmp_path / 'net.pth'), 'sets': [{'root': str(tmp_path / 'data')}]}}
    seen = []
    for name in (None, 'net.pth', 'data/a.png', 'data/b.png', 'data/lock.mdb'):
        if name:
            (tmp_path / name).write_bytes(b'bb')
        Pool(str(tmp_path), {})
        seen.append(digest(job))
    assert len(set(seen)) == 4 and seen[3] == seen[4]
    assert digest({**job, 'cost': 3, 'key': 'k'}) == seen[4] != digest({**job, 'seed': 1})


def test_a_job_that_fails_keeps_the_results_of_the_others(tmp_path, monkeypatch):
    failed = threading.Event()

    def work(job):
        if job['key'] == 'bad':
            failed.set()
            raise InputError('no')
        assert failed.wait(10)
        time.sleep(0.2)
        return {'value': 5}

    pool = Pool(str(tmp_path), {'work': work}, 2)
    os.makedirs(pool.folder)
    with ThreadPoolExecutor(2) as pool.executor, pytest.raises(InputError, match='no'):
        pool.run([{'kind': 'work', 'key': key, 'cost': 1} for key in ('good', 'bad')], 'work')
    assert pool.run([{'kind': 'work', 'key': 'good', 'cost': 1}], 'work') == {
        'good': {'value': 5}
    }  # without an executor


def test_checkpoints_with_several_sets_of_weights_are_read_as_the_base_says(bench_file, tmp_path):
    base = tmp_path / 'base.yml'
    tree = yaml.safe_load(base.read_text())
    weights = torch.load(tree['path']['pretrain_network_g'])['params']
    torch.save({'params': make_net(9).state_dict(), 'params_ema': weights}, tmp_path / 'both.pth')
    tree['path'].update(pretrain_network_g=str(tmp_path / 'both.pth'), param_key_g='params_ema')
    base.write_text(yaml.safe_dump(tree))
    course = Course(Bench(str(bench_file)), Answers({}, {}))
    net = subjects.load(course.looking_job('original', 'val', 1))
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    assert course.looking_job('oracle', 'val', 1)['param_key'] == 'params'


def test_gaps_of_both_signs_do_not_cancel():
    measured = {
        net: {
            'haze': {'role': 'forget', 'psnr': {'input': 1, 'net': value}, 'ssim': {'net': 1}},
            'rain': {'role': 'retain', 'psnr': {'input': 1, 'net': 30}, 'ssim': {'net': 1}},
        }
        for net, value in {'original': 20, 'oracle': 15, 'a': 18, 'b': 12}.items()
    }
    table = RelearnTable(Goals(), {(net, None): sets for net, sets in measured.items()})
    run = {'cost': 1, 'seconds': 1, 'memory': 1, 'cost_share': 0.1, 'stopped_by': 'x', 'kept_iteration': 0}
    row = table.row('A', ['a', 'b'], [run, {**run, 'kept_iteration': 3}])
    assert (row['forget_gap'], row['distance'], row['unchanged']) == (0, 3, 1)
    assert row['shortfall'] == pytest.approx(3 - 0.2)
    cells = leaderboard_file._cells({'references': [], 'rows': [{**row, 'budget': 0.05}]}, 'relearning')[1]
    assert cells[0] == 'A (over budget, 1 of 2 unchanged)' and cells[-1] == 'x'


def test_the_gpus_that_were_given_are_those_that_are_used(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,GPU-5')
    monkeypatch.setattr('threading.Thread.start', lambda self: None)
    _begin(SimpleNamespace(get=lambda: 3), 2)
    assert os.environ['CUDA_VISIBLE_DEVICES'] == 'GPU-5'


def test_paths_of_rows_are_seen_from_here(bench_file, tmp_path):
    (tmp_path / 'home/list.txt').write_text('a')
    tree = yaml.safe_load(bench_file.read_text())
    tree['rows']['Identity']['set']['datasets:train:forget:file_list'] = 'list.txt'
    bench = object.__new__(Bench)
    bench.options = SimpleNamespace(rows=tree['rows'], budget=0.1)
    bench.base, bench.searches = yaml.safe_load((tmp_path / 'base.yml').read_text()), {'Identity': [{}]}
    found = bench.tree('Identity', 0, 0)['datasets']['train']['forget']['file_list']
    assert found == str(tmp_path / 'home/list.txt')


def test_other_options_begin_anew(tmp_path, monkeypatch):
    started = []

    class Process:
        def __init__(self, command, cwd, **kwargs):
            folder = tmp_path / 'runs/experiments/A-t0-s0'
            started.append(folder.exists())
            folder.mkdir(parents=True, exist_ok=True)
            keys = ('cost', 'seconds', 'memory', 'stopped_by', 'kept_iteration', 'iterations')
            (folder / 'unlearn_summary.json').write_text(json.dumps(dict.fromkeys(keys, 1)))

        def wait(self):
            return 0

    monkeypatch.setattr(unlearn_job.subprocess, 'Popen', Process)
    for iterations in (1, 1, 2):
        unlearn_job.unlearn({'folder': str(tmp_path), 'tree': {'name': 'A-t0-s0', 'train': {'total_iter': iterations}}})
    assert started == [False, True, False]  # the same options go on, others do not


def test_plan_does_nothing(bench_file, tmp_path, capfd):
    assert main(['bench', '-opt', str(bench_file), '--plan']) == 0
    assert 'h in all' in capfd.readouterr().out
    assert not os.listdir(tmp_path / 'home')


@pytest.mark.skipif(not os.environ.get('AIO3_ROOT'), reason='AIO3_ROOT does not name a copy of aio3')
@pytest.mark.parametrize('path', sorted(glob.glob(osp.join(AIO3, 'bench_*.yml'))), ids=osp.basename)
def test_the_benchmarks_of_aio3_pass_every_check(path, monkeypatch):
    monkeypatch.chdir(osp.dirname(osp.dirname(AIO3)))
    bench = Bench(path)
    assert bench.oracle_cost > 0 and bench.needs_retain('FineTune')
    for row in bench.rows:  # no run plans for more iterations than its budget pays for
        tree = bench.tree(row, 0, 0)
        train, data = tree['train'], tree['datasets']['train']
        sources = (data.get('retain') or {}).values() if bench.needs_retain(row) else ()
        shown = not issubclass(METHOD_REGISTRY.get(train['method']['type']), (FineTune, L1Sparse))  # forget images
        asked = any(source.get('target', 'original') == 'original' for source in sources)
        step = 3 * shown + 3 * bool(sources) + asked
        cost = step * data['batch_size_per_gpu'] * train['total_iter']
        assert cost <= train['stop']['max_cost_share'] * bench.oracle_cost


@pytest.mark.parametrize('path', sorted(glob.glob(osp.join(AIO3, 'leaderboard_*.md'))), ids=osp.basename)
def test_no_budget_of_the_leaderboards_cut_a_run_short(path):
    with open(path, encoding='utf-8') as file:
        rows = [line for line in file if line.startswith('|')]
    assert len(rows) > 8 and not any('max_cost_share' in row for row in rows)
