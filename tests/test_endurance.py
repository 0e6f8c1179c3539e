import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(__file__))


def script(name, *arguments):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': ROOT}
    command = [sys.executable, f'{ROOT}/scripts/{name}.py', *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return [line.split('|') for line in done.stdout.splitlines() if line.startswith('|')]


@pytest.mark.slow
def test_memory_files_and_threads_do_not_grow():
    *_, first, last = script('endurance', '--iterations', '20000')
    assert 'iteration 500 ' in first[1] and 'iteration 20000 ' in last[1]


@pytest.mark.slow
def test_with_workers():
    script('endurance', '--iterations', '4000', '--workers', '2')


@pytest.mark.slow
@pytest.mark.parametrize('method', ['DeepForget', 'InstanceWise'])
def test_six_kills(method):
    *_, row = script('kill_and_resume', '--method', method, '--kills', '6', '--iterations', '100')
    assert [cell.strip() for cell in row[1:3]] == [method, '6'] and row[-2].strip() == 'yes'
