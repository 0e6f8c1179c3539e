import os
import re
import signal

import pytest
import torch
from conftest import latest, make_net, start, start_long, summary, wait_for

from basicsr.data import build_dataset
from basicsr_unlearn import checkpoint, preflight
from basicsr_unlearn.methods import METHOD_REGISTRY, UnlearnMethod
from basicsr_unlearn.models.inference import restore
from basicsr_unlearn.models.reporter import Reporter
from basicsr_unlearn.models.restoration_model import RestorationModel


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
        'name',
        'finished',
        'method',
        'task',
        'iterations',
        'kept_iteration',
        'seconds',
        'stopped_by',
        'reason',
        'cost',
        'cost_share',
        'memory',
        'metrics',
        'sets',
        'leftovers',
        'skipped',
        'came_back',
        'history',
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


class Spoils(UnlearnMethod):
    """Does harm in iteration 3 (losses) or after it (weights)."""

    step = 0
    harm = 'loss'

    def losses(self, batch):
        self.step += 1
        loss = self.run.forward(batch.forget_lq)[0].mean()
        bad = self.step == 3 or (self.harm == 'explosion' and self.step == 13)
        factor = {'loss': float('inf'), 'explosion': 1e6 if self.step == 13 else 1.0}.get(self.harm, 1.0)
        return {'l_forget': loss * factor if bad else loss}

    def edit_gradients(self):
        if self.harm == 'gradient' and self.step == 3:
            self.run.net.output.weight.grad[0, 0, 0, 0] = float('nan')

    def edit_weights(self):
        if self.harm == 'weight' and self.step == 3:
            self.run.net.output.weight.data[0, 0, 0, 0] = float('nan')


@pytest.mark.parametrize(
    'harm, iteration, kept, words',
    [
        ('loss', 3, 2, 'l_forget is inf at iteration 3'),
        ('gradient', 3, 2, 'grad_norm is nan at iteration 3'),
        ('weight', 3, 2, 'a weight is not finite at iteration 3'),
        ('explosion', 13, 12, 'more than 1000 times the largest of the first 10 iterations, '),
    ],
)
def test_divergence_ends_with_status_3_and_good_weights(
    options, run, capsys, harm, iteration, kept, words, monkeypatch
):
    Spoils.harm = harm
    METHOD_REGISTRY.register(Spoils)
    try:
        options['train'].update(method={'type': 'Spoils'}, total_iter=20)
        options['logger']['save_checkpoint_freq'] = 3
        status, home = run(options)
    finally:
        del METHOD_REGISTRY._obj_map['Spoils']
    result = summary(home)
    assert status == 3 and result['stopped_by'] == 'diverged'
    assert (result['iterations'], result['kept_iteration']) == (iteration, kept)
    assert words in result['reason'] and result['reason'].endswith(f'iteration {result["iterations"]}')
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('basicsr: error: diverged: ') and words in error
    assert f'The weights of iteration {result["kept_iteration"]} are saved' in error
    for path in (home / 'experiments/tiny/models').iterdir():
        assert all(value.isfinite().all() for value in torch.load(path)['params'].values()), path


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


def kill_myself(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_anything_exists(options, run, monkeypatch, capfd, number):
    monkeypatch.setattr(preflight, 'check_data', lambda *_: kill_myself(number))
    before = signal.getsignal(number)
    status, home = run(options)
    assert status == 4 and not list(home.iterdir())
    assert 'basicsr: interrupted before the first iteration: nothing new is saved' in capfd.readouterr().err
    assert signal.getsignal(number) == before


def test_a_signal_while_measuring_before_the_first_iteration(options, run, monkeypatch, capfd):
    monkeypatch.setattr(Reporter, 'measure_before', lambda self: kill_myself())
    status, home = run(options)
    assert status == 4 and not list((home / 'experiments/tiny/training_states').iterdir())
    assert 'basicsr: interrupted before the first iteration' in capfd.readouterr().err


def test_a_signal_while_validating_saves_what_was_trained(options, run, monkeypatch):
    options['val']['val_freq'] = 3
    options['logger']['save_checkpoint_freq'] = 100
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, 'measure', lambda *_: kill_myself())
        status, home = run(options)
    assert status == 4 and os.listdir(home / 'experiments/tiny/training_states') == ['3.state']
    status, _ = run(options, '--auto_resume')
    assert status == 0 and summary(home)['iterations'] == 4


def test_a_signal_while_the_result_is_measured(options, run, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, 'report', lambda *_: kill_myself())
        status, home = run(options)
    assert status == 4 and 'net_g_latest.pth is saved' in capfd.readouterr().err
    weights = latest(home)
    status, _ = run(options, '--auto_resume')
    assert status == 0 and summary(home)['iterations'] == 4
    assert all(torch.equal(value, weights[key]) for key, value in latest(home).items())


def test_a_signal_in_plain_training_saves_too(options, run, monkeypatch, pairs):
    options.update(model_type='RestorationModel')
    train = options['datasets']['train']
    train.update(type='MixedPairedDataset', sources={'haze': pairs['haze']})
    del train['forget'], train['retain'], options['train']['method'], options['train']['stop']
    for key in ('val_haze', 'val_noise'):
        del options['datasets'][key]['role']
    options['train']['pixel_opt'] = {'type': 'L1Loss'}
    options['logger'].update(save_checkpoint_freq=1, keep_last=2)
    step = RestorationModel.forward_for_training

    def interrupted(self, images):
        if self.optimizer_g.state_dict()['state'] and 'sent' not in sent:
            sent.append('sent')
            kill_myself()
        return step(self, images)

    sent = []
    monkeypatch.setattr(RestorationModel, 'forward_for_training', interrupted)
    status, home = run(options)
    states = home / 'experiments/tiny/training_states'
    assert status == 4 and sorted(os.listdir(states)) == ['1.state', '2.state']
    status, _ = run(options, '--auto_resume')
    assert status == 0 and sorted(os.listdir(states)) == ['3.state', '4.state']


def test_a_signal_to_the_whole_group_with_workers(options, homes):
    home, _ = homes
    options['datasets']['train']['num_worker_per_gpu'] = 2
    process = start_long(options, home, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)
    text = process.communicate()[0]
    assert process.returncode == 4 and 'Traceback' not in text, text[-2000:]


def test_a_signal_saves_and_ends_with_status_4(options, homes):
    home, _ = homes
    process = start_long(options, home)
    process.send_signal(signal.SIGTERM)
    text = process.communicate()[0]
    assert process.returncode == 4, text[-2000:]
    numbers = [int(name.split('.')[0]) for name in os.listdir(home / 'experiments/tiny/training_states')]
    assert f'saved at iteration {max(numbers)}' in text


def test_a_run_ends_when_its_share_is_spent(options, run):
    options['train'].update(oracle_cost=1000, total_iter=50)
    options['train']['stop'].update(max_cost_share=0.05, every=10)
    status, home = run(options)
    result = summary(home)
    assert status == 0 and result['stopped_by'] == 'max_cost_share'
    # an iteration costs 3 x 4 + 2, a look at the probes 4: the third one ends at 4 + 3 x 14 = 46, and a look fits in
    assert result['iterations'] == 3 and result['cost'] == 50 and result['cost_share'] == 0.05
    assert result['memory'] > 50
