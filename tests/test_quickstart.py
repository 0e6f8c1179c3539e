"""The figures that the README promises, on the quickstart and on aio3. Slow: `python -m pytest -m slow`."""

import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from os import path as osp

import pytest

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
ENVIRONMENT = {**os.environ, 'PYTHONPATH': os.pathsep.join([ROOT, *sys.path])}
pytestmark = pytest.mark.slow


def unlearn(option_file, folder, *arguments):
    command = [sys.executable, '-m', 'basicsr_unlearn', 'train', '-opt', option_file, *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    name = os.listdir(osp.join(folder, 'experiments'))[0]
    with open(osp.join(folder, 'experiments', name, 'unlearn_summary.json')) as file:
        return json.load(file)


def assert_forgotten(summary):
    for entry in summary['sets']:
        psnr = entry['psnr']
        if entry['role'] == 'forget':
            assert psnr['original'] >= psnr['oracle'] + 3
            assert abs(psnr['unlearned'] - psnr['oracle']) <= 0.5
        else:
            assert psnr['unlearned'] >= psnr['original'] - 0.1
            assert psnr['original'] > psnr['input']
    assert summary['cost_share'] <= 0.02


@pytest.fixture(scope='module')
def quickstart(tmp_path_factory):
    folder = tmp_path_factory.mktemp('quickstart')
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    summary = unlearn(osp.join(ROOT, 'options', 'quickstart', 'unlearn_haze.yml'), folder)
    return folder, summary, max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def test_quickstart_forgets_haze_and_nothing_else(quickstart):
    _, summary, memory = quickstart
    assert_forgotten(summary)
    assert all(entry['images'] >= 10 for entry in summary['sets'])
    assert memory < 3 * 2**20  # KiB


def test_tensorboard_serves_the_run(quickstart):
    folder, _, _ = quickstart
    command = [osp.join(osp.dirname(sys.executable), 'tensorboard'), '--logdir', 'tb_logger', '--port', '6106']
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def get(path):
        with urllib.request.urlopen(f'http://localhost:6106/{path}', timeout=20) as answer:
            return answer.read().decode()

    try:
        for _ in range(60):
            time.sleep(1)
            assert server.poll() is None, server.stderr.read()[-2000:]
            try:
                tags = json.loads(get('data/plugin/scalars/tags'))
            except OSError:
                continue
            if tags.get('unlearn_haze'):
                break
        images = json.loads(get('data/plugin/images/tags'))['unlearn_haze']
    finally:
        server.terminate()
        server.wait()
    expected = {'psnr_forget/haze', 'psnr_retain/rain', 'psnr_gap_to_oracle/haze', 'losses/l_forget'}
    assert expected <= set(tags['unlearn_haze'])
    assert {'haze/0', 'haze/1', 'rain/0', 'noise/1'} <= set(images)


def test_unbounded_ascent_is_stopped_by_the_retain_budget(tmp_path):
    """Ascent without a bound; the forget level is switched off, so that only the budget can end it."""
    with open(osp.join(ROOT, 'options', 'quickstart', 'unlearn_haze.yml')) as file:
        text = file.read()
    ascent = '{ type: GradientAscent, forget_opt: { type: AscentLoss, bound: none } }'
    start, end = text.index('  method:\n'), text.index('  optim_g:\n')
    text = f'{text[:start]}  method: {ascent}\n  stop: {{ forget_psnr_below: ~, every: 5 }}\n{text[end:]}'
    (tmp_path / 'ascent.yml').write_text(text)
    summary = unlearn(str(tmp_path / 'ascent.yml'), tmp_path)
    assert summary['stopped_by'] == 'retain_budget'
    assert summary['kept_iteration'] < summary['iterations']
    for entry in summary['sets']:
        assert entry['role'] == 'forget' or entry['psnr']['unlearned'] > entry['psnr']['original'] - 1


@pytest.mark.skipif(not os.environ.get('AIO3_ROOT'), reason='AIO3_ROOT does not name a copy of aio3')
def test_aio3_forgets_haze_and_nothing_else(tmp_path, monkeypatch):
    """On the validation split: the test split is for figures that are reported."""
    monkeypatch.setitem(ENVIRONMENT, 'AIO3_SPLIT', 'val')
    option_file = osp.join(ROOT, 'options', 'aio3', 'unlearn_haze.yml')
    os.symlink(osp.join(ROOT, 'options'), tmp_path / 'options')
    summary = unlearn(option_file, tmp_path)
    assert_forgotten(summary)
    gains = {e['name']: e['psnr']['original'] - e['psnr']['input'] for e in summary['sets']}
    assert gains['haze'] >= 4 and gains['rain'] >= 3 and gains['noise25'] >= 5
