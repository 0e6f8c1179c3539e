"""Kill a small unlearning run again and again, and show that nothing is lost.

    python scripts/kill_and_resume.py --method DeepForget --kills 30

The same run is made twice: once undisturbed, and once with its processes killed (SIGKILL) at random moments, a third
of them while a file is being saved, and started again with `--auto_resume`. After every kill each file of the run must
be readable. At the end weights, table and cost must be those of the undisturbed run, bit by bit. Exit status 1 if not.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from glob import glob

import lmdb
import numpy as np
import small_run
import torch
from tqdm import tqdm

import basicsr_unlearn
from basicsr_unlearn.archs.promptir_arch import PromptIR
from basicsr_unlearn.models.summary import markdown_table

NET = {'type': 'PromptIR', 'dim': 8, 'num_blocks': [1, 1, 1, 1], 'num_refinement_blocks': 1, 'prompt_sizes': [4, 4, 4]}
METHODS = {
    'NegGrad': {},
    'DeepForget': {'relearn_steps': 7},
    'InstanceWise': {'craft': 'cache', 'cache_images': 200},
    'Scrub': {},
}
PHASES = ('start-up', 'before iteration 1', 'training', 'saving', 'report')
ROOT = 'experiments/run'
SAVED = ('.pth', '.state')
PACKAGE = os.path.dirname(os.path.dirname(basicsr_unlearn.__file__))


class Job:
    """A started run, with all its processes in a group of their own."""

    def __init__(self, home):
        self.root, self.log = f'{home}/{ROOT}', f'{home}/output.txt'
        self.before = self.files()
        command = [sys.executable, '-m', 'basicsr_unlearn', 'train', '-opt', '../options.yml', '--auto_resume']
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': PACKAGE}
        with open(self.log, 'w') as log:
            self.process = subprocess.Popen(
                command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def files(self):
        """Return the saved files and those being saved, each with the time of its last change."""
        found = set()
        for path in glob(f'{self.root}/**', recursive=True):
            if path.endswith(('.tmp', '.pth', '.state', '.json', '.md')):
                with suppress(FileNotFoundError):
                    found.add((path, os.stat(path).st_mtime_ns))
        return found

    def wait(self, moment=lambda: False, seconds=600.0):
        """Wait until `moment()` is true, the run has ended or the time is over."""
        end = time.time() + seconds
        while time.time() < end and self.process.poll() is None and not moment():
            time.sleep(0.001)

    def says(self, text):
        """Return whether the run has logged a text."""
        with open(self.log, errors='replace') as log:
            return text in log.read()

    def wait_for_saving(self):
        """Wait until the next file is being saved or has been just now."""
        known = self.files()
        self.wait(lambda: self.files() - known)

    def kill(self):
        """Kill all processes; return the phase that they were in, None where the run had ended by itself."""
        if self.process.poll() is not None:
            return None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        fresh = {os.path.basename(path) for path, _ in self.files() - self.before}
        weights, states = ({n.split('.')[0].removeprefix('net_g_') for n in fresh if n.endswith(e)} for e in SAVED)
        if any(name.endswith('.tmp') for name in fresh) or weights - states - {'latest'}:
            return 'saving'
        if self.says('End of training'):
            return 'report'
        if self.says('Resuming training') or self.says('[epoch:'):
            return 'training'
        return 'before iteration 1' if self.says('Start training from') else 'start-up'


def unreadable(home):
    """Return `[file: fault]` of everything that a run has left under a final name, archived folders included."""
    faults = []
    for path in glob(f'{home}/{ROOT}*/**', recursive=True):
        try:
            if path.endswith(SAVED):
                torch.load(path, map_location='cpu', weights_only=True)
            elif path.endswith('.json'):
                read_json(path)
            elif path.endswith('unlearn_summary.md') and not open(path).read().endswith('\n'):
                raise ValueError('it ends in the middle of a line')
            elif path.endswith('data.mdb'):
                with lmdb.open(os.path.dirname(path), readonly=True, lock=False) as store, store.begin() as found:
                    if len({len(content) for name, content in found.cursor() if name != b'cost'} - {0}) > 1:
                        raise ValueError('its examples are of several sizes')
        except Exception as error:  # a damaged file may make anything of its reader
            faults.append(f'{path}: {type(error).__name__}: {error}')
    return faults


def read_json(path):
    with open(path) as file:
        return json.load(file)


def differences(first, second):
    """Return in what two finished runs differ."""
    weights = [torch.load(f'{home}/{ROOT}/models/net_g_latest.pth')['params'] for home in (first, second)]
    summaries = [read_json(f'{home}/{ROOT}/unlearn_summary.json') for home in (first, second)]
    found = [key for key, value in weights[0].items() if not torch.equal(value, weights[1][key])]
    return found + [key for key in ('sets', 'cost', 'iterations') if summaries[0][key] != summaries[1][key]]


def moments(kills):
    """Return the kinds of moments: a tenth in the set-up, a third saving, a tenth in the report, and others."""
    ends, saving = max(1, kills // 10), kills // 3
    others = [random.choice(['start-up', 'training']) for _ in range(kills - saving - 2 * ends)]
    kinds = ['saving'] * saving + others
    random.shuffle(kinds)
    return ['set-up'] * ends + kinds + ['report'] * ends


def kill_once(job, kind, seconds):
    """Wait for a moment of this kind and kill; return the phase."""
    begin = {'start-up': '', 'report': 'End of training'}.get(kind, 'Start training from')
    job.wait(lambda: job.says(begin))
    if kind == 'saving':
        job.wait(seconds=random.uniform(0, 2))
        job.wait_for_saving()
    job.wait(seconds=random.uniform(0, seconds[kind]))
    return job.kill()


def undisturbed(home):
    """Make the whole run; return how many seconds each kind of moment lasts."""
    job, moments = Job(home), [time.time()]
    for text in ('Start training from', '[epoch:', 'End of training', None):
        job.wait(lambda text=text: text and job.says(text))
        moments.append(time.time())
    check_ended(job)
    startup, setup, _, report = np.diff(moments)
    return {'start-up': startup, 'set-up': setup, 'training': 4.0, 'saving': 0.02, 'report': report}


def check_ended(job):
    """Exit unless a run has ended well."""
    if job.process.wait() != 0:
        with open(job.log) as log:
            sys.exit(f'exit status {job.process.returncode}\n{log.read()[-3000:]}')


def torment(home, kills, seconds):
    """Start, kill and check; then let the run end; return the kills of each phase and the unreadable files."""
    seen, faults = Counter(), []
    with tqdm(moments(kills), 'kills', unit='kill') as bar:
        for kind in bar:
            job = Job(home)
            phase = kill_once(job, kind, seconds)
            if phase is None:
                check_ended(job)
            seen[phase or 'ended before'] += 1
            faults += unreadable(home)
            bar.set_postfix_str(', '.join(f'{name} {number}' for name, number in seen.items()))
    job = Job(home)
    check_ended(job)
    return seen, faults + unreadable(home)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--method', choices=METHODS, default='DeepForget')
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--iterations', type=int, default=400)
    parser.add_argument('--frequency', type=int, default=1, help='save_checkpoint_freq; divides --iterations')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        train = {'gt_size': 32, 'num_worker_per_gpu': 1}
        method = {'type': args.method, **METHODS[args.method]}
        logger = {'print_freq': 1, 'save_checkpoint_freq': args.frequency}
        net = {key: value for key, value in NET.items() if key != 'type'}
        small_run.write(folder, lambda: PromptIR(**net), NET, train, method, args.iterations, logger)
        homes = [f'{folder}/{name}' for name in ('undisturbed', 'killed')]
        for home in homes:
            os.mkdir(home)
        seconds = undisturbed(homes[0])
        seen, faults = torment(homes[1], args.kills, seconds)
        unequal = differences(*homes)
        left = len(glob(f'{homes[1]}/{ROOT}*/**/*.tmp', recursive=True))
    kills = sum(seen[phase] for phase in PHASES)
    rows = [
        ('method', 'kills', *PHASES, 'starts', '.tmp left', 'unreadable', 'equal bits'),
        (
            args.method,
            kills,
            *(seen[phase] for phase in PHASES),
            args.kills + 1,
            left,
            len(faults),
            'no' if unequal else 'yes',
        ),
    ]
    print('\n'.join(markdown_table([[str(cell) for cell in row] for row in rows])))
    print('\n'.join(faults + [f'differs from the undisturbed run: {", ".join(unequal[:5])}'] * bool(unequal)), end='')
    sys.exit(1 if faults or unequal or kills < args.kills else 0)


if __name__ == '__main__':
    main()
