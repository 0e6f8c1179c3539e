"""Unlearning with every network of the package and with BasicSR's own; under autocast, compiled, checkpointed."""

import re

import pytest
import torch
from conftest import latest
from test_archs import TINY

from basicsr.archs import build_network
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.preflight import option_tests

SWINIR = {
    'img_size': 32,
    'window_size': 8,
    'embed_dim': 12,
    'depths': [2],
    'num_heads': [2],
    'mlp_ratio': 2,
    'upscale': 1,
    'upsampler': '',
}
NETWORKS = {
    **TINY,
    'SwinIR': SWINIR,
    'EDSR': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 1},
}
COMPILED = (('PromptIR', None), ('AdaIR', 'bf16'), ('NAFNet', None), ('SwinIR', 'bf16'))  # a minute or two each
SGD = {'type': 'SGD', 'lr': 1e-3}  # Adam divides by the size of a gradient


def unlearn(options, run, folder, name, network=None, **train):
    """Run four iterations with a network; return its weights before and after, and the log."""
    options['network_g'] = {'type': name, **NETWORKS[name], **(network or {})}
    torch.manual_seed(1)
    before = build_network(options['network_g']).state_dict()
    path = folder / f'{name}.pth'
    if not path.exists():
        torch.save({'params': before}, path)
    options['path']['pretrain_network_g'] = str(path)
    options['train'].update(train, method={'type': 'IdentityTarget'})
    status, home = run(options)
    assert status == 0
    (log,) = (home / 'experiments' / 'tiny').glob('*.log')
    return torch.load(path)['params'], latest(home), log.read_text()


def moved(before, after):
    assert before.keys() == after.keys()
    learnt = [key for key, value in after.items() if value.is_floating_point()]
    assert all(after[key].dtype == torch.float32 and after[key].isfinite().all() for key in learnt)
    return max((after[key] - before[key]).abs().max() for key in learnt)


def losses(log):
    return [float(value) for value in re.findall(r'l_forget: (\S+)', log)]


@pytest.mark.parametrize('amp', [None, 'bf16'])
@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_unlearns(options, run, tmp_path, name, amp):
    before, after, log = unlearn(options, run, tmp_path, name, amp=amp)
    assert 1e-5 < moved(before, after) < 0.1
    assert 'Loaded the original' in log and 'fingerprint' in log


def test_bf16_and_checkpoint_change_little_or_nothing(options, run, tmp_path):
    runs = {}
    for kind, network, amp in (('plain', {}, None), ('thrifty', {'checkpoint': True}, None), ('bf16', {}, 'bf16')):
        runs[kind] = unlearn(options, run, tmp_path, 'AdaIR', network, amp=amp)
    plain = losses(runs['plain'][2])
    assert all(torch.equal(value, runs['thrifty'][1][key]) for key, value in runs['plain'][1].items())
    assert losses(runs['bf16'][2]) != plain
    assert losses(runs['bf16'][2]) == pytest.approx(plain, rel=0.05, abs=0.01)


def compiled_is_the_same(options, run, folder, name, amp):
    before, plain, log = unlearn(options, run, folder, name, amp=amp, optim_g=SGD)
    _, compiled, compiled_log = unlearn(options, run, folder, name, amp=amp, compile=True)
    assert moved(before, compiled) > 1e-6
    assert compiled.keys() == plain.keys()  # no _orig_mod.
    ours, plain_losses = losses(compiled_log), losses(log)
    assert ours[0] == pytest.approx(plain_losses[0], rel=0.02 if amp else 1e-4)
    assert ours == pytest.approx(plain_losses, rel=0.02)  # the sign of an L1 loss blows rounding up from step to step
    return moved(plain, compiled)


def test_compiled_training(options, run, tmp_path):
    assert compiled_is_the_same(options, run, tmp_path, 'EDSR', None) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize('name, amp', COMPILED)
def test_networks_compile(options, run, tmp_path, name, amp):
    compiled_is_the_same(options, run, tmp_path, name, amp)


def test_several_gpus_of_one_process_are_refused(options, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    options.update(num_gpu=2, dist=False, is_train=True)
    with pytest.raises(InputError, match='num_gpu: 2: a process uses one GPU. Set 1, or start with torchrun'):
        option_tests(options)['num_gpu']()
    options['dist'] = True
    option_tests(options)['num_gpu']()


@pytest.mark.parametrize(
    'train, words',
    [
        ({'amp': 'fp16'}, 'train: amp: fp16'),
        ({'compile': 'max'}, 'train: compile'),
        ({'compile': True}, 'C++ compiler'),
    ],
)
def test_what_cannot_work_is_refused(options, run, capsys, monkeypatch, train, words):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    options['train'].update(train)
    status, home = run(options)
    assert status == 2 and words in capsys.readouterr().err and not list(home.iterdir())
