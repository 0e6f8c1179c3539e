import pytest
import yaml

from basicsr_unlearn import option_file, recipes
from basicsr_unlearn.cli import main
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import METHOD_REGISTRY, method_options
from basicsr_unlearn.stop_options import stop_options

BASE = """# a remark
name: mine  # another
path:
  pretrain_network_g: x.pth  # kept
# training settings
train:
  method: { type: NegGrad, task: source, forget_weight: 2.0 }
  stop: { forget_psnr_below: 20, probes: 3 }
  optim_g: { type: Adam, lr: 0.1, betas: [0, 0] }
  amp: bf16

# the rest
val: { tile: 64 }
"""


def test_preset_changes_the_method_and_nothing_else(tmp_path, capsys):
    path = tmp_path / 'unlearn.yml'
    path.write_text(BASE)
    assert main(['preset', 'identity_target', '-opt', str(path)]) == 0
    written = tmp_path / 'unlearn_identity_target.yml'
    assert str(written) in capsys.readouterr().out
    text, preset = written.read_text(), recipes.read_preset('identity_target', 'preset')
    assert text.startswith('# a remark\n') and '# kept' in text and '# the rest\nval: { tile: 64 }' in text
    tree = yaml.safe_load(text)
    assert tree['name'] == 'mine_identity_target' and tree['train']['amp'] == 'bf16'
    assert tree['train']['method'] == {**preset['method'], 'task': 'source'}
    level = yaml.safe_load(BASE)['train']['stop']['forget_psnr_below']  # input+X is no goal of task: source
    assert tree['train']['stop'] == {
        **preset['stop'],
        'probes': preset['stop'].get('probes', 3),
        'forget_psnr_below': level,
    }
    stop_options(tree['train'])
    assert tree['train']['optim_g'] == preset['optim_g']
    assert path.read_text() == BASE


def test_preset_overwrites_nothing_and_says_what_is_wrong(tmp_path, capsys):
    path = tmp_path / 'unlearn.yml'
    path.write_text(BASE)
    (tmp_path / 'unlearn_salun.yml').write_text('mine')
    (tmp_path / 'odd.yml').write_text('train: {}\nval: {}\n')
    (tmp_path / 'bad.yml').write_text('train: {methods: 1}\n')
    cases = {
        'salun': 'exists already',
        'saluun': 'Did you mean salun',
        str(tmp_path / 'odd.yml'): 'a preset holds the section train and nothing else',
        str(tmp_path / 'bad.yml'): 'Did you mean method',
        'nowhere.yml': 'no such file',
    }
    before = sorted(tmp_path.iterdir())
    for name, words in cases.items():
        assert main(['preset', name, '-opt', str(path)]) == 2
        error = capsys.readouterr().err.strip()
        assert words in error and len(error.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / 'unlearn_salun.yml').read_text() == 'mine'


def test_every_method_has_a_preset_that_it_understands():
    found = set()
    for name in recipes.presets():
        section = recipes.read_preset(name, 'preset')['method']
        method_options(section)
        found.add(section['type'])
    assert found == {name for name, _ in METHOD_REGISTRY}


def test_yaml_that_is_none(tmp_path):
    (tmp_path / 'a.yml').write_text('a: [1\nb: 2')
    with pytest.raises(InputError, match='line 2'):
        option_file.read(str(tmp_path / 'a.yml'), '-opt')
