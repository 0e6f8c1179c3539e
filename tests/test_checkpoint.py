import hashlib
import json
import os

import pytest
import torch
from conftest import make_net
from safetensors.torch import save_file

from basicsr_unlearn import checkpoint
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
    with pytest.raises(InputError, match='cannot be read safely|can be read safely'):
        checkpoint.load_weights('w.pth', 'path: pretrain_network_g')
    assert not os.path.exists('owned')


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
    checkpoint.atomic_save({'a': 1}, path)

    def disk_full(content, temporary):
        with open(temporary, 'wb') as file:
            file.write(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr(checkpoint.torch, 'save', disk_full)
    with pytest.raises(OSError, match='No space left'):
        checkpoint.atomic_save({'a': 2}, path)
    monkeypatch.undo()
    assert torch.load(path) == {'a': 1} and os.listdir(tmp_path) == ['w.pth']


def test_manifest_guards_the_file(tmp_path):
    path = str(tmp_path / 'w.safetensors')
    save_file({'a': torch.zeros(1)}, path)
    assert checkpoint.manifest_entry(path) is None
    (tmp_path / 'manifest.json').write_text(
        json.dumps({'w.safetensors': {'sha256': checkpoint.sha256(path), 'cost': 5}})
    )
    assert checkpoint.manifest_entry(path)['cost'] == 5
    save_file({'a': torch.ones(1)}, path)
    with pytest.raises(InputError, match='sha256'):
        checkpoint.manifest_entry(path)


def test_the_zoo_is_what_its_manifest_says():
    with open(os.path.join(checkpoint.ZOO, 'manifest.json')) as file:
        entries = json.load(file)
    assert set(entries) == {'quickstart_original.safetensors', 'quickstart_oracle.safetensors'}
    for name, entry in entries.items():
        assert checkpoint.manifest_entry(f'zoo:{name}') == entry
        assert entry['cost'] == sum(3 * stage['iterations'] * stage['batch_size'] for stage in entry['stages'])
        assert entry['parameters'] <= 1.5e6
    original, oracle = (entries[f'quickstart_{kind}.safetensors']['figures'] for kind in ('original', 'oracle'))
    assert original['haze']['psnr']['restored'] > oracle['haze']['psnr']['restored'] + 3
