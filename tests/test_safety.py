"""Files and command lines of strangers: nothing of theirs runs, and nothing is written outside the run's folders."""

import os
import pickle
import shutil
import struct
import sys

import pytest
import torch
import yaml
from conftest import make_net
from hypothesis import given, settings
from hypothesis import strategies as st

import basicsr.train
from basicsr.utils.options import ordered_yaml
from basicsr_unlearn import option_file
from basicsr_unlearn.cli import main
from basicsr_unlearn.errors import InputError


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def refused(status, capsys, *words):
    error = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and len(error) == 1 and error[0].startswith('basicsr: error: '), error
    for word in words:
        assert word in error[0]


def contents(folder):
    """Return every file below a folder with its bytes."""
    return {path: path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


@pytest.mark.parametrize('text, value', [
    ('1e-4', 1e-4), ('-1e-4', -1e-4), ('1E5', 1e5), ('.5e-3', 0.5e-3), ('+2e+3', 2e3), ('1.', 1.0), ('-.5', -0.5),
    ('1.5e3', 1500.0), ('-3', -3), ('1_000', 1000), ('0x10', 16), ('12:30', '12:30'), ('2026-11-23', '2026-11-23'),
    ('1e', '1e'), ('e5', 'e5'), ('1.2.3', '1.2.3'), ('"1e-4"', '1e-4'), ('!!float 1e-4', 1e-4), ('yes', True),
    ('None', 'None'), ('none', 'none'), ('~', None), ('', None),
])  # fmt: skip
def test_numbers(text, value):
    found = option_file.parse(f'key: {text}', 'x')['key']
    assert found == value and type(found) is type(value)


@settings(derandomize=True, deadline=None, database=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_writes_is_read(number):
    assert option_file.parse(f'a: {number!r}', 'x') == {'a': number}
    assert option_file.parse(yaml.safe_dump({'a': number}), 'x') == {'a': number}


@pytest.mark.parametrize('value, expected', [
    ('1e-4', 1e-4), ('-1e-4', -1e-4), ('-3', -3), ('[1, 2]', [1, 2]), ('{type: L1Loss}', {'type': 'L1Loss'}),
    ('~', None),
    ('None', None), ('none', None), ('null', None), ('TRUE', True), ('fALSE', False), ('!!float 1e-4', 1e-4),
    ('a=b', 'a=b'), ('a: b', 'a: b'), ('*x', '*x'), ('# no remark', '# no remark'), ('[None, true]', [None, True]),
    ('"none"', 'none'), ('__import__("os").getcwd()', '__import__("os").getcwd()'), ('zoo:x.pth', 'zoo:x.pth'),
])  # fmt: skip
def test_forced_values(value, expected):
    tree = {'train': {'x': 0}}
    option_file.force(tree, f'train:x={value}')
    found = tree['train']['x']
    assert found == expected and type(found) is type(expected)


def test_aliases_and_merges_become_sections_of_their_own():
    tree = option_file.parse('a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n', 'x')
    tree['a']['x'] = 5
    assert tree == {'a': {'x': 5}, 'b': {'x': 1}, 'c': {'x': 1, 'y': 2}}


def bomb(line, count=9):
    first = 'a0: &a0 {x: 1}\n'
    return first + ''.join(f'a{i}: &a{i} {line.format(", ".join([f"*a{i - 1}"] * count))}\n' for i in range(1, 12))


@pytest.mark.parametrize('text, words', [
    ('a: !!python/object/apply:os.mkdir [{}]', ['line 1', '!!python/object/apply:os.mkdir is not allowed']),
    ('a: !!python/name:os.system', ['!!python/name:os.system']),
    ('a: !!python/object/new:os.mkdir [{}]', ['not allowed']),
    ('a: !!binary aGk=', ['!!binary']),
    ('a: 1\nb: {c: 1, c: 2}', ['line 2', 'c stands twice', 'first in line 2']),
    ('name: a\ntrain: 1\nname: b', ['line 3', 'name stands twice', 'line 1']),
    ('1: a', ["the key '1' must be a word"]),
    ('? [a]\n: b', ['must be a word']),
    ('a: .nan', ['.nan is no number']),
    ('a: 1e999', ['1e999 is no number']),
    ('a: ' + '9' * 5000, ['is no number']),
    ('a: ' + '[' * 60 + ']' * 60, ['nested more than 40 deep']),
    ('[' * 100_000, ['nested more than 40 deep']),
    ('a: &a [*a]', ['nested more than 40 deep']),
    (bomb('[{}]'), ['more than 20000 entries']),
    (bomb('{{<<: [{}]}}'), ['more than 20000 entries']),
    ('a: ' + 'x' * (1 << 20), ['no option file']),
])  # fmt: skip
def test_option_files_that_are_none(text, words, tmp_path, run, capsys):
    status, home = run(text.replace('{}', str(tmp_path / 'made')) if 'python' in text else text)
    refused(status, capsys, 'options.yml', *words)
    assert os.listdir(home) == [] and not (tmp_path / 'made').exists()


@pytest.mark.parametrize('train_or_test', ['train', 'test'])
@pytest.mark.parametrize('launcher', [[], ['--launcher', 'none']])
def test_the_way_through_basicsr_itself_runs_nothing_either(train_or_test, launcher, options, tmp_path, monkeypatch):
    """`python basicsr/train.py` with this package imported: its parser is handed the same, safe files and values."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / 'made'
    tree = yaml.safe_dump(options)
    (tmp_path / 'hostile.yml').write_text(f'{tree}\nextra: !!python/object/apply:os.mkdir [{made}]\n')
    (tmp_path / 'good.yml').write_text(tree)
    code = f"[__import__('os').mkdir('{made}')]"
    command = {'hostile.yml': [], 'good.yml': ['--force_yml', f'name={code}']}
    for name, forced in command.items():
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', name, *launcher, *forced])
        with pytest.raises(InputError):
            basicsr.train.parse_options(str(tmp_path), is_train=train_or_test == 'train')
    with pytest.raises(InputError, match='not allowed'):
        yaml.load((tmp_path / 'hostile.yml').read_text(), Loader=ordered_yaml()[0])
    assert not made.exists()


@pytest.mark.parametrize('entry', [
    "train:total_iter=__import__('os').mkdir('made')",
    "train:total_iter=[__import__('os').mkdir('made')]",
    'train:total_iter=!!python/object/apply:os.mkdir [made]',
    """train"]; __import__('os').mkdir('made'); opt["train:total_iter=3""",
    """x"]=1 if __import__('os').mkdir('made') else 2#=3""",
])  # fmt: skip
def test_forced_code_does_not_run(entry, options, run, capsys):
    status, home = run(options, '--force_yml', entry)
    refused(status, capsys)
    assert os.listdir(home) == []


def test_a_forced_seed_seeds(options, tmp_path, monkeypatch):
    (tmp_path / 'o.yml').write_text(yaml.safe_dump(options))
    monkeypatch.chdir(tmp_path)
    argv = ['train.py', '--force', 'manual_seed=41', 'train:optim_g:lr=2e-4', '-opt', 'o.yml']
    monkeypatch.setattr(sys, 'argv', argv)
    torch.manual_seed(0)
    drawn = []

    def seed_then_draw(seed):
        torch.manual_seed(seed)
        drawn.append(torch.rand(3))

    monkeypatch.setattr('basicsr.utils.options.set_random_seed', seed_then_draw)
    opt, _ = basicsr.train.parse_options(str(tmp_path))
    torch.manual_seed(41)
    assert torch.equal(drawn[0], torch.rand(3)) and opt['manual_seed'] == 41
    assert opt['train']['optim_g']['lr'] == 2e-4 and sys.argv is argv


def test_the_copied_option_file_holds_the_command(options, run):
    status, home = run(options, '--force_yml', 'train:total_iter=1', 'train:optim_g:lr=2e-4')
    assert status == 0
    copied = (home / 'experiments/tiny/options.yml').read_text().splitlines()
    assert copied[1] == '# CMD:'
    assert copied[2].startswith('# basicsr train -opt ')
    assert copied[2].endswith('--force_yml train:total_iter=1 train:optim_g:lr=2e-4')
    log = next((home / 'experiments/tiny').glob('train_*.log')).read_text()
    assert 'total_iter: 1\n' in log and 'lr: 0.0002\n' in log


@pytest.mark.parametrize('kind', ['pth', 'resume_state', 'auto_resume'])
def test_hostile_pickles(kind, options, run, tmp_path, capsys):
    made, home = tmp_path / 'made', tmp_path / 'home'
    file = tmp_path / 'hostile.pth'
    if kind == 'auto_resume':
        file = home / 'experiments/tiny/training_states/2.state'
        file.parent.mkdir(parents=True)
    content = {
        'params': make_net().state_dict(),
        'iter': 2,
        'epoch': 0,
        'optimizers': [],
        'schedulers': [Payload(made)],
    }
    torch.save(content, file)
    options['path']['pretrain_network_g' if kind == 'pth' else 'resume_state'] = str(file)
    before = contents(home)
    status, _ = run(options, *(['--auto_resume'] if kind == 'auto_resume' else []))
    refused(status, capsys, file.name, 'mkdir', 'run code')
    assert not made.exists() and contents(home) == before
    with open(tmp_path / 'bare.pkl', 'wb') as bare:
        pickle.dump(Payload(made), bare)
    options['path']['resume_state'] = str(tmp_path / 'bare.pkl')
    refused(run(options)[0], capsys, 'bare.pkl' if kind != 'pth' else 'hostile.pth')
    assert not made.exists() and contents(home) == before


@pytest.mark.parametrize('size, header', [
    (2**62, b'{}'),
    (10**9, b'{"a": 1}'),
    (2, b'{}'),
    (120, b'{"a":{"dtype":"F32","shape":[999999999,999999999],"data_offsets":[0,4]}}'.ljust(120)),
    (120, b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4000000000,4000000004]}}'.ljust(120)),
    (120, b'not json'.ljust(120)),
])  # fmt: skip
def test_safetensors_that_lie(size, header, options, run, tmp_path, capsys):
    (tmp_path / 'lie.safetensors').write_bytes(struct.pack('<Q', size) + header + b'\0' * 4)
    options['path']['pretrain_network_g'] = str(tmp_path / 'lie.safetensors')
    status, home = run(options)
    refused(status, capsys, 'lie.safetensors')
    assert os.listdir(home) == []


def huge(shape):
    return torch.zeros(1, dtype=torch.float16).expand(shape)


ODD = [huge((1 << 20, 1 << 20)), torch.zeros(8, 3, 3, 3).to_sparse(), torch.zeros(3, dtype=torch.complex64)]


@pytest.mark.parametrize('weight', ODD)
def test_tensors_that_are_no_weights(weight, options, run, tmp_path, capsys):
    torch.save({'params': {**make_net().state_dict(), 'patch_embed.proj.weight': weight}}, tmp_path / 'odd.pth')
    options['path']['pretrain_network_g'] = str(tmp_path / 'odd.pth')
    status, home = run(options)
    refused(status, capsys, 'odd.pth', 'patch_embed.proj.weight')
    assert os.listdir(home) == []


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp('kept') / 'experiments'


@pytest.fixture
def begun(kept, options, run, tmp_path):
    """The folder of a run of four iterations that has saved its state after two."""
    if kept.exists():
        shutil.copytree(kept, tmp_path / 'home/experiments')
        return tmp_path / 'home'
    status, home = run(options)
    assert status == 0
    shutil.copytree(home / 'experiments', kept)
    return home


def damage(home, options):
    state = home / 'experiments/tiny/training_states/2.state'
    state.write_bytes(state.read_bytes()[:3000])


def no_state(home, options):
    torch.save({'params': {}}, home / 'experiments/tiny/training_states/2.state')


def other_width(home, options):
    options['network_g'] = {**options['network_g'], 'dim': 16}
    torch.save({'params': make_net().state_dict()}, home / 'experiments/tiny/models/net_g_2.pth')


def moments_of_another_net(home, options):
    path = home / 'experiments/tiny/training_states/2.state'
    state = torch.load(path, weights_only=True)
    state['optimizers'][0]['state'][0]['exp_avg'] = torch.zeros(7, 7)
    torch.save(state, path)


def other_optimizer(home, options):
    options['train']['optim_g'] = {'type': 'SGD', 'lr': 1e-4}


def adam_for_adamw(home, options):
    options['train']['optim_g']['type'] = 'Adam'


def other_scheduler(home, options):
    options['train']['scheduler'] = {'type': 'CosineAnnealingRestartLR', 'periods': [9]}


def other_method(home, options):
    options['train']['method'] = {'type': 'IdentityTarget'}


def other_model(home, options):
    options['model_type'] = 'RestorationModel'
    train = options['datasets']['train']
    train.update(type='MixedPairedDataset', sources={'haze': train.pop('forget')})
    del train['retain'], options['train']['method'], options['train']['stop']
    options['train']['pixel_opt'] = {'type': 'L1Loss'}


def weights_gone(home, options):
    (home / 'experiments/tiny/models/net_g_2.pth').unlink()


@pytest.mark.parametrize('change, words', [
    (damage, ['2.state', 'is damaged or no state']),
    (no_state, ['2.state', 'is no state of a training']),
    (other_width, ['original.pth', 'of another shape']),
    (moments_of_another_net, ['2.state', 'another network_g']),
    (other_optimizer, ['2.state', 'another optimizer than SGD']),
    (adam_for_adamw, ['2.state', 'another optimizer than Adam']),
    (other_scheduler, ['2.state', 'another scheduler than CosineAnnealingRestartLR']),
    (other_method, ['2.state', 'method: type: NegGrad']),
    (other_model, ['2.state', 'model_type: RestorationModel']),
    (weights_gone, ['net_g_2.pth: no such file']),
])  # fmt: skip
def test_states_of_another_run(change, words, begun, options, run, capsys):
    change(begun, options)
    options['path']['resume_state'] = str(begun / 'experiments/tiny/training_states/2.state')
    capsys.readouterr()
    before = contents(begun)
    refused(run(options)[0], capsys, *words)
    assert contents(begun) == before


def test_a_file_that_is_no_state_is_named(begun, options, run, capsys):
    (begun / 'experiments/tiny/training_states/best.state').write_bytes(b'')
    capsys.readouterr()
    refused(run(options, '--auto_resume')[0], capsys, 'best.state is not the state')


def test_an_option_file_in_the_folder_of_its_run(begun, capsys):
    """BasicSR would rename the folder, and then look for the file."""
    before = contents(begun)
    capsys.readouterr()
    refused(main(['train', '-opt', 'experiments/tiny/options.yml']), capsys, 'lies in', 'Copy it elsewhere')
    assert contents(begun) == before


def test_weights_in_the_folder_of_the_run(begun, options, run, capsys):
    options['path']['pretrain_network_g'] = 'experiments/tiny/models/net_g_latest.pth'
    before = contents(begun)
    capsys.readouterr()
    refused(run(options)[0], capsys, 'pretrain_network_g', 'lies in')
    assert contents(begun) == before


NAMES = ['../x', 'a/b', '/tmp/x', '.x', '..', '', ' ', 'x ', '~', '~root', 'a\nb', 'a\x1b[31m', 'a\\b', 'x' * 101]
NAMES += ['ä' * 60]


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('where', ['name', 'datasets:val_haze:name', 'datasets:val_noise:name', 'val:suffix'])
@pytest.mark.parametrize('model', ['UnlearnModel', 'RestorationModel'])
def test_names_stay_in_the_folder(name, where, model, options, run, capsys):
    options['model_type'] = model
    section = options
    *path, last = where.split(':')
    for key in path:
        section = section[key]
    section[last] = name
    status, home = run(options)
    refused(status, capsys, where.replace(':', ': '), 'becomes part of file names')
    assert os.listdir(home) == []


@pytest.mark.parametrize('name', ['tiny', 'Größe 2', 'a.b-c_d', '日本語', 'x' * 95, '-x'])
def test_names_that_are_fine(name, options, run):
    options['name'] = name
    options['train']['total_iter'] = 1
    status, home = run(options)
    assert status == 0 and (home / 'experiments' / name / 'models/net_g_latest.pth').exists()


FREE = ['root', 'experiments_root', 'results_root', 'models', 'training_states', 'log', 'visualization', 'my_folder']


@pytest.mark.parametrize('key', FREE)
@pytest.mark.parametrize('command', ['train', 'test'])
@pytest.mark.parametrize('model', ['UnlearnModel', 'RestorationModel', 'SRModel'])
def test_free_keys_of_path(key, command, model, options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if command == 'test':
        options['datasets'] = {'test_noise': options['datasets']['val_noise']}
    options['model_type'], options['path'][key] = model, str(tmp_path / 'elsewhere')
    (tmp_path / 'o.yml').write_text(yaml.safe_dump(options))
    refused(main([command, '-opt', 'o.yml']), capsys, f'path: {key} is an unknown key')
    assert os.listdir(tmp_path) == ['o.yml']
