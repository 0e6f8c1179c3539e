import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from conftest import latest, make_net

from basicsr.data import build_dataset
from basicsr_unlearn import checkpoint
from basicsr_unlearn.methods import METHOD_REGISTRY, UnlearnMethod
from basicsr_unlearn.models.inference import restore


def summary(home, name='tiny'):
    with open(home / 'experiments' / name / 'unlearn_summary.json') as file:
        return json.load(file)


def log_text(home, name='tiny'):
    logs = sorted((home / 'experiments' / name).glob('train_*.log'))
    return logs[-1].read_text()


def test_a_whole_run(options, run, tmp_path):
    torch.save({'params': make_net(1).state_dict()}, tmp_path / 'oracle.pth')
    options['path']['pretrain_network_oracle'] = str(tmp_path / 'oracle.pth')
    options['train']['oracle_cost'] = 1000
    status, home = run(options)
    assert status == 0
    result = summary(home)
    assert set(result) == {
        'version',
        'method',
        'task',
        'iterations',
        'kept_iteration',
        'seconds',
        'stopped_by',
        'cost',
        'cost_share',
        'memory',
        'metrics',
        'sets',
        'skipped',
    }
    assert (result['method'], result['task'], result['stopped_by']) == ('NegGrad', 'degradation', 'total_iter')
    assert result['iterations'] == result['kept_iteration'] == 4
    # 4 steps on 2 + 2 images, the original asked about 2 each time, 4 probes looked at 3 times
    assert result['cost'] == 4 * (3 * 4 + 2) + 4 * 3
    assert result['cost_share'] == pytest.approx(result['cost'] / 1000)
    haze, noise = result['sets']
    assert (haze['name'], haze['role'], haze['images']) == ('haze', 'forget', 4)
    assert (noise['name'], noise['role'], noise['images']) == ('noise', 'retain', 4)
    assert len({haze['psnr'][column] for column in ('input', 'original', 'unlearned', 'oracle')}) == 4
    assert 5 < haze['psnr']['input'] < 40 and 0 < haze['ssim']['unlearned'] < 1
    table = (home / 'experiments' / 'tiny' / 'unlearn_summary.md').read_text()
    assert log_text(home).rstrip().endswith(table.rstrip())
    assert set(latest(home)) == set(make_net().state_dict())


def test_the_table_is_what_the_weights_do(options, run, weights):
    """Measure the saved weights again, independently of the model."""
    _, home = run(options)
    net = make_net()
    net.load_state_dict(latest(home))
    options['datasets']['val_haze'].update(phase='val', scale=1)
    values = []
    for item in build_dataset(options['datasets']['val_haze']):
        with torch.no_grad():
            result = restore(net, item['lq'][None])[0].clamp(0, 1)
        error = ((result * 255).round() - (item['gt'] * 255).round()).square().mean()
        values.append(10 * torch.log10(255**2 / error))
    assert summary(home)['sets'][0]['psnr']['unlearned'] == pytest.approx(float(sum(values) / len(values)), abs=2e-3)


def test_without_an_oracle_it_says_so(options, run):
    _, home = run(options)
    assert summary(home)['sets'][0]['psnr']['oracle'] is None and summary(home)['cost_share'] is None
    assert 'No oracle was given' in log_text(home)


def test_unbounded_ascent_leaves_the_last_good_state(options, run, weights):
    options['train'].update(
        method={'type': 'GradientAscent', 'forget_opt': {'type': 'AscentLoss', 'bound': 'none'}},
        stop={'retain_budget': 0.3, 'forget_psnr_below': None, 'every': 2, 'probes': 2},
        total_iter=60,
        optim_g={'type': 'Adam', 'lr': 1e-3},
    )
    status, home = run(options)
    result = summary(home)
    assert status == 0 and result['stopped_by'] == 'retain_budget'
    assert result['kept_iteration'] < result['iterations'] < 60
    lost = result['sets'][1]['psnr']['original'] - result['sets'][1]['psnr']['unlearned']
    assert lost < 1
    if result['kept_iteration'] == 0:
        assert 'NOTHING WAS FORGOTTEN' in log_text(home)
        assert all(
            torch.equal(latest(home)[key], value) for key, value in checkpoint.load_weights(weights, 'w').items()
        )


def test_identity_target_reaches_the_level_and_stops(options, run):
    options['train'].update(
        method={'type': 'IdentityTarget', 'retain_weight': 0.0},
        stop={'forget_psnr_below': 90, 'retain_budget': None, 'every': 3},
        total_iter=50,
    )
    status, home = run(options)
    assert status == 0
    assert summary(home)['stopped_by'] == 'forget_level' and summary(home)['iterations'] == 3
    assert '[tiny..][epoch:  0, iter:       2' in log_text(home)


def test_identity_target_moves_the_output_to_the_input(options, run, weights):
    options['train'].update(
        method={'type': 'IdentityTarget', 'retain_weight': 0.0}, total_iter=12, optim_g={'type': 'Adam', 'lr': 1e-3}
    )
    _, home = run(options)
    before, after = make_net(), make_net()
    after.load_state_dict(latest(home))
    x = build_dataset(options['datasets']['val_haze'] | {'phase': 'val', 'scale': 1})[0]['lq'][None]
    with torch.no_grad():
        assert (after(x) - x).abs().mean() < 0.6 * (before(x) - x).abs().mean()


def test_original_as_target_starts_at_zero(options, run):
    """With the original's own answers as targets the retain loss of the first step is zero, up to rounding."""
    options['train'].update(method={'type': 'NegGrad'}, total_iter=1)

    def first_loss():
        _, home = run(options)
        return float(re.search(r'l_retain: (\S+)', log_text(home))[1])

    assert first_loss() < 1e-6
    options['datasets']['train']['retain']['rain'] = {**options['datasets']['train']['retain']['rain'], 'target': 'gt'}
    assert first_loss() > 1e-2


def test_a_finished_experiment_is_archived_not_overwritten(options, run):
    _, home = run(options)
    first = latest(home)
    run(options)
    archived = [name for name in os.listdir(home / 'experiments') if name.startswith('tiny_archived_')]
    assert len(archived) == 1
    assert all(torch.equal(value, first[key]) for key, value in latest(home, archived[0]).items())


def test_the_same_options_give_the_same_weights(options, run):
    _, home = run(options)
    first = latest(home)
    options['datasets']['train']['num_worker_per_gpu'] = 2
    run(options)
    assert all(torch.equal(value, first[key]) for key, value in latest(home).items())


def test_divergence_ends_with_status_3_and_good_weights(options, run, weights):
    @METHOD_REGISTRY.register()
    class Explodes(UnlearnMethod):
        steps = 0

        def losses(self, batch):
            self.steps += 1
            factor = float('inf') if self.steps == 3 else 1.0
            return {'l_forget': self.run.forward(batch.forget_lq)[0].mean() * factor}

    try:
        options['train']['method'] = {'type': 'Explodes'}
        status, home = run(options)
    finally:
        del METHOD_REGISTRY._obj_map['Explodes']
    assert status == 3
    assert summary(home)['stopped_by'] == 'diverged' and summary(home)['kept_iteration'] == 2
    assert all(value.isfinite().all() for value in latest(home).values())


def test_hooks_are_called_in_order(options, run):
    calls = []

    @METHOD_REGISTRY.register()
    class Records(UnlearnMethod):
        def trainable(self, net):
            calls.append('trainable')
            return list(net.refinement.parameters())

        def setup(self):
            calls.append('setup')

        def losses(self, batch):
            calls.append('losses')
            return self.retain_term(self.restore_both(batch)[1], batch) | {'l_x': self.run.net.output.weight.sum() * 0}

        def edit_gradients(self):
            calls.append('edit_gradients')
            assert self.run.net.output.weight.grad is None

        def edit_weights(self):
            calls.append('edit_weights')

        @property
        def done(self):
            return calls.count('losses') == 3

        def export(self, net):
            calls.append('export')

    try:
        options['train']['method'] = {'type': 'Records'}
        status, home = run(options)
    finally:
        del METHOD_REGISTRY._obj_map['Records']
    step = ['losses', 'edit_gradients', 'edit_weights']
    assert calls == ['trainable', 'setup', *step * 3, 'export']
    assert status == 0 and summary(home)['stopped_by'] == 'method' and summary(home)['iterations'] == 3
    before = make_net().state_dict()
    moved = {key.split('.')[0] for key, value in latest(home).items() if not torch.equal(value, before[key])}
    assert moved <= {'refinement'}


def test_keep_last_removes_older_files(options, run):
    options['train']['total_iter'] = 9
    options['logger'].update(save_checkpoint_freq=1, keep_last=2)
    _, home = run(options)
    assert sorted(os.listdir(home / 'experiments/tiny/models')) == ['net_g_8.pth', 'net_g_9.pth', 'net_g_latest.pth']
    assert sorted(os.listdir(home / 'experiments/tiny/training_states')) == ['8.state', '9.state']


def test_tensorboard(options, run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    torch.save({'params': make_net(1).state_dict()}, tmp_path / 'oracle.pth')
    options['path']['pretrain_network_oracle'] = str(tmp_path / 'oracle.pth')
    _, home = run(options)
    assert len(os.listdir(home / 'tb_logger/tiny')) == 1  # one writer: the live page would drop events of a second
    events = EventAccumulator(str(home / 'tb_logger/tiny')).Reload()
    scalars, images = set(events.Tags()['scalars']), set(events.Tags()['images'])
    assert {
        'losses/l_forget',
        'losses/l_retain',
        'psnr_forget/haze',
        'ssim_forget/haze',
        'psnr_retain/noise',
        'psnr_gap_to_oracle/haze',
        'train/learning_rate',
        'probes/forget',
        'probes/retain/rain',
    } <= scalars
    assert images == {'haze/0', 'haze/1', 'noise/0', 'noise/1'}
    assert [event.step for event in events.Scalars('psnr_forget/haze')] == [0, 4]
    picture = events.Images('haze/0')[0]
    assert (picture.width, picture.height) == (4 * 48, 48 + 20)


def test_debug_validates_on_the_way_and_writes_no_tensorboard(options, run):
    options['train']['total_iter'] = 100
    status, home = run(options, '--debug')
    assert status == 0 and not (home / 'tb_logger').exists()
    assert 'Validation haze (forget) @ 8 iter' in log_text(home, 'debug_tiny')
    result = summary(home, 'debug_tiny')
    assert result['iterations'] == 16 and [entry['images'] for entry in result['sets']] == [2, 2]
    estimate = re.search(
        r'Dry run: (\S+) s for an iteration.* 100 iterations take about (\d+) s', log_text(home, 'debug_tiny')
    )
    assert float(estimate[2]) == pytest.approx(100 * float(estimate[1]), abs=1)
    assert 'Peak memory' in log_text(home, 'debug_tiny')


def test_a_name_with_debug_is_no_dry_run(options, run):
    options.update(name='debug_colours')
    options['train']['total_iter'] = 18
    _, home = run(options)
    result = summary(home, 'debug_colours')
    assert result['iterations'] == 18 and [entry['images'] for entry in result['sets']] == [4, 4]


def test_private_runs_show_no_forget_picture(options, run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options['logger']['private'] = True
    options['val']['save_img'] = True
    _, home = run(options)
    images = EventAccumulator(str(home / 'tb_logger/tiny')).Reload().Tags()['images']
    assert images == ['noise/0', 'noise/1']
    saved = [name for _, _, names in os.walk(home / 'experiments/tiny/visualization') for name in names]
    assert len(saved) == 4 and all(name.startswith('noise_') for name in saved)
    assert '0001.png' not in log_text(home)


# --- processes: a kill, a signal, two processes ---


def start(tree, home, *arguments, launcher=()):
    path = home / 'options.yml'
    path.write_text(yaml.safe_dump(tree))
    command = [sys.executable, *launcher, '-m', 'basicsr_unlearn', 'train', '-opt', str(path), *arguments]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(path, process, seconds=120):
    end = time.time() + seconds
    while not path.exists():
        assert process.poll() is None and time.time() < end, process.communicate()[0][-2000:]
        time.sleep(0.01)


@pytest.fixture
def homes(tmp_path):
    for name in ('whole', 'killed'):
        (tmp_path / name).mkdir()
    return tmp_path / 'whole', tmp_path / 'killed'


def test_kill_and_resume_gives_the_same_bits(options, homes):
    whole, killed = homes
    options['train'].update(
        total_iter=24, stop={'every': 4, 'forget_psnr_below': None, 'retain_budget': None, 'probes': 2}
    )
    options['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [5, 13], 'gamma': 0.5}
    options['logger']['save_checkpoint_freq'] = 3
    options['datasets']['train']['num_worker_per_gpu'] = 1
    one = start(options, whole)
    two = start(options, killed)
    wait_for(killed / 'experiments/tiny/training_states/9.state', two)
    two.send_signal(signal.SIGKILL)
    two.wait()
    assert not (killed / 'experiments/tiny/models/net_g_latest.pth').exists(), 'killed too late to test anything'
    again = start(options, killed, '--auto_resume')
    text = again.communicate()[0]
    one.communicate()
    assert one.returncode == again.returncode == 0, text[-2000:]
    assert 'Resuming training from epoch' in text
    first, second = latest(whole), latest(killed)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    a, b = summary(whole), summary(killed)
    assert a['sets'] == b['sets'] and a['cost'] == b['cost']


def test_a_signal_saves_and_ends_with_status_4(options, homes):
    home, _ = homes
    options['train']['total_iter'] = 5000
    options['logger']['save_checkpoint_freq'] = 2
    process = start(options, home)
    wait_for(home / 'experiments/tiny/training_states/2.state', process)
    process.send_signal(signal.SIGTERM)
    text = process.communicate()[0]
    assert process.returncode == 4, text[-2000:]
    numbers = [int(name.split('.')[0]) for name in os.listdir(home / 'experiments/tiny/training_states')]
    assert f'saved at iteration {max(numbers)}' in text


def test_two_processes_on_cpu(options, homes):
    home, _ = homes
    launcher = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2')
    options['train']['stop'] = {'forget_psnr_below': 90, 'retain_budget': None, 'every': 2, 'probes': 2}
    process = start(options, home, '--launcher', 'pytorch', launcher=launcher)
    text = process.communicate()[0]
    assert process.returncode == 0, text[-3000:]
    result = summary(home)
    assert result['stopped_by'] == 'forget_level' and result['iterations'] == 2
    assert result['cost'] == 2 * (2 * (3 * 4 + 2) + 4 * 2)
    assert result['sets'][0]['images'] == 4


def test_two_processes_that_spend_unlike_sums_end_together(options, homes, pairs):
    home, _ = homes
    launcher = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2')
    noise = {'dataroot_gt': pairs['rain']['dataroot_gt'], 'degradation': {'type': 'gaussian_noise', 'sigma': 25}}
    train = options['datasets']['train']
    train['batch_size_per_gpu'] = 1  # 6 images of the oracle's cost, and one more where the original is asked
    train['retain'] = {'rain': {**pairs['rain'], 'target': 'gt'}, 'noise': {**noise, 'target': 'original'}}
    options['train'].update(oracle_cost=600, total_iter=100)
    options['train']['stop'].update(max_cost_share=1.0, every=100)
    process = start(options, home, '--launcher', 'pytorch', launcher=launcher)
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 0, text[-3000:]
    result = summary(home)
    assert result['stopped_by'] == 'max_cost_share' and 600 <= result['cost'] < 600 + 14 + 2 * 6
    assert (result['cost'] - 2 * 2 * 6) % (2 * 6 * result['iterations']) > 0  # they did not spend alike


@pytest.mark.parametrize('kind', ['EncoderUnlearning', 'DeepForget'])
def test_two_processes_run_methods_with_weights_or_gradients_of_their_own(options, homes, weights, kind):
    home, _ = homes
    launcher = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2')
    options['train']['method'] = {'type': kind}
    options['train']['total_iter'] = 2
    process = start(options, home, '--launcher', 'pytorch', launcher=launcher)
    text = process.communicate()[0]
    assert process.returncode == 0, text[-3000:]
    before, after = torch.load(weights)['params'], latest(home)
    moved = {key.split('.')[0] for key in before if not torch.equal(before[key], after[key])}
    decoder = {'output', 'refinement', 'decoder_level1'}
    assert 'latent' in moved and moved & decoder == (set() if kind == 'EncoderUnlearning' else decoder)


def test_a_run_ends_when_its_share_is_spent(options, run):
    options['train'].update(oracle_cost=1000, total_iter=50)
    options['train']['stop'].update(max_cost_share=0.05, every=10)
    status, home = run(options)
    result = summary(home)
    assert status == 0 and result['stopped_by'] == 'max_cost_share'
    # an iteration costs 3 x 4 + 2, a look at the probes 4: the third one ends at 4 + 3 x 14 = 46, the fourth at 60
    assert result['iterations'] == 4 and result['cost'] == 64 and result['cost_share'] == 0.064
    assert result['memory'] > 50
