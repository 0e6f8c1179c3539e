"""What takes the published sizes: minutes on two cores."""

import json
import subprocess
import sys
from os import path as osp

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from basicsr_unlearn import checkpoint
from basicsr_unlearn.archs.promptir_arch import PromptIR
from basicsr_unlearn.atomic import atomic_save

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
RESTORE = """
import sys
from basicsr_unlearn.cli import main
status = main(sys.argv[1:])
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
sys.exit(status)
"""


@pytest.mark.slow
def test_a_large_photograph_through_promptir(tmp_path):
    """Tiles bound the memory (1500x2001 pixels take eight minutes and 2.9 GiB); 9x9; a file in the authors' layout."""
    torch.manual_seed(0)
    weights = PromptIR().state_dict()
    atomic_save({'params': weights}, tmp_path / 'w.pth')
    checkpoint.convert(str(tmp_path / 'w.pth'), str(tmp_path / 'model.ckpt'))
    (tmp_path / 'in').mkdir()
    rng = np.random.default_rng(0)
    for name, size in (('large', (509, 1001, 3)), ('tiny', (9, 9, 3))):
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(tmp_path / 'in' / f'{name}.png')
    tree = {
        'network_g': {'type': 'PromptIR'},
        'path': {'pretrain_network_g': str(tmp_path / 'model.ckpt')},
        'val': {'tile': 512, 'tile_overlap': 32},
        'num_gpu': 0,
    }
    (tmp_path / 'net.yml').write_text(yaml.safe_dump(tree))
    arguments = ['restore', '-i', tmp_path / 'in', '-o', tmp_path / 'out', '-opt', tmp_path / 'net.yml']
    done = subprocess.run([sys.executable, '-c', RESTORE, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    peak = int(done.stdout.split()[-1]) / 2**20
    print(f'peak memory {peak:.2f} GiB')
    assert peak < 3.5
    for name, size in (('large', (1001, 509)), ('tiny', (9, 9))):
        with Image.open(tmp_path / 'out' / f'{name}.png') as image:
            assert image.size == size and np.array(image).std() > 1


@pytest.mark.slow
def test_the_benchmark_of_networks_runs(tmp_path):
    options = {'width': 4, 'middle_blk_num': 1, 'enc_blk_nums': [1], 'dec_blk_nums': [1]}
    command = [sys.executable, osp.join(ROOT, 'scripts', 'benchmark_networks.py'), '--networks', 'NAFNet']
    command += ['--options', json.dumps(options), '--patch', '16', '--rounds', '1', '--json', str(tmp_path / 'rows')]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rows = json.loads((tmp_path / 'rows').read_text())
    assert [(row['what'], row['kind']) for row in rows[:2]] == [('forward', 'plain'), ('forward', 'ours')]
    assert all(row['seconds'] > 0 and row['peak_mib'] > 0 for row in rows) and rows[0]['faster'] == 1
    assert done.stdout.count('| NAFNet |') == 2
