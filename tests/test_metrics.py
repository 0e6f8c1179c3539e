"""The papers' metrics: golden values, options, LPIPS.

golden_metrics.csv: each row is a crop of a photograph inside the scikit-image package (read by OpenCV, RGB, /255) and
the same with noise, default_rng(seed).normal(0, sigma / 255), neither cut to [0, 1] nor rounded. psnr and ssim are
those of `by_hand` below, written from the definitions in float64, without scikit-image. `python tests/test_metrics.py`
writes the file.
"""

import csv
import os
import sys
import types
from os import path as osp

import cv2
import numpy as np
import pytest
import skimage
import torch

from basicsr.metrics import calculate_metric
from basicsr.utils.registry import METRIC_REGISTRY
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.metrics import lpips
from basicsr_unlearn.metrics.chosen import choose_metrics
from basicsr_unlearn.metrics.protocol import centre_window
from basicsr_unlearn.metrics.psnr_aio import calculate_psnr_aio
from basicsr_unlearn.metrics.ssim_aio import calculate_ssim_aio
from basicsr_unlearn.models.evaluation import Evaluator

GOLDEN = osp.join(osp.dirname(__file__), 'golden_metrics.csv')
CASES = [  # photograph, top, left, height, width, sigma, seed
    ('astronaut.png', 0, 0, 64, 64, 15, 0),
    ('astronaut.png', 100, 150, 131, 203, 25, 1),
    ('chelsea.png', 20, 60, 17, 95, 50, 2),
    ('chelsea.png', 5, 7, 160, 176, 25, 3),
    ('coffee.png', 30, 300, 99, 33, 15, 4),
    ('coffee.png', 60, 100, 321, 481, 50, 5),
]
AIO = {'psnr': {'type': 'calculate_psnr_aio'}, 'ssim': {'type': 'calculate_ssim_aio'}}


def images(photograph, top, left, height, width, sigma, seed):
    """Return the noisy and the clean image, (H, W, 3) RGB, float64."""
    clean = cv2.imread(osp.join(osp.dirname(skimage.__file__), 'data', photograph))[..., ::-1] / 255
    clean = clean[top : top + height, left : left + width]
    assert clean.shape == (height, width, 3)
    return clean + np.random.default_rng(seed).normal(0, sigma / 255, clean.shape), clean


def by_hand(noisy, clean):
    """PSNR and SSIM of the centre of multiples of 16 pixels, by their definitions."""
    height, width = clean.shape[0] // 16 * 16, clean.shape[1] // 16 * 16
    top, left = (clean.shape[0] - height) // 2, (clean.shape[1] - width) // 2
    x, y = (np.clip(image, 0, 1)[top : top + height, left : left + width] for image in (noisy, clean))
    psnr = -10 * np.log10(np.mean((x - y) ** 2))
    x, y = (np.lib.stride_tricks.sliding_window_view(image, (7, 7), (0, 1)) for image in (x, y))
    mean_x, mean_y = x.mean((-1, -2)), y.mean((-1, -2))
    var_x, var_y = x.var((-1, -2), ddof=1), y.var((-1, -2), ddof=1)
    covariance = ((x - mean_x[..., None, None]) * (y - mean_y[..., None, None])).sum((-1, -2)) / 48
    likeness = (2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)
    ssim = np.mean(likeness / ((mean_x**2 + mean_y**2 + 0.01**2) * (var_x + var_y + 0.03**2)))
    return float(psnr), float(ssim)


def golden():
    with open(GOLDEN, newline='') as file:
        for row in csv.reader(line for line in file if not line.startswith('#')):
            if row[0] != 'photograph':
                yield (row[0], *map(int, row[1:7])), *map(float, row[7:])


@pytest.mark.parametrize('case, psnr, ssim', golden())
def test_golden_values(case, psnr, ssim):
    noisy, clean = (image.astype(np.float32) for image in images(*case))
    assert calculate_psnr_aio(noisy, clean) == pytest.approx(psnr, abs=1e-4)
    assert calculate_ssim_aio(noisy, clean) == pytest.approx(ssim, abs=1e-5)
    rounded = np.round(np.clip(noisy, 0, 1) * 255).astype(np.uint8)[..., ::-1]
    data = {'img': rounded, 'img2': np.round(clean * 255).astype(np.uint8)[..., ::-1]}
    assert calculate_metric(data, {'type': 'calculate_psnr_aio'}) == pytest.approx(psnr, abs=0.02)  # BasicSR's call
    assert calculate_metric(data, {'type': 'calculate_ssim_aio'}) == pytest.approx(ssim, abs=1e-3)


def test_every_golden_row_is_there():
    assert [case for case, _, _ in golden()] == CASES


def test_equal_images():
    _, clean = images(*CASES[0])
    assert calculate_psnr_aio(clean, clean) == float('inf') and calculate_ssim_aio(clean, clean) == pytest.approx(1)
    with pytest.raises(ValueError, match='shapes'):
        calculate_psnr_aio(clean, clean[:32])
    with pytest.raises(InputError, match='9x64'):
        calculate_psnr_aio(clean[:, :9], clean[:, :9])


@pytest.mark.parametrize('size, start', [(16, 0), (17, 0), (18, 1), (31, 7), (321, 0), (481, 0), (47, 7)])
def test_the_odd_pixel_is_cut_at_the_end(size, start):
    rows, columns = centre_window(size, 40, 16)
    assert (rows.start, rows.stop) == (start, start + size // 16 * 16)
    assert (columns.start, columns.stop) == (4, 36)


class Odd:
    """Three pairs of 45x61 pixels, which is no multiple of anything here."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        noisy, clean = images('chelsea.png', 30 * index, 60, 45, 61, 25, index)
        lq, gt = (torch.tensor(image.transpose(2, 0, 1).clip(0, 1), dtype=torch.float32) for image in (noisy, clean))
        return {'lq': lq, 'gt': gt, 'lq_path': f'{index}.png'}


def evaluate(section, nets, dataset=None, **val):
    opt = {'rank': 0, 'world_size': 1, 'val': {'metrics': section, **val}}
    return Evaluator(opt, torch.device('cpu')).measure(nets, dataset or Odd(), 'odd')


@pytest.mark.parametrize(
    'entry, words',
    [
        ({'type': 'calculate_psn'}, ['psnr: type: calculate_psn', 'Did you mean calculate_psnr']),
        ({'type': 'calculate_psnr', 'crop_bordr': 0}, ['crop_bordr', 'Did you mean crop_border?']),
        ({'type': 'calculate_psnr', 'better': 'more'}, ['better: more', 'higher or lower']),
        ({'type': 'calculate_psnr', 'crop_border': 'x'}, ['calculate_psnr fails']),
        ({'type': 'calculate_psnr_pt'}, ['calculate_psnr_pt fails']),
        ({'type': 'calculate_niqe', 'crop_border': 0, 'convert_to': 'x'}, ['calculate_niqe fails']),
        ('calculate_psnr', ["'calculate_psnr' must be a section"]),
    ],
)
def test_bad_metrics_are_refused_before_the_run(entry, words, options, run, capsys):
    options['val']['metrics'] = {'psnr': entry}
    status, home = run(options)
    error = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and len(error) == 1 and os.listdir(home) == []
    assert error[0].startswith('basicsr: error: val: metrics: psnr')
    assert all(word in error[0] for word in words), error


def test_metrics_of_other_packages_take_what_they_like():
    @METRIC_REGISTRY.register()
    def calculate_other(img, img2, **kwargs):
        return kwargs['anything']

    try:
        (metric,) = choose_metrics({'x': {'type': 'calculate_other', 'anything': 3}})
        assert metric(np.zeros((2, 2, 3)), np.zeros((2, 2, 3))) == 3.0
    finally:
        del METRIC_REGISTRY._obj_map['calculate_other']


# --- LPIPS: only the wiring; the weights of its network cannot be fetched in a test ---


@pytest.fixture
def torchmetrics(monkeypatch):
    """A torchmetrics whose LPIPS is the mean absolute difference, and notes how it was made and called."""

    class Fake:
        calls, error = [], None

        def __init__(self, net_type, normalize):
            if Fake.error:
                raise Fake.error
            assert normalize is True
            self.net_type = net_type

        def __call__(self, first, second):
            Fake.calls.append((self.net_type, first, second))
            return (first - second).abs().mean()

        def reset(self):
            pass

    module = types.ModuleType('torchmetrics.image.lpip')
    module.LearnedPerceptualImagePatchSimilarity = Fake
    for name in ('torchmetrics', 'torchmetrics.image'):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, 'torchmetrics.image.lpip', module)
    lpips._metric.cache_clear()
    yield Fake
    lpips._metric.cache_clear()


def test_lpips_is_handed_rgb_in_0_1(torchmetrics):
    found = evaluate({'lpips': {'type': 'calculate_lpips', 'net': 'vgg'}}, {'input': None})
    item = Odd()[0]
    net, first, second = torchmetrics.calls[0]
    assert net == 'vgg' and torch.equal(first[0], item['lq']) and torch.equal(second[0], item['gt'])
    expected = np.mean([float((Odd()[i]['lq'] - Odd()[i]['gt']).abs().mean()) for i in range(3)])
    assert found['lpips']['input'] == pytest.approx(expected, rel=1e-5)
    (metric,) = choose_metrics({'lpips': {'type': 'calculate_lpips'}})
    assert metric.better == 'lower' and metric.form == (1, True)


def test_lpips_without_torchmetrics(options, run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchmetrics', None)
    lpips._metric.cache_clear()
    options['val']['metrics'] = {'lpips': {'type': 'calculate_lpips', 'better': 'lower'}}
    status, home = run(options)
    error = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and len(error) == 1 and os.listdir(home) == []
    assert 'val: metrics: lpips: ' in error[0] and 'pip install "basicsr-unlearn[eval]"' in error[0]


def test_lpips_without_its_weights(options, run, capsys, torchmetrics):
    torchmetrics.error = OSError('no network')
    options['val']['metrics'] = {'lpips': {'type': 'calculate_lpips'}}
    status, home = run(options)
    error = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and len(error) == 1 and os.listdir(home) == []
    assert 'cannot be fetched (no network)' in error[0] and 'TORCH_HOME' in error[0]


if __name__ == '__main__':
    with open(GOLDEN, 'w', newline='') as file:
        file.write(
            '# noisy photographs measured by by_hand of test_metrics.py; made by: python tests/test_metrics.py\n'
        )
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['photograph', 'top', 'left', 'height', 'width', 'sigma', 'seed', 'psnr', 'ssim'])
        writer.writerows([*case, *(f'{value:.9f}' for value in by_hand(*images(*case)))] for case in CASES)
