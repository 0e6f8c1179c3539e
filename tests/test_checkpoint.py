import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from conftest import make_net
from safetensors.torch import save_file

from basicsr_unlearn import checkpoint, manifest
from basicsr_unlearn.atomic import atomic_save
from basicsr_unlearn.cli import main
from basicsr_unlearn.errors import InputError


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda s: s,
        lambda s: {'params': s},
        lambda s: {'params_ema': s},
        lambda s: {'state_dict': {f'net.{k}': v for k, v in s.items()}, 'epoch': 3},
        lambda s: {'params': {f'module._orig_mod.{k}': v for k, v in s.items()}},
        lambda s: {'state_dict': {f'module.net_g._orig_mod.{k}': v for k, v in s.items()}},
    ],
)
def test_every_known_form_is_read(wrap, tmp_path):
    state = make_net().state_dict()
    torch.save(wrap(state), tmp_path / 'w.pth')
    assert same(checkpoint.load_weights(str(tmp_path / 'w.pth'), 'x'), state)


def test_param_key_chooses(tmp_path):
    torch.save({'params': {'a': torch.zeros(1)}, 'params_ema': {'a': torch.ones(1)}}, tmp_path / 'w.pth')
    assert checkpoint.load_weights(str(tmp_path / 'w.pth'), 'x')['a'] == 0
    assert checkpoint.load_weights(str(tmp_path / 'w.pth'), 'x', 'params_ema')['a'] == 1
    with pytest.raises(InputError, match='has no entry parms_ema, only params, params_ema'):
        checkpoint.load_weights(str(tmp_path / 'w.pth'), 'x', 'parms_ema')
    assert checkpoint.load_weights(str(tmp_path / 'w.pth'), 'x', 'absent', fallback=True)['a'] == 0


def test_a_network_whose_own_keys_look_like_wrappers(tmp_path):
    class Plugin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Conv2d(3, 3, 3)

    state = {key: value.clone() for key, value in Plugin().state_dict().items()}
    path, other = str(tmp_path / 'w.pth'), str(tmp_path / 'w.safetensors')
    torch.save({'params': state}, path)
    checkpoint.convert(path, other)
    torch.save({'state_dict': {f'net.{key}': value for key, value in state.items()}}, tmp_path / 'l.ckpt')
    for file in (path, other, str(tmp_path / 'l.ckpt')):
        net = Plugin()
        checkpoint.load_into(net, file, 'x')
        assert same(net.state_dict(), state)


def test_half_precision_round_trip(tmp_path):
    state = make_net().state_dict()
    digest = checkpoint.save_half(state, str(tmp_path / 'w.safetensors'))
    loaded = checkpoint.load_weights(str(tmp_path / 'w.safetensors'), 'x')
    assert all(value.dtype == torch.float32 for value in loaded.values())
    assert max((loaded[key] - state[key]).abs().max() for key in state) < 1e-3
    assert digest == hashlib.sha256((tmp_path / 'w.safetensors').read_bytes()).hexdigest()


class Attack:
    def __reduce__(self):
        return os.mkdir, ('owned',)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': Attack()}, 'w.pth')
    with pytest.raises(InputError, match='would run code. If you trust it') as error:
        checkpoint.load_weights('w.pth', 'path: pretrain_network_g')
    assert not os.path.exists('owned') and 'mkdir' in str(error.value) and '\n' not in str(error.value)


def test_the_way_out_of_a_file_with_more_than_weights(tmp_path):
    """The command of the error message, on a Lightning file with a Namespace of options."""
    state = make_net().state_dict()
    path, clean = str(tmp_path / 'in.ckpt'), str(tmp_path / 'out.pth')
    torch.save({'state_dict': {f'net.{k}': v for k, v in state.items()}, 'hparams': Namespace(lr=1)}, path)
    with pytest.raises(InputError) as error:
        checkpoint.load_weights(path, 'x')
    code = re.search(r'python -c "(.+)" IN.ckpt OUT.ckpt', str(error.value))[1]
    subprocess.run([sys.executable, '-c', code, path, clean], check=True)
    assert same(checkpoint.load_weights(clean, 'x'), state)


@pytest.mark.parametrize('suffix', ['pth', 'ckpt', 'safetensors'])
def test_damaged_files(suffix, tmp_path):
    whole, damaged = str(tmp_path / f'whole.{suffix}'), str(tmp_path / f'damaged.{suffix}')
    torch.save({'params': make_net().state_dict()}, tmp_path / 'w.pth')
    checkpoint.convert(str(tmp_path / 'w.pth'), whole)
    with open(whole, 'rb') as file:
        content = file.read()
    flipped = bytes(byte ^ 255 if 100 < place < 140 else byte for place, byte in enumerate(content))
    for text in (content[: len(content) // 2], content[:7], flipped[: len(content) - 9], b'no weights', b''):
        with open(damaged, 'wb') as file:
            file.write(text)
        with pytest.raises(InputError, match='is damaged or no checkpoint at all') as error:
            checkpoint.load_weights(damaged, 'path: pretrain_network_g')
        assert '\n' not in str(error.value)


def test_round_trips_are_bit_identical(tmp_path):
    """The authors' Lightning layout to BasicSR's, to safetensors, and back."""
    state = {key: value.clone() for key, value in make_net().state_dict().items()}
    state['output.weight'] = state['output.weight'].half()  # the types of the file stay, too
    lightning = {
        'state_dict': {f'net.{k}': v for k, v in state.items()},
        'epoch': 119,
        'callbacks': {'x': {'best': 1.0}},
    }
    torch.save(lightning, tmp_path / 'a.ckpt')
    chain = ['a.ckpt', 'b.pth', 'c.safetensors', 'd.pth', 'e.ckpt']
    for before, after in zip(chain, chain[1:], strict=False):
        assert main(['convert', str(tmp_path / before), str(tmp_path / after)]) == 0
    back = torch.load(tmp_path / 'e.ckpt', weights_only=True)
    assert list(back['state_dict']) and same(back['state_dict'], lightning['state_dict'])
    assert all(back['state_dict'][key].dtype == value.dtype for key, value in lightning['state_dict'].items())
    assert {'epoch', 'global_step', 'pytorch-lightning_version'} <= set(back)
    assert same(torch.load(tmp_path / 'd.pth', weights_only=True)['params'], state)


def test_convert_refuses(tmp_path, capsys):
    torch.save({'params': {'a': torch.zeros(2)}}, tmp_path / 'w.pth')
    source = str(tmp_path / 'w.pth')
    for target, words in (
        (source, 'exists already'),
        (str(tmp_path / 'w.onnx'), 'suffix'),
        (str(tmp_path / 'none' / 'w.ckpt'), 'no folder'),
    ):
        assert main(['convert', source, target]) == 2
        assert words in capsys.readouterr().err
    assert main(['convert', str(tmp_path / 'x.pth'), str(tmp_path / 'y.pth')]) == 2
    assert os.listdir(tmp_path) == ['w.pth']


def test_loading_says_what_was_loaded_and_that_it_changed_something(tmp_path):
    path = str(tmp_path / 'w.pth')
    state = make_net(1).state_dict()
    torch.save({'params': state}, path)
    net = make_net(0)
    found = checkpoint.load_into(net, path, 'x')
    assert found == f'{len(state)} of {len(state)} tensors, fingerprint {checkpoint.fingerprint(net.state_dict())}'
    with pytest.raises(InputError, match='changed nothing'):
        checkpoint.load_into(net, path, 'x')
    other = {**state, 'output.weight': state['output.weight'] + 1e-6}
    assert checkpoint.fingerprint(other) != checkpoint.fingerprint(state)
    assert checkpoint.fingerprint(dict(reversed(state.items()))) == checkpoint.fingerprint(state)


def test_misfits_are_named(tmp_path):
    state = make_net().state_dict()
    state['extra'] = torch.zeros(1)
    state['output.weight'] = torch.zeros(3, 2, 3, 3)
    del state['refinement.0.attn.temperature']
    torch.save(state, tmp_path / 'w.pth')
    with pytest.raises(InputError) as error:
        checkpoint.load_into(make_net(), str(tmp_path / 'w.pth'), 'path: pretrain_network_g')
    for words in ('1 missing (refinement.0.attn.temperature)', '1 unknown (extra)', 'output.weight (3, 2, 3, 3)'):
        assert words in str(error.value)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = str(tmp_path / 'w.pth')
    atomic_save({'a': 1}, path)

    def disk_full(content, file):
        file.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(checkpoint.torch, 'save', disk_full)
    with pytest.raises(OSError, match='No space left') as error:
        atomic_save({'a': 2}, path)
    assert error.value.filename == path
    monkeypatch.undo()
    assert torch.load(path) == {'a': 1} and os.listdir(tmp_path) == ['w.pth']


def test_file_and_name_are_flushed_to_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, 'fsync', lambda descriptor: flushed.append(os.readlink(f'/proc/self/fd/{descriptor}')))
    path = str(tmp_path / 'w.pth')
    atomic_save({'a': 1}, path)
    assert flushed == [f'{path}.{os.getpid()}.tmp', str(tmp_path)]


def test_manifest_guards_the_file(tmp_path):
    path = str(tmp_path / 'w.safetensors')
    save_file({'a': torch.zeros(1)}, path)
    assert manifest.read_entry(path) is None
    (tmp_path / 'manifest.json').write_text(
        json.dumps({'w.safetensors': {'sha256': checkpoint.sha256(path), 'cost': 5}})
    )
    assert manifest.read_entry(path)['cost'] == 5
    save_file({'a': torch.ones(1)}, path)
    with pytest.raises(InputError, match='sha256'):
        manifest.read_entry(path)


def test_the_zoo_is_what_its_manifest_says():
    with open(os.path.join(checkpoint.ZOO, 'manifest.json')) as file:
        entries = json.load(file)
    assert set(entries) == {'quickstart_original.safetensors', 'quickstart_oracle.safetensors'}
    for name, entry in entries.items():
        assert manifest.read_entry(f'zoo:{name}') == entry
        assert entry['cost'] == sum(3 * stage['iterations'] * stage['batch_size'] for stage in entry['stages'])
        assert entry['parameters'] <= 1.5e6
    original, oracle = (entries[f'quickstart_{kind}.safetensors']['figures'] for kind in ('original', 'oracle'))
    assert original['haze']['psnr']['restored'] > oracle['haze']['psnr']['restored'] + 3
