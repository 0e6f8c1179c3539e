"""The option files of PromptIR and AdaIR: each passes every check on the prescribed layout, and their figures agree."""

import glob
import math
from os import path as osp

import pytest
import torch
import yaml
from layouts import write_data_root

from basicsr.archs import build_network
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR
from basicsr.utils.options import parse_options
from basicsr_unlearn.cli import main

OPTIONS = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'options')
FILES = sorted(
    osp.relpath(path, OPTIONS) for net in ('promptir', 'adair') for path in glob.glob(osp.join(OPTIONS, net, '*.yml'))
)
EPOCHS = {'promptir': (120, 150), 'adair': (150, 180)}  # trained, and where the cosine would end


def read(name):
    with open(osp.join(OPTIONS, name), encoding='utf-8') as file:
        return yaml.safe_load(file)


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('clone')
    write_data_root(root / 'data')
    (root / 'test').symlink_to(root / 'data' / 'test')  # PromptIR has it there
    return root / 'data'


@pytest.fixture
def tiny(data_root, tmp_path, monkeypatch):
    """Give an option file a small network with weights of its own; nothing else changes."""

    def write(name, **changes):
        tree = read(name)
        tree['network_g'].update(dim=8, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1)
        if tree['network_g']['type'] == 'PromptIR':
            tree['network_g']['prompt_sizes'] = [4, 4, 4]
        if tree['path']['pretrain_network_g']:
            weights = tmp_path / 'tiny.pth'
            torch.manual_seed(5)
            torch.save({'params': build_network(dict(tree['network_g'])).state_dict()}, weights)
            tree['path']['pretrain_network_g'] = str(weights)
        tree['num_gpu'] = 0
        if 'train' in tree['datasets']:
            tree['datasets']['train'].update(num_worker_per_gpu=0, persistent_workers=False, batch_size_per_gpu=1)
        for key, value in changes.items():
            tree['train'][key] = value
        path = tmp_path / osp.basename(name)
        path.write_text(yaml.safe_dump(tree))
        return str(path)

    monkeypatch.setenv('DATA_ROOT', str(data_root))
    monkeypatch.chdir(tmp_path)
    return write


def test_there_are_eight_for_each_network():
    names = ['retrain_without_haze', 'retrain_without_noise', 'retrain_without_rain', 'test', 'train']
    names += ['unlearn_haze', 'unlearn_noise', 'unlearn_rain']
    assert FILES == [f'{net}/{name}.yml' for net in ('adair', 'promptir') for name in names]


@pytest.mark.parametrize('name', FILES)
def test_passes_every_check(name, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr('sys.argv', ['basicsr', '-opt', tiny(name)])
    opt, _ = parse_options(str(tmp_path), is_train=not name.endswith('test.yml'))
    assert opt['name'] == name.removesuffix('.yml').replace('/', '_')


@pytest.mark.parametrize('name', FILES)
def test_says_what_was_not_validated(name):
    with open(osp.join(OPTIONS, name), encoding='utf-8') as file:
        assert name.endswith('test.yml') or 'not validated' in file.read()


@pytest.mark.parametrize('net', EPOCHS)
def test_an_epoch_is_the_published_one(net):
    weights = {
        name: source['weight'] for name, source in read(f'{net}/train.yml')['datasets']['train']['sources'].items()
    }
    assert [weights[name] for name in ('haze', 'rain', 'noise')] == [72135, 200 * 120, (400 + 4744) * 3 * 3]
    assert sum(weights.values()) == {'promptir': 142431, 'adair': 162646}[net]
    for without in (None, 'haze', 'rain', 'noise'):
        tree = read(f'{net}/' + (f'retrain_without_{without}.yml' if without else 'train.yml'))
        train, sources = tree['train'], tree['datasets']['train']['sources']
        assert sources == {
            k: v for k, v in read(f'{net}/train.yml')['datasets']['train']['sources'].items() if k != without
        }
        epoch = math.ceil(sum(source['weight'] for source in sources.values()) / 32)
        epochs, end = EPOCHS[net]
        assert (train['total_iter'], train['warmup_iter']) == (epochs * epoch, 15 * epoch)
        assert sum(train['scheduler']['periods']) == end * epoch
        if without:
            unlearn = read(f'{net}/unlearn_{without}.yml')['train']
            assert unlearn['oracle_cost'] == 3 * 32 * train['total_iter']
            assert 28 * unlearn['total_iter'] < 0.01 * unlearn['oracle_cost']


@pytest.mark.parametrize('net', EPOCHS)
def test_the_cosine_starts_where_the_warm_up_ends(net):
    train = read(f'{net}/train.yml')['train']
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], train['optim_g']['lr'])
    options = {key: value for key, value in train['scheduler'].items() if key != 'type'}
    scheduler = CosineAnnealingRestartLR(optimizer, **options)

    def rate(iteration):
        scheduler.last_epoch = iteration - 1  # as BasicSR counts
        return scheduler.get_lr()[0]

    assert rate(train['warmup_iter']) == pytest.approx(2e-4, rel=1e-6)  # the first that the warm-up does not set
    epochs, end = EPOCHS[net]
    last = 1e-4 * (1 + math.cos(math.pi * (epochs - 15) / (end - 15)))
    assert rate(train['total_iter']) == pytest.approx(last, rel=1e-3)


@pytest.mark.parametrize('name', ['promptir/unlearn_haze.yml', 'adair/unlearn_noise.yml'])
def test_unlearns(name, tiny, tmp_path):
    stop = {**read(name)['train']['stop'], 'probes': 1}
    assert main(['train', '-opt', tiny(name, total_iter=1, stop=stop)]) == 0
    assert (tmp_path / 'experiments' / name[:-4].replace('/', '_') / 'unlearn_summary.json').exists()


def test_measures(tiny, tmp_path):
    assert main(['test', '-opt', tiny('promptir/test.yml')]) == 0
