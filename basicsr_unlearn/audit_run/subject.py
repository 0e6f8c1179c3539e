"""What an audit looks at: the option file of a run with its section `audit`, and the weights."""

import glob
import json
from dataclasses import dataclass, replace
from functools import cached_property
from os import path as osp

from basicsr_unlearn import checkpoint, option_file, option_tree, preflight, preflight_data, preflight_network
from basicsr_unlearn.audit_options import QUICK, audit_options
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.network import build_network_g
from basicsr_unlearn.options import check_name, expand_paths, is_private, task_of
from basicsr_unlearn.run_tree import complete

SUMMARY = 'unlearn_summary.json'
TAKEN = ('jobs', 'toys', 'runs')  # in audits/, beside a folder for each audit
LATEST = osp.join('models', 'net_g_latest.pth')


@dataclass
class Depth:
    """How hard to look."""

    images: int  # of each validation set
    attack_images: int  # of each forget set, followed during an attack
    crop: int  # pixels at most, whatever the option file says
    steps: int  # of relearning
    attacks: int  # so many of the first ones; None: all
    members: int  # pairs of each kind in the membership attack, at most
    probes: int  # pairs for the linear probe
    hard_images: int  # of each retained set, attacked
    eps: tuple  # of that attack, grey levels of 255
    sigmas: tuple  # of noise, grey levels of 255


FULL = Depth(20, 8, 1024, 200, None, 1000, 400, 6, (1, 2, 4, 8, 16), (2, 4, 8, 16, 32))
BRIEF = Depth(6, 4, 128, 60, QUICK, 300, 200, 3, (2, 8), (4, 16))


class Subject:
    """An audit: its options, the networks, and where they came from.

    Args:
        path (str): Option file of the unlearning run.
        weights (str): The network to audit. Default: what the run has left.
        name (str): Of the audit. Default: that of the run, with `weights` their name.
        quick (bool): Look less hard. Default: False.
        forced (list[str]): Entries of `--force_yml`.

    Raises:
        InputError: One line that names the option, the value and the remedy; nothing is created.
    """

    def __init__(self, path, weights=None, name=None, quick=False, forced=()):
        self.path, self.quick = path, quick
        tree = option_file.read(path, '-opt', forced)
        option_tree.check_file(tree, f'-opt {path}', True)
        if tree['model_type'] != 'UnlearnModel':
            raise InputError(f'-opt {path}: model_type: {tree["model_type"]}: an audit needs that of an UnlearnModel.')
        expand_paths('audit', tree.get('audit') or {})
        self.opt, self.options = complete(tree), audit_options(tree.get('audit'))
        self.depth = self._depth()
        self.name = name or (tree['name'] if weights is None else osp.splitext(osp.basename(weights))[0])
        check_name('--name', self.name)
        if self.name in TAKEN:
            raise InputError(f'--name {self.name}: is a folder of all audits. Give another name.')
        self.folder = osp.join('audits', self.name)
        self.weights = weights or osp.join('experiments', tree['name'], LATEST)
        if weights is None and not osp.isfile(self.weights):
            raise InputError(
                f'-opt {path}: {self.weights}: no such file. Run basicsr train -opt {path} first, or name the network '
                'to audit with --weights.'
            )
        self.summary = self._read_summary()
        self.private, self.task = is_private(self.opt), task_of(self.opt)
        self._check()

    def _depth(self):
        own = {'images': self.options.images, 'steps': self.options.steps}
        return replace(BRIEF if self.quick else FULL, **{key: value for key, value in own.items() if value})

    @property
    def run_folder(self):
        """`experiments/NAME` of the run that left the weights; None where they lie in no finished run's folder."""
        folder = osp.dirname(osp.dirname(osp.abspath(self.weights)))
        return folder if osp.isfile(osp.join(folder, SUMMARY)) else None

    def _read_summary(self):
        if self.run_folder is None:
            return None
        with open(osp.join(self.run_folder, SUMMARY), encoding='utf-8') as stream:
            return json.load(stream)

    def run_options(self):
        """Return the file with the options of that run, which BasicSR has copied into its folder, or None."""
        files = sorted(glob.glob(osp.join(glob.escape(self.run_folder), '*.y*ml'))) if self.run_folder else []
        return files[0] if files else None

    @property
    def crop(self):
        """Pixels of the centre of every measured picture; at least those of a training patch."""
        return max(min(self.options.crop, self.depth.crop), self.patch)

    @property
    def patch(self):
        """Pixels of a training patch."""
        return self.opt['datasets']['train']['gt_size']

    @property
    def forget(self):
        """The forget set, a source."""
        return self.opt['datasets']['train']['forget']

    def sets(self, role=None):
        """Return `{name: section}` of the validation sets, or of those of one role."""
        found = {s['name']: s for key, s in self.opt['datasets'].items() if key.split('_')[0] == 'val'}
        return {name: section for name, section in found.items() if role in (None, section['role'])}

    @cached_property
    def nets(self):
        """`{name: {weights, param_key, strict, sha256}}` of `original`, `unlearned` and the oracles given."""
        path = self.opt['path']
        strict = path.get('strict_load_g', True)
        found = {
            'original': (path['pretrain_network_original'], path['param_key_original'], strict),
            'unlearned': (self.weights, 'params', True),
            'oracle': (path.get('pretrain_network_oracle'), path.get('param_key_oracle', 'params'), True),
            'oracle_2': (self.options.oracle_2, 'params', True),
        }
        return {name: _net(*facts) for name, facts in found.items() if facts[0]}

    def reference(self):
        """Return what says how difficult a pair is: `{weights, ...}`, or None: the degraded picture itself."""
        if self.options.reference:
            return _net(self.options.reference, 'params', True)
        return self.nets.get('oracle_2', self.nets.get('oracle'))

    @property
    def calibration(self):
        """The same in words."""
        oracle = 'a second oracle' if 'oracle_2' in self.nets else 'the oracle' if 'oracle' in self.nets else None
        return 'audit: reference' if self.options.reference else oracle or 'the degraded picture'

    def _check(self):
        preflight.check_options(self.opt)
        preflight_data.check_data({**self._data(), **{f'datasets: {k}': s for k, s in self.opt['datasets'].items()}})
        preflight_network.check_network(self.opt)
        for key, weights in (
            ('--weights', self.weights),
            ('audit: oracle_2', self.options.oracle_2),
            ('audit: reference', self.options.reference),
        ):
            if weights:
                checkpoint.load_into(build_network_g(self.opt['network_g']), weights, key)

    def _data(self):
        """Return the sources of the section `audit` as training sets, which is how their images are checked."""
        train, found = self.opt['datasets']['train'], {}
        for key in ('public', 'heldout'):
            section, option = getattr(self.options, key), f'audit: {key}'
            if section is not None:
                found[option] = preflight_data.as_training_set(option, section, train)
        return found


def _net(weights, param_key, strict):
    sha256 = checkpoint.sha256(checkpoint.resolve(weights))
    return {'weights': weights, 'param_key': param_key, 'strict': strict, 'sha256': sha256}
