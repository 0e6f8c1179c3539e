import os
import subprocess
import sys

import pytest
import yaml

import basicsr_unlearn
from basicsr_unlearn.cli import main
from basicsr_unlearn.options import prepare


def test_help_is_complete(capsys):
    for command in ([], ['train'], ['test'], ['check'], ['init'], ['audit'], ['report'], ['compare'], ['protect']):
        with pytest.raises(SystemExit) as end:
            main([*command, '--help'])
        text = capsys.readouterr().out
        assert end.value.code == 0
        if command in (['train'], ['test']):
            for flag in ('-opt', '--launcher', '--auto_resume', '--debug', '--force_yml', 'exit status'):
                assert flag in text
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2


def test_version_names_the_package(capsys):
    with pytest.raises(SystemExit):
        main(['--version'])
    assert f'basicsr-unlearn {basicsr_unlearn.__version__} (BasicSR 1.' in capsys.readouterr().out


@pytest.mark.parametrize('recipe', ['promptir', 'adair'])
def test_init_writes_the_files_of_the_published_networks(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(['init', recipe]) == 0
    tasks = [f'{kind}_{task}.yml' for kind in ('retrain_without', 'unlearn') for task in ('haze', 'noise', 'rain')]
    assert sorted(os.listdir()) == sorted(['train.yml', 'test.yml', *tasks])


def test_init_writes_what_train_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['init', 'quickstart']) == 0
    assert sorted(os.listdir()) == ['train_oracle.yml', 'train_original.yml', 'unlearn_haze.yml']
    (tmp_path / 'unlearn_haze.yml').write_text('mine')
    capsys.readouterr()
    assert main(['init', 'quickstart']) == 2
    assert 'exists already' in capsys.readouterr().err
    assert (tmp_path / 'unlearn_haze.yml').read_text() == 'mine'


def test_module_is_the_same_program(tmp_path):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, '-m', 'basicsr_unlearn', 'train', '-opt', 'no.yml'],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (2, 'basicsr: error: -opt no.yml: no such file.\n')


def test_test_measures_a_checkpoint(options, tmp_path, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    sets = {key.replace('val', 'test'): value for key, value in options['datasets'].items() if key != 'train'}
    tree = {
        'name': 'measure',
        'model_type': 'RestorationModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': sets,
        'network_g': options['network_g'],
        'path': {'pretrain_network_g': weights},
        'val': {'save_img': True, 'suffix': None, 'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}},
    }
    (tmp_path / 'test.yml').write_text(yaml.safe_dump(tree))
    assert main(['test', '-opt', 'test.yml']) == 0
    assert len(os.listdir('results/measure/visualization/haze')) == 4


def test_paths_are_expanded(monkeypatch):
    monkeypatch.setenv('ROOT', '/data')
    monkeypatch.setenv('HOME', '/home/me')
    opt = prepare(
        {
            'manual_seed': 4,
            'datasets': {'train': {'forget': {'dataroot_lq': '${ROOT}/lq'}, 'gt_size': 8}},
            'path': {'pretrain_network_g': '~/w.pth', 'x': '${OTHER:-/tmp}/y'},
        }
    )
    assert opt['datasets']['train'] == {'forget': {'dataroot_lq': '/data/lq'}, 'gt_size': 8, 'manual_seed': 4}
    assert opt['path'] == {'pretrain_network_g': '/home/me/w.pth', 'x': '/tmp/y'}
