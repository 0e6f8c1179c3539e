import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import start_long

from basicsr_unlearn import interruption as module
from basicsr_unlearn.atomic import remove_old
from basicsr_unlearn.interruption import Interruption, interruption


@pytest.fixture
def guarded():
    with interruption.guard():
        interruption.handle()
        yield interruption


def test_during_training_a_signal_is_a_wish(guarded):
    guarded.patient = True
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)  # launchers and batch systems send more than one
    assert guarded.asked


def test_elsewhere_it_ends_at_once(guarded, capfd):
    with pytest.raises(SystemExit) as end:
        os.kill(os.getpid(), signal.SIGINT)
    assert end.value.code == 4 and 'interrupted before the first iteration' in capfd.readouterr().err


def test_a_wish_is_heard_where_something_long_begins(guarded, capfd):
    guarded.patient = True
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit), guarded.at_once('while measuring.'):
        pytest.fail('it has begun')
    assert guarded.patient and 'interrupted while measuring.' in capfd.readouterr().err


def test_seconds_later_a_signal_kills(guarded, monkeypatch):
    killed, now = [], [10.0]
    monkeypatch.setattr(module.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(module.os, 'kill', lambda *arguments: killed.append(arguments))
    guarded.patient = True
    for _ in range(2):
        guarded._note(signal.SIGTERM, None)
    assert not killed
    now[0] += module.AGAIN + 0.1
    guarded._note(signal.SIGTERM, None)
    assert killed == [(os.getpid(), signal.SIGTERM)] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with interruption.guard():
        interruption.handle()
        assert signal.getsignal(signal.SIGTERM) == interruption._note
    assert signal.getsignal(signal.SIGTERM) == before and isinstance(interruption, Interruption)


def test_two_signals_at_once_save_and_end_with_status_4(options, homes):
    home, _ = homes
    process = start_long(options, home)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 4, text[-2000:]
    newest = max(int(path.stem) for path in (home / 'experiments/tiny/training_states').iterdir())
    assert f'saved at iteration {newest}' in text


def test_a_process_with_idle_workers_can_end():
    """Workers ignore the signal with which Python ends them."""
    code = (
        'import torch, basicsr_unlearn\nfrom basicsr.data import build_dataloader\n'
        'data = torch.utils.data.TensorDataset(torch.zeros(64, 1))\n'
        "opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 2}\n"
        'loader = build_dataloader(data, opt, 0, seed=1)\n'
        'kept = iter(loader)\nnext(kept)\nraise SystemExit(5)'
    )
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, '-c', code], env=environment, timeout=60).returncode == 5


def test_what_was_written_last_is_kept(tmp_path):
    """A run that went back from 500 to 100 has saved 200: that is the newest state."""
    models, states = tmp_path / 'models', tmp_path / 'states'
    for folder in (models, states):
        folder.mkdir()
    for age, number in enumerate((200, 500, 400, 100)):
        for path in (models / f'net_g_{number}.pth', states / f'{number}.state'):
            torch.save({}, path)
            os.utime(path, (1000 - age, 1000 - age))
    torch.save({}, models / 'net_g_latest.pth')
    remove_old(models, states, 2)
    assert sorted(os.listdir(states)) == ['200.state', '500.state']
    assert sorted(os.listdir(models)) == ['net_g_200.pth', 'net_g_500.pth', 'net_g_latest.pth']
    remove_old(models, states, None)
    assert len(os.listdir(states)) == 2
