"""The evaluator: the cut before the network, metrics of both forms, whole runs."""

import json
import logging
import os
import re
import subprocess
import sys
from os import path as osp

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import make_net, write_pairs
from test_metrics import AIO, Odd, by_hand, evaluate

from basicsr.utils import logger as basicsr_logger
from basicsr.utils.registry import METRIC_REGISTRY
from basicsr_unlearn.cli import main
from basicsr_unlearn.data.degraded_image_dataset import DegradedImageDataset
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.evaluation import Evaluator


def test_the_cut_comes_before_the_network():
    net = make_net().eval()
    found = evaluate(AIO, {'net': net, 'input': None})
    for column, restore in (('net', net), ('input', lambda x: x)):
        values = []
        for item in map(Odd().__getitem__, range(3)):
            lq, gt = (item[key][:, 6:38, 6:54] for key in ('lq', 'gt'))  # 45 = 6 + 32 + 7, 61 = 6 + 48 + 7
            with torch.no_grad():
                result = restore(lq[None])[0]
            values.append(by_hand(*(image.numpy().transpose(1, 2, 0).astype(np.float64) for image in (result, gt))))
        psnr, ssim = np.mean(values, axis=0)
        assert found['psnr'][column] == pytest.approx(psnr, abs=1e-4)
        assert found['ssim'][column] == pytest.approx(ssim, abs=1e-5)
    whole = evaluate({'psnr': {'type': 'calculate_psnr'}}, {'net': net})
    assert abs(whole['psnr']['net'] - found['psnr']['net']) > 1e-3


def test_metrics_of_both_forms_in_one_run():
    """Each form as if it were alone; a network runs once for each cut, and once where the cuts are the same."""
    runs = []

    class Counts(torch.nn.Module):
        def forward(self, x):
            runs.append(tuple(x.shape[-2:]))
            return x.sqrt()

    plain = {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}, 'ssim': {'type': 'calculate_ssim'}}
    both = {**plain, 'psnr_aio': AIO['psnr'], 'ssim_aio': AIO['ssim']}
    together = evaluate(both, {'net': Counts()})
    assert runs == [(45, 61), (32, 48)] * 3
    apart = {
        **evaluate(plain, {'net': Counts()}),
        **{f'{k}_aio': v for k, v in evaluate(AIO, {'net': Counts()}).items()},
    }
    assert together == apart
    runs.clear()
    dataset = [{key: value[:, :32, :48] if key != 'lq_path' else value for key, value in Odd()[0].items()}]
    evaluate(both, {'net': Counts()}, dataset)
    assert runs == [(32, 48)]


def test_basicsr_metrics_are_as_before():
    found = evaluate({'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True}}, {'input': None})
    values = []
    for index in range(3):
        item = Odd()[index]
        pair = [np.round(item[k].numpy().transpose(1, 2, 0)[..., ::-1] * 255).astype(np.uint8) for k in ('lq', 'gt')]
        values.append(METRIC_REGISTRY.get('calculate_psnr')(*pair, crop_border=4, test_y_channel=True))
    assert found['psnr']['input'] == pytest.approx(np.mean(values))
    assert list(found) == ['psnr', 'ssim']  # the table's metrics come with it


def test_a_picture_that_is_too_small_is_named():
    small = [{key: value[:, :9, :9] if key != 'lq_path' else value for key, value in Odd()[0].items()}]
    with pytest.raises(InputError, match='0.png of 9x9 pixels'):
        evaluate(AIO, {'input': None}, small)


# --- whole runs ---


@pytest.fixture
def odd_pairs(tmp_path):
    return write_pairs(tmp_path / 'odd', {'type': 'rain'}, number=3, size=50)


def basicsr_test(tree, home):
    (home / 'test.yml').write_text(yaml.safe_dump(tree))
    basicsr_logger.initialized_logger.clear()
    for handler in list(logging.getLogger('basicsr').handlers):
        logging.getLogger('basicsr').removeHandler(handler)
    status = main(['test', '-opt', 'test.yml'])
    logs = [name for name in os.listdir('results/measure') if name.endswith('.log')] if osp.isdir('results') else []
    return status, open(f'results/measure/{logs[0]}').read() if logs else ''


@pytest.fixture
def measure(options, odd_pairs, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = {'name': 'odd', 'type': 'PairedImageDataset', 'io_backend': {'type': 'disk'}, **odd_pairs}
    return {
        'name': 'measure',
        'model_type': 'RestorationModel',
        'scale': 1,
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': {'test_odd': section},
        'network_g': options['network_g'],
        'path': {'pretrain_network_g': weights},
        'val': {'save_img': True, 'suffix': None, 'metrics': {**AIO, 'old': {'type': 'calculate_psnr'}}},
    }


def test_basicsr_test_is_exact_too(measure, tmp_path, odd_pairs):
    status, text = basicsr_test(measure, tmp_path)
    assert status == 0
    net, values = make_net().eval(), []
    for name in sorted(os.listdir(odd_pairs['dataroot_lq'])):
        lq, gt = (cv2.imread(osp.join(odd_pairs[f'dataroot_{k}'], name))[1:49, 1:49, ::-1] / 255 for k in ('lq', 'gt'))
        with torch.no_grad():
            result = net(torch.tensor(lq.transpose(2, 0, 1)[None], dtype=torch.float32))[0].numpy()
        values.append(by_hand(result.transpose(1, 2, 0), gt))
    logged = {key: float(value) for key, value in re.findall(r'# (\w+): (\S+)', text)}
    assert set(logged) == {'psnr', 'ssim', 'old'}
    assert [logged['psnr'], logged['ssim']] == pytest.approx(list(np.mean(values, axis=0)), abs=1e-4)
    assert 'Best:' in text
    pictures = sorted(os.listdir('results/measure/visualization/odd'))
    assert pictures == [f'000{index}_measure.png' for index in range(3)]
    assert cv2.imread(f'results/measure/visualization/odd/{pictures[0]}').shape == (50, 50, 3)  # whole


def test_two_processes_measure_what_one_does(measure, tmp_path):
    _, text = basicsr_test(measure, tmp_path)
    for path in (tmp_path / 'results/measure/visualization/odd').iterdir():
        path.unlink()
    launcher = ('torch.distributed.run', '--standalone', '--nproc_per_node=2', '-m')
    command = [sys.executable, '-m', *launcher, 'basicsr_unlearn', 'test', '-opt', 'test.yml', '--launcher', 'pytorch']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(os.listdir('results/measure/visualization/odd')) == 3
    one, two = (re.findall(r'# (\w+): (\S+)', found) for found in (text, done.stderr))
    assert len(one) == 3 and one == two


def test_basicsr_test_without_clean_images(measure, tmp_path, odd_pairs):
    section = {'name': 'odd', 'type': 'SingleImageDataset', 'io_backend': {'type': 'disk'}}
    measure['datasets'] = {'test_odd': {**section, 'dataroot_lq': odd_pairs['dataroot_lq']}}
    measure['val']['metrics'] = None
    assert basicsr_test(measure, tmp_path)[0] == 0
    assert len(os.listdir('results/measure/visualization/odd')) == 3


def test_clean_images_are_asked_for(measure, tmp_path, odd_pairs, capsys):
    section = {'name': 'odd', 'type': 'SingleImageDataset', 'io_backend': {'type': 'disk'}}
    measure['datasets'] = {'test_odd': {**section, 'dataroot_lq': odd_pairs['dataroot_lq']}}
    assert basicsr_test(measure, tmp_path)[0] == 2
    assert 'datasets: test_odd: has no clean images, which val: metrics: ' in capsys.readouterr().err
    assert not osp.exists('results')
    without = [{key: value for key, value in Odd()[0].items() if key != 'gt'}]
    with pytest.raises(InputError, match='psnr: calculate_psnr_aio needs clean images'):
        evaluate(AIO, {'input': None}, without)


def test_lower_is_better(measure, tmp_path, options, run):
    """A training with RestorationModel keeps the lowest value where the option file or the metric says so."""

    @METRIC_REGISTRY.register()
    def calculate_falling(img, img2, step=1, **kwargs):
        calculate_falling.value -= step
        return calculate_falling.value

    calculate_falling.value, calculate_falling.better = 100, 'lower'
    tree = {
        **{key: measure[key] for key in ('scale', 'num_gpu', 'manual_seed', 'network_g', 'path')},
        'name': 'tiny',
        'model_type': 'RestorationModel',
        'datasets': {
            'train': {**options['datasets']['train'], 'type': 'MixedPairedDataset'},
            'val_odd': measure['datasets']['test_odd'],
        },
        'train': {
            'optim_g': {'type': 'AdamW', 'lr': 1e-4},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [1000]},
            'total_iter': 2,
            'warmup_iter': -1,
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0},
        },
        'val': {'val_freq': 1, 'save_img': True, 'metrics': {'own': {'type': 'calculate_falling'}, **AIO}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 10, 'use_tb_logger': True},
    }
    tree['path'] = {**tree['path'], 'resume_state': None}
    train = tree['datasets']['train']
    train['sources'] = {'haze': train.pop('forget'), **train.pop('retain')}
    try:
        status, home = run(tree)
    finally:
        del METRIC_REGISTRY._obj_map['calculate_falling']
    assert status == 0
    text = next((home / 'experiments/tiny').glob('train_*.log')).read_text()
    best = re.findall(r'# own: (\S+)\tBest: (\S+) @ (\d+) iter', text)
    assert len(best) >= 2 and all(value == kept for value, kept, _ in best) and int(best[-1][2]) > int(best[0][2])
    assert {'0001_1.png', '0001_2.png'} <= set(os.listdir(home / 'experiments/tiny/visualization/0001'))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scalars = EventAccumulator(str(home / 'tb_logger/tiny')).Reload().Tags()['scalars']
    assert {'metrics/odd/own', 'metrics/odd/psnr', 'metrics/odd/ssim'} <= set(scalars)


def test_an_unlearning_run_reports_them(options, run):
    options['val']['metrics'] = {**AIO, 'old_psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'better': 'higher'}}
    options['train']['total_iter'] = 1
    status, home = run(options)
    assert status == 0
    result = json.loads((home / 'experiments/tiny/unlearn_summary.json').read_text())
    assert result['metrics']['psnr'] == {'type': 'calculate_psnr_aio'}
    assert result['metrics']['old_psnr'] == {'type': 'calculate_psnr', 'crop_border': 2}
    opt = {'rank': 0, 'world_size': 1, 'val': options['val']}
    dataset = DegradedImageDataset(options['datasets']['val_noise'])
    again = Evaluator(opt, torch.device('cpu')).measure({'original': make_net()}, dataset, 'noise')
    noise = result['sets'][1]
    for metric in ('psnr', 'ssim', 'old_psnr'):
        assert noise[metric]['original'] == pytest.approx(again[metric]['original'], abs=1e-5)
        assert set(noise[metric]) == {'input', 'original', 'unlearned', 'oracle'}
    table = (home / 'experiments/tiny/unlearn_summary.md').read_text()
    assert 'PSNR in dB (calculate_psnr_aio, calculate_ssim_aio).' in table
    assert f'old_psnr (input, original, unlearned, oracle): haze {result["sets"][0]["old_psnr"]["input"]:.4f} ' in table
