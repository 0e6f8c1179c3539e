"""Three requests to one network, as options/chain has them: what each takes away stays away."""

import json
import os
import subprocess
import sys
from os import path as osp

import pytest

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
RUNS = ('1_haze', '2_pairs', '3_noise')


@pytest.mark.slow
def test_three_requests(tmp_path):
    (tmp_path / 'options').symlink_to(osp.join(ROOT, 'options'))
    for name in RUNS:
        command = [sys.executable, '-m', 'basicsr_unlearn', 'train', '-opt', f'options/chain/{name}.yml']
        environment = {**os.environ, 'PYTHONPATH': ROOT, 'OMP_NUM_THREADS': '1'}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    summary = json.loads((tmp_path / 'experiments/chain_3_noise/unlearn_summary.json').read_text())
    requests = summary['history']
    assert [(entry['name'], entry['task'], entry['method']) for entry in requests] == [
        ('chain_1_haze', 'degradation', 'IdentityTarget'),
        ('chain_2_pairs', 'instance', 'MirrorTarget'),
        ('chain_3_noise', 'degradation', 'IdentityTarget'),
    ]
    assert requests[1]['forget']['scenes'] == [0, 40] and requests[1]['forget']['what'] == 'drawn scenes'
    roles = {entry['name']: entry['role'] for entry in requests[2]['sets']}
    assert roles == {'haze': 'forgotten', 'pairs': 'forgotten', 'rain': 'retain', 'noise': 'forget'}
    states = {one['name']: [] for one in summary['sets']}
    for request in requests:
        for one in request['sets']:
            states[one['name']].append(one['psnr'])
    haze, pairs, rain, noise = (states[name] for name in ('haze', 'pairs', 'rain', 'noise'))
    assert haze[0]['original'] - haze[0]['input'] > 3  # removed at first, then gone, and gone it stays
    assert all(abs(state['unlearned'] - state['input']) < 0.3 for state in haze)
    assert pairs[0]['unlearned'] - rain[0]['unlearned'] > 5  # known by heart until the second request
    assert all(abs(pairs[n]['unlearned'] - rain[n]['unlearned']) < 0.5 for n in (1, 2))
    assert noise[1]['unlearned'] - noise[1]['input'] > 3 and abs(noise[2]['unlearned'] - noise[2]['input']) < 0.3
    assert all(abs(state['unlearned'] - rain[0]['original']) < 0.4 for state in rain)
    assert summary['came_back'] == []
