"""What a full or read-only disk does to a run: nothing that was saved is lost, and the run goes on to the same bits."""

import contextlib
import errno
import json
import os
import re
import resource
import subprocess
import time

import pytest
import torch
from conftest import latest

from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr_unlearn import checkpoint, compat
from basicsr_unlearn.atomic import atomic_save
from basicsr_unlearn.attacks.adversarial_cache import AdversarialCache
from basicsr_unlearn.cli import main
from basicsr_unlearn.models import reporter
from basicsr_unlearn.models.unlearn_model import UnlearnModel

CACHED = {'type': 'InstanceWise', 'craft': 'cache', 'cache_images': 8, 'steps': 1}
SLOW = pytest.mark.slow
FULL = 'No space left on device'


@pytest.fixture
def disk(tmp_path, run, monkeypatch):
    """A disk of 48 MB as the current directory."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f'a small disk cannot be mounted here: {mounted.stderr}')
    monkeypatch.chdir(folder)
    monkeypatch.setattr(time, 'sleep', lambda seconds: None)  # BasicSR waits between its attempts to save
    yield folder
    os.chdir(tmp_path)
    subprocess.run(['umount', '--lazy', folder], check=True)


def fill(disk):
    """Fill a disk to its last byte."""
    with contextlib.suppress(OSError), open(disk / 'filling', 'ab', buffering=0) as file:
        while True:
            file.write(bytes(1 << 20) if os.statvfs(disk).f_bavail > 256 else bytes(4096))


def when(monkeypatch, owner, name, number, action):
    """Let `action()` happen just before the given call (from 1) of a function."""
    original, calls = getattr(owner, name), []

    def counting(*args, **kwargs):
        calls.append(name)
        if len(calls) == number:
            action()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counting)


def contents(folder):
    """Return every saved file under a folder with its bytes."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob('*')) if path.suffix in ('.pth', '.state')}


def same_result(home, other):
    first, second = latest(home), latest(other)
    summaries = [json.loads((folder / 'experiments/tiny/unlearn_summary.json').read_text()) for folder in (home, other)]
    assert all(torch.equal(value, second[key]) for key, value in first.items()) and first.keys() == second.keys()
    assert all(summaries[0][key] == summaries[1][key] for key in ('sets', 'cost', 'iterations'))


@pytest.fixture
def undisturbed(options, run, tmp_path, monkeypatch):
    """The folder of the same run on a disk with room; called when the options are complete."""

    def whole():
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir(tmp_path / 'home')
            assert run(options)[0] == 0
        return tmp_path / 'home'

    return whole


SAVING = {
    'weights': (BaseModel, 'save_network', 2, 'net_g_4.pth'),
    'state': (UnlearnModel, 'save_training_state', 2, '4.state'),
    'result': (BaseModel, 'save_network', 3, 'net_g_latest.pth'),
    'summary': (reporter.summary, 'write_summary', 1, 'unlearn_summary.json'),
}


@pytest.mark.parametrize('what', ['weights', 'state', *(pytest.param(w, marks=SLOW) for w in ('result', 'summary'))])
def test_a_full_disk(options, run, disk, undisturbed, monkeypatch, capfd, what):
    options['logger']['use_tb_logger'] = False
    home, saved = undisturbed(), {}
    owner, name, number, file = SAVING[what]

    def full():
        saved.update(contents(disk))
        fill(disk)

    with monkeypatch.context() as once:
        when(once, owner, name, number, full)
        status, _ = run(options)
    text = capfd.readouterr().err
    assert status == 1 and 'Traceback' not in text
    last = text.strip().splitlines()[-1]
    assert file in last and FULL in last and 'saved before is whole' in last and '--auto_resume' in last
    assert {'net_g_2.pth', '2.state'} <= {os.path.basename(path) for path in saved}
    assert saved.items() <= contents(disk).items() and not list(disk.rglob('*.tmp'))
    for path in contents(disk):
        torch.load(path, weights_only=True)
    os.remove(disk / 'filling')
    assert run(options, '--auto_resume')[0] == 0
    assert 'Resuming training' in capfd.readouterr().err
    same_result(home, disk)


@pytest.mark.parametrize('folder', [pytest.param('models', marks=SLOW), 'training_states'])
def test_a_disk_that_becomes_read_only(options, run, disk, undisturbed, monkeypatch, capfd, folder):
    home, folder = undisturbed(), disk / 'experiments/tiny' / folder
    file = 'net_g_4.pth' if folder.name == 'models' else '4.state'

    def freeze():
        subprocess.run(['mount', '--bind', folder, folder], check=True)
        subprocess.run(['mount', '-o', 'remount,ro,bind', folder], check=True)

    with monkeypatch.context() as once:
        when(once, UnlearnModel, 'save', 2, freeze)
        status, _ = run(options)
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert status == 1 and file in last and 'Read-only file system' in last
    torch.load(disk / 'experiments/tiny/models/net_g_2.pth', weights_only=True)
    torch.load(disk / 'experiments/tiny/training_states/2.state', weights_only=True)
    subprocess.run(['umount', folder], check=True)
    assert run(options, '--auto_resume')[0] == 0
    same_result(home, disk)


def test_log_and_tensorboard_are_not_worth_the_run(options, run, disk, undisturbed, monkeypatch, capfd):
    home = undisturbed()

    def full():
        fill(disk)
        for _ in range(2):
            get_root_logger().info('a long line ' * 1000)  # more than what is left of the last block
            compat.tb_writer().add_text('long', 'a long text ' * 1000, 3)

    when(monkeypatch, UnlearnModel, 'feed_data', 3, full)
    when(monkeypatch, UnlearnModel, 'save', 2, lambda: os.remove(disk / 'filling'))
    status, _ = run(options)
    text = capfd.readouterr().err
    assert status == 0 and 'Traceback' not in text
    assert text.count('.log: cannot be written') == 1 and text.count('TensorBoard: cannot be written') == 1
    same_result(home, disk)


def test_an_adversarial_cache_that_does_not_fit(options, run, disk, undisturbed, monkeypatch, capfd):
    options['train']['method'] = CACHED
    home = undisturbed()
    with monkeypatch.context() as once:
        when(once, AdversarialCache, 'add', 3, lambda: fill(disk))
        status, _ = run(options)
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert status == 1 and '.lmdb' in last and FULL in last
    os.remove(disk / 'filling')
    with monkeypatch.context() as counted:
        added = []
        when(counted, AdversarialCache, 'add', 2, lambda: added.append(2))
        when(counted, AdversarialCache, 'add', 3, lambda: added.append(3))
        assert run(options, '--auto_resume')[0] == 0
    assert added == [2]  # two of four batches were kept
    same_result(home, disk)


@SLOW
def test_an_adversarial_cache_that_is_gone_is_not_counted_twice(options, run, disk, undisturbed, monkeypatch):
    options['train']['method'] = CACHED
    options['logger']['save_checkpoint_freq'] = 3
    home = undisturbed()
    with monkeypatch.context() as once:
        when(once, BaseModel, 'save_network', 2, lambda: fill(disk))  # the result, after the cache was removed
        assert run(options)[0] == 1
    os.remove(disk / 'filling')
    assert run(options, '--auto_resume')[0] == 0
    same_result(home, disk)


def test_pictures(options, run, disk, monkeypatch, capfd):
    options['val']['save_img'] = True
    when(monkeypatch, reporter.Reporter, 'report', 1, lambda: fill(disk))
    status, _ = run(options)
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert status == 1 and re.search(r'haze_\d+_4.png: cannot be read or written', last) and FULL in last
    assert not list(disk.rglob('*.png'))


def test_before_anything_is_written(options, run, disk, capfd):
    fill(disk)
    status, _ = run(options)
    text = capfd.readouterr().err
    assert status == 2 and '0.0 MiB are free' in text and 'Make room' in text
    assert os.listdir(disk) == ['filling']


def test_a_read_only_disk_before_anything_is_written(options, run, disk, capfd):
    subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
    status, _ = run(options)
    assert status == 2 and f'{disk}: cannot be written' in capfd.readouterr().err
    assert os.listdir(disk) == []


def test_a_limit_on_the_size_of_files(tmp_path):
    """Without a disk of its own: the limit stops the writing in the middle of the file."""
    path = str(tmp_path / 'w.pth')
    atomic_save({'a': torch.zeros(10)}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, limits[1]))
    try:
        for save in (atomic_save, checkpoint.save_safetensors):
            with pytest.raises(OSError) as error:
                save({'a': torch.ones(1 << 20)}, path)
            assert (error.value.errno, error.value.filename) == (errno.EFBIG, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(torch.load(path)['a'], torch.zeros(10)) and os.listdir(tmp_path) == ['w.pth']


def test_other_errors_of_the_system_keep_their_traceback(tmp_path, monkeypatch):
    def broken(*args):
        raise OSError(errno.ECONNREFUSED, 'Connection refused')

    monkeypatch.setattr('basicsr_unlearn.recipes.folder', broken)
    with pytest.raises(OSError, match='Connection refused'):
        main(['init', 'quickstart'])
