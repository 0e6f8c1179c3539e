"""Generated bad input: every case ends in success or in one line with status 2, and nothing is created."""

import contextlib
import dataclasses
import io
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cache
from os import path as osp

import pytest
import yaml
from conftest import NET
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import basicsr.train
from basicsr_unlearn import checkpoint, cli, compat, option_tables, preflight_network
from basicsr_unlearn.methods import METHOD_REGISTRY
from basicsr_unlearn.metrics.chosen import ChosenMetric
from basicsr_unlearn.stop_options import StopOptions

LONGEST = 420  # characters of a message, with what stands before it
SECONDS = 60  # of one case, after which it hangs
DUMPER = getattr(yaml, 'CSafeDumper', yaml.SafeDumper)
NUMBERS = [0, 1, -1, 3, 0.5, -0.5, 1e-4, 1e30, -1e308, 2**31, 2**63, 10**40, 10**9, float('nan'), float('inf')]
WORDS = [
    '',
    ' ',
    '~',
    'None',
    'x',
    '1e-4',
    'true',
    '..',
    '../../x',
    '/etc/passwd',
    '.hidden',
    '~nobody',
    'a/b',
    'ä ö €',
]
WORDS += ['\x00', '\x1b[31m', 'a\nb', '\u202e', '🎈', '${NO_SUCH}', '${', '{0.__class__}', '{:>999999999}']
WORDS += [
    'UnlearnModel',
    'RestorationModel',
    'SRModel',
    'lmdb',
    'L1Loss',
    'AscentLoss',
    '!!python/name:os.system',
    '*a',
]
WORDS += ['x' * 5000]
PIECES = [':', '\n', ' ', '\t', '[', '{', '}', '&a ', '*a', '- ', '? ', '!!set ', '<<: ', '"', '%', '\x00', '#']
FILES = ['x.png', '0009.PNG', '0001.jpg', '0001_2.png', ' .png', '.png', 'ä.tif', '\udcff.bmp', 'a\nb.png']
KEYS = ['type', 'name', 'lr', 'sources', 'phase', 'gt_size', 'experiments_root', 'log', 'planned_iter', 'root_path']


def settings_for(examples):
    """Return the same cases every time; with FUZZ_EXAMPLES in the environment, so many others."""
    more = os.environ.get('FUZZ_EXAMPLES')
    return settings(
        max_examples=int(more or examples),
        derandomize=not more,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def value_from(rng, depth=0):
    """Draw a value that an option file may hold and a program may not expect."""
    kind = rng.randrange(7 if depth < 3 else 4)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 3:
        return rng.choice(WORDS)
    if kind < 4:
        return rng.choice([None, True, False, [], {}])
    if kind < 5:
        return [value_from(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind < 6:
        return {key_from(rng): value_from(rng, depth + 1) for _ in range(rng.randrange(3))}
    value = value_from(rng, 3)
    for _ in range(rng.choice([2, 45, 60])):
        value = {'x': value} if rng.randrange(2) else [value]
    return value


def key_from(rng):
    tables = [table for table in vars(option_tables).values() if isinstance(table, dict)]
    return rng.choice([*KEYS, *rng.choice(tables), rng.choice(WORDS)])


def near(rng, value):
    """Draw a value of the same kind."""
    if isinstance(value, bool) or value is None:
        return rng.choice([True, False, None])
    if isinstance(value, (int, float)):
        return rng.choice([*NUMBERS, -value, value * 2, float(value), str(value)])
    return rng.choice([rng.choice(WORDS), key_from(rng)]) if isinstance(value, str) else value_from(rng)


def places(tree):
    """Return every (section or list, key) of a tree."""
    found = []
    for key, value in list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)):
        found.append((tree, key))
        if isinstance(value, (dict, list)):
            found += places(value)
    return found


PROXIES = {'scenes': 4, 'degradation': {'type': 'rain'}}
NEEDED = {'CovarianceNavigation': {'proxies': PROXIES}}  # options without a default


def vary(tree, rng):
    """Choose another method, optimizer, scheduler or kind of run, its options written out."""
    name = rng.choice([name for name, _ in METHOD_REGISTRY])
    usual = METHOD_REGISTRY.get(name).Options(**NEEDED.get(name, {}))
    tree['train']['method'] = {'type': name, **dataclasses.asdict(usual)}
    tree['train']['optim_g'] = {'type': rng.choice(compat.OPTIMIZERS), 'lr': 1e-4, 'weight_decay': 0.0}
    cosine = {'type': 'CosineAnnealingRestartLR', 'periods': [2, 2], 'restart_weights': [1, 1], 'eta_min': 1e-6}
    tree['train']['scheduler'] = rng.choice([cosine, tree['train']['scheduler']])
    tree['train']['stop'] = dataclasses.asdict(StopOptions())
    tree['datasets']['train']['retain']['more'] = {
        'scenes': 4,
        'degradation': {'type': 'rain', 'density': [0.01, 0.02], 'angle': 3},
        'weight': 2,
        'target': 'gt',
    }
    tree['datasets']['val_photo'] = {
        'name': 'photo',
        'type': 'PhotographDataset',
        'role': 'retain',
        'degradation': {'type': 'haze', 'beta': 1.0, 'airlight': [0.8, 0.9]},
    }
    tree['val']['metrics'] = {'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': False}}
    if not rng.randrange(3):
        train = tree['datasets']['train']
        tree['model_type'] = 'RestorationModel'
        train['type'], train['sources'] = 'MixedPairedDataset', {'haze': train.pop('forget'), **train.pop('retain')}
        for source in train['sources'].values():
            source.pop('target', None)
        for key in ('method', 'stop'):
            del tree['train'][key]
        tree['train']['pixel_opt'] = {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}


def mutate(tree, rng):
    """Spoil a tree in one to three places."""
    tree['train']['scheduler']['milestones'], tree['val']['val_freq'] = [100], 100
    if rng.randrange(2):
        vary(tree, rng)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        known = places(tree)
        if not known:
            return
        section, key = rng.choice(known)
        how = rng.randrange(6)
        if how < 2:
            section[key] = near(rng, section[key]) if how else value_from(rng)
        elif how == 2:
            del section[key]
        elif how == 3 and isinstance(section, dict):
            section[key_from(rng)] = section.pop(key) if rng.randrange(2) else value_from(rng)
        elif how == 4:
            section[key] = [section[key]] if rng.randrange(2) else {'x': section[key]}
        else:
            other, name = rng.choice(known)
            if name in other if isinstance(other, dict) else name < len(other):
                section[key] = deepcopy(other[name])


def text_from(rng, tree):
    """Write a tree as YAML and damage the text."""
    text = list(yaml.dump(tree, Dumper=DUMPER))
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(text))
        piece = rng.choice(PIECES)
        text[at : at + rng.randrange(6)] = list(piece)
    return ''.join(text)


def forced_from(rng, tree):
    """Return the arguments of a --force_yml."""
    entries = []
    for _ in range(rng.randrange(1, 4)):
        names, section = [], tree
        while isinstance(section, dict) and section and (not names or rng.randrange(3)):
            names.append(rng.choice(list(section)))
            section = section[names[-1]]
        value = value_from(rng)
        text = str(value) if rng.randrange(2) else yaml.dump(value, Dumper=DUMPER, default_flow_style=True).strip()
        entries.append(':'.join(names) + rng.choice(['=', '=', '=', '', ':x=', ':0=', '==']) + text[:300])
    return ['--force_yml', *(entry.replace('\x00', '') for entry in entries)]


def spoil_folder(rng, folder):
    """Spoil folders of images."""
    root = rng.choice([folder / 'lq', folder / 'gt'])
    for _ in range(rng.randrange(1, 4)):
        names = sorted(os.listdir(root))
        path = root / rng.choice(names) if names else root / '0000.png'
        new = root / rng.choice(FILES)
        how = rng.randrange(10)
        if how == 0 and path.is_file():
            path.write_bytes(bytes(rng.randrange(256) for _ in range(rng.choice([0, 1, 40]))))
        elif how == 1 and path.is_file():
            path.write_bytes(path.read_bytes()[: rng.randrange(60)])
        elif how == 2 and path.is_file():
            path.write_bytes(path.read_bytes()[:900])
        elif how == 3 and path.is_file():
            path.unlink()
        elif how == 4 and not osp.lexists(new):
            new.mkdir()
        elif how == 5 and not osp.lexists(new):
            new.symlink_to(rng.choice([root, root / 'nowhere.png', new]))
        elif how == 6 and not osp.lexists(new):
            os.mkfifo(new)
        elif how == 7 and path.is_file() and not osp.lexists(new):
            path.rename(new)
        elif how == 8:
            for name in names:
                (root / 'part').mkdir(exist_ok=True)
                (root / name).rename(root / 'part' / name) if name != 'part' else None
            (root / 'loop').symlink_to(root) if not osp.lexists(root / 'loop') else None
        elif how == 9 and path.is_file():
            data = bytearray(path.read_bytes())
            for _ in range(5):
                data[rng.randrange(len(data))] = rng.randrange(256)
            path.write_bytes(data)


class Stage:
    """An empty folder, a valid tree and a `basicsr train` that ends where BasicSR would begin to write."""

    def __init__(self, folder, tree):
        self.folder, self.tree, self.home = folder, tree, folder / 'home'
        self.home.mkdir()

    def fresh(self):
        return deepcopy(self.tree)

    def run(self, text, arguments=()):
        """Run a case; return whether it would have trained."""
        option_file, errors = self.folder / 'options.yml', io.StringIO()
        option_file.write_text(text, encoding='utf-8', errors='surrogatepass')
        signal.signal(signal.SIGALRM, hangs)
        signal.alarm(SECONDS)
        try:
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                status = cli.main(['train', '-opt', str(option_file), *arguments])
        finally:
            signal.alarm(0)
        check(status, errors.getvalue())
        assert os.listdir(self.home) == [] and sorted(os.listdir(self.folder)) == ['home', 'options.yml', 'pairs']
        return status == 0


class Hangs(BaseException):
    """No `except Exception` of the package may take it for an error of its input."""


def hangs(number, frame):
    raise Hangs(f'still busy after {SECONDS} s')


def check(status, errors):
    assert status in (0, 2), errors
    if status == 2:
        lines = errors.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith('basicsr: error: ') and len(lines[0]) <= LONGEST, errors


@pytest.fixture
def stage(options, tmp_path, monkeypatch):
    build, judge, load = preflight_network.build_network_g, ChosenMetric.try_out, checkpoint.load_into
    small, passed = cache(lambda: build(NET)), set()

    def build_once(section):
        return small() if section == NET else build(section)

    def try_once(metric):
        if str(metric.entry) not in passed:
            judge(metric)
            passed.add(str(metric.entry))

    def load_once(net, *arguments):
        if net is not small() or arguments not in passed:
            load(net, *arguments)
            passed.add(arguments)

    def train_pipeline(root):
        basicsr.train.parse_options(root, is_train=True)

    monkeypatch.setattr(preflight_network, 'build_network_g', build_once)
    monkeypatch.setattr(checkpoint, 'load_into', load_once)
    monkeypatch.setattr(ChosenMetric, 'try_out', try_once)
    monkeypatch.setattr(cli, 'entry_points', lambda group: ())  # this package is loaded
    monkeypatch.setattr(basicsr.train, 'train_pipeline', train_pipeline)
    own = {f'dataroot_{kind}': str(tmp_path / 'pairs' / kind) for kind in ('lq', 'gt')}
    for key, folder in own.items():
        shutil.copytree(options['datasets']['train']['forget'][key], folder)
    options['datasets']['train']['forget'] = own
    options['datasets']['val_haze'].update(own)
    stage = Stage(tmp_path, options)
    monkeypatch.chdir(stage.home)
    logging.getLogger('basicsr').handlers.clear()
    return stage


def test_the_unspoilt_tree_passes(stage):
    assert stage.run(yaml.dump(stage.tree, Dumper=DUMPER))


@settings_for(1100)
@given(rng=st.randoms(use_true_random=False))
def test_trees(stage, rng):
    tree = stage.fresh()
    mutate(tree, rng)
    stage.run(yaml.dump(tree, Dumper=DUMPER))


@settings_for(400)
@given(rng=st.randoms(use_true_random=False))
def test_texts(stage, rng):
    stage.run(text_from(rng, stage.tree))


@settings_for(200)
@given(text=st.text())
def test_any_text(stage, text):
    stage.run(text)


@settings_for(300)
@given(rng=st.randoms(use_true_random=False))
def test_forced_values(stage, rng):
    stage.run(yaml.dump(stage.tree, Dumper=DUMPER), forced_from(rng, stage.tree))


@settings_for(300)
@given(rng=st.randoms(use_true_random=False))
def test_folders(stage, rng):
    own = stage.folder / 'pairs'
    backup = stage.folder.with_name(f'{stage.folder.name}_whole')
    if not backup.exists():
        shutil.copytree(own, backup)
    try:
        spoil_folder(rng, own)
        stage.run(yaml.dump(stage.tree, Dumper=DUMPER))
    finally:
        shutil.rmtree(own)
        shutil.copytree(backup, own)


def start(folder, text, arguments):
    """Run a case as a process of its own; return what is wrong with it, or None."""
    (folder / 'options.yml').write_text(text, encoding='utf-8', errors='surrogatepass')
    home = folder / 'home'
    home.mkdir()
    command = [sys.executable, '-m', 'basicsr_unlearn', 'train', '-opt', str(folder / 'options.yml'), '--debug']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, *arguments], cwd=home, env=environment, capture_output=True, text=True, timeout=500
    )
    last = done.stderr.strip().splitlines()[-1:]
    told = last and last[0].startswith('basicsr: error: ') and len(last[0]) <= LONGEST
    fits = {0: True, 2: told and not os.listdir(home), 3: told and 'diverged' in last[0]}.get(done.returncode, False)
    return None if fits and 'Traceback' not in done.stderr + done.stdout else (text, arguments, done)


@pytest.mark.slow
def test_processes(stage, tmp_path_factory, monkeypatch):
    """Fifty runs from the command line to the end: a dry run, one line with status 2, or divergence."""
    monkeypatch.setattr(sys.modules[__name__], 'NUMBERS', [0, 1, -1, 3, 0.5])
    cases = []
    for seed in range(int(os.environ.get('FUZZ_EXAMPLES', 0)) or 50, 0, -1):
        rng = random.Random(seed + 1000 * ('FUZZ_EXAMPLES' in os.environ) * random.randrange(10**6))
        folder, tree, arguments = tmp_path_factory.mktemp('case'), stage.fresh(), []
        own = {f'dataroot_{kind}': str(folder / 'pairs' / kind) for kind in ('lq', 'gt')}
        shutil.copytree(stage.folder / 'pairs', folder / 'pairs')
        tree['datasets']['train']['forget'] = own
        tree['datasets']['val_haze'].update(own)
        if seed % 5 == 0:
            spoil_folder(rng, folder / 'pairs')
        elif seed % 5 == 1:
            arguments = forced_from(rng, tree)
        else:
            mutate(tree, rng)
        cases.append((folder, yaml.dump(tree, Dumper=DUMPER), arguments))
    with ThreadPoolExecutor(2) as pool:
        wrong = [found for found in pool.map(start, *zip(*cases, strict=True)) if found]
    assert not wrong, f'{len(wrong)} of {len(cases)}: {wrong[0]}'
