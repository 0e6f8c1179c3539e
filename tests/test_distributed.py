"""Several processes on the CPU (gloo): the same results, decisions together, and what happens when one dies."""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import latest, start, summary, wait_for
from torch import distributed

from basicsr_unlearn import processes
from basicsr_unlearn.errors import InputError

TORCHRUN = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2')
SMOOTH = ('online', 'prompt', 'cache', 'scrub')  # their first losses are rounding alone
PROXIES = {'scenes': 8, 'degradation': {'type': 'gaussian_noise', 'sigma': 25}}
QUICK = {
    'loss': {'type': 'NegGrad'},
    'masked': {'type': 'SalUn', 'images': 8, 'host': {'type': 'IdentityTarget'}},
    'one_shot': {'type': 'SelectiveSynapticDampening', 'images': 8, 'alpha': 1.0},
}
OTHERS = {
    'mean_abs': {'type': 'SalUn', 'images': 8, 'aggregate': 'mean_abs', 'host': {'type': 'BadTeacher'}},
    'deep': {'type': 'DeepForget'},
    'projection': {'type': 'GradientProjection', 'images': 8},
    'navigation': {'type': 'CovarianceNavigation', 'images': 8, 'proxies': PROXIES},
    'online': {'type': 'InstanceWise', 'target': 'identity', 'eps_rms': 0.1, 'importance_weight': 0.1},
    'prompt': {'type': 'InstanceWise', 'target': 'prompt', 'n_adv': 2, 'steps': 2},
    'cache': {'type': 'InstanceWise', 'craft': 'cache', 'cache_images': 12, 'target': 'identity', 'eps_rms': 0.1},
    'noise': {'type': 'RandomTarget'},
    'other': {'type': 'RandomTarget', 'target': 'other'},
    'encoder': {'type': 'EncoderUnlearning'},
    'blindspot': {'type': 'Blindspot', 'bad_steps': 3},
    'residual': {'type': 'ResidualAlignmentLoRA', 'shift_weight': 0.01},
    'scrub': {'type': 'Scrub', 'max_steps': 2, 'min_steps': 3},
    'distancing': {'type': 'FeatureDistancing', 'steps': 2},
    'lipschitz': {'type': 'LipschitzZeroShot', 'samples': 2, 'isotropic_weight': 1.0, 'anchor_weight': 1.0},
    'influence': {'type': 'InfluenceUpdate', 'images': 8},
    'curved': {'type': 'InfluenceUpdate', 'order': 'gauss_newton', 'images': 4, 'steps': 2, 'layers': ['output']},
}


def free_port(number=1):
    """Return the first of so many ports that nobody listens at, below those that connections are given."""
    while True:
        first = random.randrange(20000, 30000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + number):
                stack.enter_context(socket.socket()).bind(('127.0.0.1', port))
            return first


def run_all(options, methods, root, processes):
    """Run all methods with a whole batch of four on some processes; return the folder of each."""
    files = {}
    for name, section in methods.items():
        folder = root / f'{processes}_{name}'
        folder.mkdir()
        options['train']['method'], options['train']['optim_g'] = section, {'type': 'AdamW', 'lr': 1e-4}
        if name in SMOOTH:
            options['train']['method'] = {**section, 'retain_opt': {'type': 'MSELoss'}}
            options['train']['optim_g'] = {'type': 'SGD', 'lr': 0.1}
        options['datasets']['train']['batch_size_per_gpu'] = 4 // processes
        files[name] = folder / 'options.yml'
        files[name].write_text(yaml.safe_dump(options))
    port = free_port(len(files))
    command = [sys.executable, str(Path(__file__).parent / 'ranks.py'), str(port), *map(str, files.values())]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)}
    environment.update(WORLD_SIZE=str(processes), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    ranks = [
        subprocess.Popen(
            command,
            env={**environment, 'RANK': str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    texts = [rank.communicate()[0] for rank in ranks]
    assert not any(rank.returncode for rank in ranks), '\n\n'.join(text[-1500:] for text in texts)
    return {name: file.parent for name, file in files.items()}


@pytest.mark.parametrize('methods', [QUICK, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=['quick', 'others'])
def test_the_number_of_processes_changes_nothing(options, tmp_path, weights, methods):
    """Twenty iterations on a whole batch of four, on one, two and four processes.

    The distance of the weights is at most a thousandth of the way that they went: sums of floats depend on their order,
    and AdamW makes steps of full size of gradients that are hardly more than rounding. Where the original's own answers
    are the target of an L1 loss, the first gradients are nothing but the signs of rounding: those have SGD and MSELoss.
    """
    options['datasets']['train']['retain']['rain']['target'] = 'gt'  # no loss that is rounding alone
    options['manual_seed'] = 11  # a process seeds with its number on top; 3 + 2 has drawn the untrained weights
    options['train'].update(total_iter=20)
    options['train']['stop'].update(every=5, probes=3)
    options['logger'].update(use_tb_logger=False, save_checkpoint_freq=100)
    del options['datasets']['val_noise']
    homes = {number: run_all(options, methods, tmp_path, number) for number in (1, 2, 4)}
    before = torch.load(weights)['params']
    for name in methods:
        one, found = latest(homes[1][name]), summary(homes[1][name])
        way = torch.cat([(one[key] - before[key]).flatten() for key in one]).norm()
        assert way > 0
        for number in (2, 4):
            many, other = latest(homes[number][name]), summary(homes[number][name])
            apart = torch.cat([(one[key] - many[key]).flatten() for key in one]).norm()
            assert apart < 1e-3 * way, (name, number, float(apart / way))
            assert other['iterations'] == found['iterations'] and other['stopped_by'] == found['stopped_by']
            assert other['cost'] == pytest.approx(found['cost'], rel=0.02)
            for a, b in zip(found['sets'], other['sets'], strict=True):
                assert a['images'] == b['images']
                assert a['psnr']['original'] == pytest.approx(b['psnr']['original'], abs=1e-9)
                assert a['psnr']['unlearned'] == pytest.approx(b['psnr']['unlearned'], abs=0.002)


def test_two_processes_on_cpu(options, homes):
    home, _ = homes
    options['train']['stop'] = {'forget_psnr_below': 90, 'retain_budget': None, 'every': 2, 'probes': 2}
    process = start(options, home, '--launcher', 'pytorch', launcher=TORCHRUN)
    text = process.communicate()[0]
    assert process.returncode == 0, text[-3000:]
    result = summary(home)
    assert result['stopped_by'] == 'forget_level' and result['iterations'] == 2
    assert result['cost'] == 2 * 2 * (3 * 4 + 2) + 2 * 4  # the probes are shared out
    assert result['sets'][0]['images'] == 4


def test_two_processes_that_spend_unlike_sums_end_together(options, homes, pairs):
    home, _ = homes
    noise = {'dataroot_gt': pairs['rain']['dataroot_gt'], 'degradation': {'type': 'gaussian_noise', 'sigma': 25}}
    train = options['datasets']['train']
    train['batch_size_per_gpu'] = 1  # 6 images of the oracle's cost, and one more where the original is asked
    train['retain'] = {'rain': {**pairs['rain'], 'target': 'gt'}, 'noise': {**noise, 'target': 'original'}}
    options['train'].update(oracle_cost=600, total_iter=100)
    options['train']['stop'].update(max_cost_share=1.0, every=100)
    process = start(options, home, '--launcher', 'pytorch', launcher=TORCHRUN)
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 0, text[-3000:]
    result = summary(home)
    assert result['stopped_by'] == 'max_cost_share' and 600 - 14 - 2 * 6 < result['cost'] <= 600
    assert (result['cost'] - 2 * 4) % (2 * 6 * result['iterations']) > 0  # they did not spend alike


@pytest.mark.parametrize('kind', ['EncoderUnlearning', 'DeepForget'])
def test_two_processes_run_methods_with_weights_or_gradients_of_their_own(options, homes, weights, kind):
    home, _ = homes
    options['train']['method'] = {'type': kind}
    options['train']['total_iter'] = 2
    process = start(options, home, '--launcher', 'pytorch', launcher=TORCHRUN)
    text = process.communicate()[0]
    assert process.returncode == 0, text[-3000:]
    before, after = torch.load(weights)['params'], latest(home)
    moved = {key.split('.')[0] for key in before if not torch.equal(before[key], after[key])}
    decoder = {'output', 'refinement', 'decoder_level1'}
    assert 'latent' in moved and moved & decoder == (set() if kind == 'EncoderUnlearning' else decoder)


def launch(options, home, *arguments):
    return start(options, home, '--launcher', 'pytorch', *arguments, launcher=TORCHRUN)


def children(process):
    """Return the numbers of the two processes that torchrun has started."""
    found = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(process.pid)], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


def long_run(options):
    options['train'].update(total_iter=16)
    options['logger'].update(use_tb_logger=False, save_checkpoint_freq=2)
    del options['datasets']['val_noise']
    return options


def test_a_killed_process_ends_the_other_and_the_pair_goes_on_to_the_same_bits(options, homes):
    whole, killed = homes
    long_run(options)
    undisturbed = launch(options, whole)
    process = launch(options, killed)
    wait_for(killed / 'experiments/tiny/training_states/4.state', process)
    os.kill(children(process)[1], signal.SIGKILL)
    text = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    assert 'another process is gone; this one ends too.' in text and '--auto_resume' in text
    assert not (killed / 'experiments/tiny/models/net_g_latest.pth').exists(), 'killed too late to test anything'
    again = launch(options, killed, '--auto_resume')
    text = again.communicate()[0]
    undisturbed.communicate()
    assert again.returncode == undisturbed.returncode == 0, text[-3000:]
    first, second = latest(whole), latest(killed)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert summary(whole)['cost'] == summary(killed)['cost']


def test_a_signal_to_all_processes_saves_once(options, homes):
    home, _ = homes
    long_run(options)['train'].update(total_iter=5000)
    process = launch(options, home)
    wait_for(home / 'experiments/tiny/training_states/2.state', process)
    for number in children(process):
        os.kill(number, signal.SIGTERM)
    text = process.communicate(timeout=60)[0]
    assert re.search(r'exitcode\s*: 4', text) and 'Interrupted and saved at iteration' in text, text[-3000:]
    state = max((home / 'experiments/tiny/training_states').iterdir(), key=lambda path: int(path.stem))
    assert len(torch.load(state)['unlearn']['random']) == 2  # of both processes


@pytest.fixture
def store(monkeypatch):
    port = free_port()
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    monkeypatch.setenv('MASTER_PORT', str(port))
    return distributed.TCPStore('127.0.0.1', port, is_master=True, wait_for_workers=False)


def make_watch(monkeypatch, rank):
    monkeypatch.setattr(distributed, 'get_rank', lambda: rank)
    monkeypatch.setattr(distributed, 'get_world_size', lambda: 2)
    return processes.Watch()


def test_the_watch_hears_who_is_silent_and_who_has_left(store, monkeypatch):
    monkeypatch.setattr(processes, 'BEAT', 1000.0)  # the threads sleep; the test looks
    monkeypatch.setattr(processes, 'SILENCE', 5.0)
    one, two = make_watch(monkeypatch, 0), make_watch(monkeypatch, 1)
    now = [100.0]
    monkeypatch.setattr(processes.time, 'monotonic', lambda: now[0])
    assert two._look() is None and one._look() is None
    now[0] += 4
    assert two._look() is None and one._look() is None  # a new sign of life
    now[0] += 6
    assert one._look() == 'process 1 of 2 has given no sign of life for 5 s'
    two.close(fine=True)
    assert one._look() is None
    one.close(fine=False)
    three = make_watch(monkeypatch, 1)
    assert three._look() == 'process 0 of 2 has ended with an error'
    three.close(fine=True)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A `scontrol` that knows one list of hosts."""
    script = tmp_path / 'bin' / 'scontrol'
    script.parent.mkdir()
    script.write_text('#!/bin/sh\n[ "$1 $2 $3" = "show hostnames node[1-2]" ] && printf "localhost\\nnode2\\n"\n')
    script.chmod(0o755)
    monkeypatch.setenv('PATH', f'{script.parent}:{os.environ["PATH"]}')
    for name, value in (('NTASKS', 2), ('NODELIST', 'node[1-2]'), ('LOCALID', 0)):
        monkeypatch.setenv(f'SLURM_{name}', str(value))
    monkeypatch.setenv('MASTER_PORT', str(free_port()))


def test_two_tasks_of_slurm(options, homes, slurm, monkeypatch):
    home, _ = homes
    long_run(options)['train']['total_iter'] = 2
    tasks = []
    for number in range(2):
        monkeypatch.setenv('SLURM_PROCID', str(number))
        tasks.append(start(options, home, '--launcher', 'slurm'))
    texts = [task.communicate()[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], '\n'.join(texts)[-3000:]
    assert 'World size (gpu number): 2' in texts[0] and summary(home)['cost'] == 2 * 2 * (3 * 4 + 2) + 2 * 4


def test_slurm_without_a_step_or_an_answer(slurm, monkeypatch):
    with pytest.raises(InputError, match='--launcher slurm: SLURM_PROCID is not set. Start with: srun python'):
        processes.join_slurm()
    monkeypatch.setenv('SLURM_PROCID', '0')
    monkeypatch.setenv('SLURM_NODELIST', 'other; touch here')
    with pytest.raises(InputError, match='scontrol show hostnames other; touch here failed'):
        processes.join_slurm()


def test_torchrun_is_missing(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(InputError, match='--launcher pytorch: RANK is not set. Start with: torchrun'):
        processes.join_torchrun()
