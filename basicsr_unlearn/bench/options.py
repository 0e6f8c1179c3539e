"""The option file of a benchmark, read and checked."""

import json
import re
from copy import deepcopy
from os import path as osp

from basicsr_unlearn import manifest, option_file, option_tree, preflight, preflight_network, recipes
from basicsr_unlearn.bench import short_oracle
from basicsr_unlearn.bench.settings import AttackData, BenchOptions, Goals, Stage
from basicsr_unlearn.checkpoint import load_into
from basicsr_unlearn.data.sources import build_source
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import method_class
from basicsr_unlearn.network import build_network_g
from basicsr_unlearn.option_tables import ROLES
from basicsr_unlearn.options import check_choice, check_keys, check_name, expand_paths, from_section
from basicsr_unlearn.run_tree import absolute, complete

CLAIMS = {
    'full': 'Oracle: the recipe of the original without the forget data. Gap and relearn excess are against it.',
    'short': 'Oracle: trained for a share of the cost only. It has seen none of the forget data, so its forget level '
    'and its relearning mean something; what it retains is below a whole one.',
    'none': 'No oracle: the table shows what was forgotten and what was kept, not that a network equals one that never '
    'saw the data; relearn excess is not known. A short oracle: --make-oracle 0.1',
}


class Bench:
    """A benchmark: its options, and the option tree of every run.

    Args:
        path (str): The option file. Paths in it that exist as seen from the current directory stay; `base` and presets
            may also be beside the file.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """

    def __init__(self, path):
        tree = option_file.read(path, '-opt')
        for key in ('name', 'base', 'rows', 'attack', 'sets'):
            if not tree.get(key):
                raise InputError(f'-opt {path}: {key}: is missing.')
        expand_paths('-opt', tree)
        self.options = from_section(BenchOptions, tree, '-opt')
        check_name('name', self.options.name)
        self.home = osp.dirname(osp.abspath(path))
        self.folder = osp.join('bench', self.options.name)
        self.absolute_folder = osp.abspath(self.folder)
        self.counts = {}  # images of the sets, counted once
        self.goals = from_section(Goals, self.options.goals, 'goals')
        self.screening = from_section(Stage, self.options.screening, 'screening')
        self.full = from_section(Stage, self.options.full, 'full')
        self.attack = from_section(AttackData, self.options.attack, 'attack')
        self.base = self._read_base()
        self.searches = {name: self._search(name, row) for name, row in self.options.rows.items()}
        self._check()

    @property
    def rows(self):
        """The names of the rows."""
        return list(self.options.rows)

    @property
    def trials(self):
        """How many trials every row has."""
        return len(self.searches[self.rows[0]])

    def references(self):
        """Return the weights to compare with: `original`, and where there are such `oracle` and `oracle_2`."""
        path = self.base['path']
        oracle = path.get('pretrain_network_oracle')
        found = {'original': path['pretrain_network_g'], 'oracle': oracle, 'oracle_2': self.options.oracle_2}
        return {name: weights for name, weights in found.items() if weights}

    def how_to_load(self, net):
        """Return `param_key` and `strict` of a reference's weights, or of those of a run."""
        path = self.base['path']
        key = {'original': 'param_key_g', 'oracle': 'param_key_oracle', 'oracle_2': 'param_key_oracle'}.get(net)
        strict = path.get('strict_load_g', True) if net == 'original' else True
        return {'param_key': path.get(key) or 'params', 'strict': strict}

    def use_oracle(self, weights, cost, kind):
        """Compare with these weights; `cost` in image-forward-equivalents is that of a whole oracle."""
        self.base['path']['pretrain_network_oracle'] = weights
        self.base['train']['oracle_cost'] = cost
        self.kind_of_oracle = kind

    def claims(self):
        """Say what the oracle at hand allows one to claim."""
        return CLAIMS[self.kind_of_oracle]

    def _read_base(self):
        base = option_file.read(self._beside(self.options.base), 'base')
        for key in ('datasets', 'path', 'train', 'network_g', 'logger'):
            if not isinstance(base.get(key), dict):
                raise InputError(f'base: {self.options.base}: {key}: is missing.')
        for key, value in self.options.set.items():
            assign(base, key, value, 'set')
        base['datasets'] = {'train': base['datasets']['train']}  # measuring is the benchmark's own
        base['val'] = {**(base.get('val') or {}), 'val_freq': 10**9, 'save_img': False, **self.options.val}
        base['train'].setdefault('stop', {})
        base['logger'] = {**base['logger'], 'use_tb_logger': False, 'wandb': None}
        return absolute(base)

    def _beside(self, name):
        here = osp.join(self.home, name)
        return here if osp.isfile(here) else name

    def _search(self, name, row):
        """Return the trials of a row: assignments `{key: value}`, one for each trial."""
        check_keys(f'rows: {name}', row, ('preset', 'set', 'search', 'budget'))
        search = row.get('search') or self.options.search or {}
        lengths = {len(values) for values in search.values()}
        if len(lengths) > 1:
            raise InputError(f'rows: {name}: search: its lists must be of one length: the n-th values are one trial.')
        return [dict(zip(search, values, strict=True)) for values in zip(*search.values(), strict=True)] or [{}]

    def tree(self, row, trial, seed):
        """Return the option tree of one run."""
        section = self.options.rows[row]
        tree = deepcopy(self.base)
        if section.get('preset'):
            preset = section['preset']
            preset = self._beside(preset) if str(preset).endswith('.yml') else preset
            tree['train'] = recipes.merge(tree['train'], recipes.read_preset(preset, f'rows: {row}: preset'))
        for key, value in {**(section.get('set') or {}), **self.searches[row][trial]}.items():
            assign(tree, key, deepcopy(value), f'rows: {row}')
        share = section.get('budget', self.options.budget)
        tree['train']['stop']['max_cost_share'] = share
        return absolute({**tree, 'name': run_name(row, trial, seed), 'manual_seed': seed})

    def _check(self):
        if not 1 <= self.options.finalists <= len(self.rows):
            raise InputError(f'finalists: {self.options.finalists} must be 1 to {len(self.rows)}, the number of rows.')
        names = [run_name(row, 0, 0) for row in self.rows]
        if len(set(names)) < len(names):
            raise InputError(f'rows: the names {", ".join(self.rows)} must differ in letters and digits.')
        for option, stage in (('screening', self.screening), ('full', self.full)):
            stage.check(option, list(self.attack.scopes))
        if not self.options.seeds or not all(isinstance(seed, int) for seed in self.options.seeds):
            raise InputError(f'seeds: {self.options.seeds} must be a list of whole numbers, for example [0, 1, 2].')
        trials = {len(found) for found in self.searches.values()}
        if len(trials) > 1:
            counts = ', '.join(f'{name} {len(found)}' for name, found in self.searches.items())
            raise InputError(f'rows: every row must have as many trials as the others, not: {counts}.')
        self._find_oracle()
        self._check_rows()
        if self.options.oracle_2:
            net = build_network_g(self.base['network_g'])
            load_into(net, self.options.oracle_2, 'oracle_2', *self.how_to_load('oracle_2').values())
        self._check_sets()

    def _check_sets(self):
        """Check the sets that are measured and the attacker's data, pixels included."""
        check_keys('sets', self.options.sets, ('val', 'test'))
        sections = {}
        for split in ('val', 'test'):
            for name, section in (self.options.sets.get(split) or {}).items():
                option = f'sets: {split}: {name}'
                if not isinstance(section, dict):
                    raise InputError(f'{option}: must be a section of keys, not {section!r}.')
                check_choice(f'{option}: role', section.get('role'), ROLES)
                check_name(option, name)
                sections[option] = {**section, 'name': name, 'phase': 'val', 'scale': 1, 'manual_seed': 0}
            if not any(section['role'] == 'forget' for section in (self.options.sets.get(split) or {}).values()):
                raise InputError(f'sets: {split}: names no set with role: forget.')
        data = self.attack.data or {}
        option_tree.check_source('attack: data', data)
        build_source('attack: data', data)
        sections['attack'] = {
            **complete(self.base)['datasets']['train'],
            'type': 'MixedPairedDataset',
            'sources': {'data': data},
        }
        for key in ('forget', 'retain'):
            sections['attack'].pop(key, None)
        preflight.check_data(sections)

    def _check_rows(self):
        """Check every run; networks and data that several share are opened once."""
        seen = set()
        for row in self.rows:
            for trial in range(len(self.searches[row])):
                opt = complete(self.tree(row, trial, self.options.seeds[0]))
                data = json.dumps(opt['datasets'], sort_keys=True, default=str)
                net = json.dumps([opt['network_g'], opt['path'], opt['train']['method']], sort_keys=True, default=str)
                try:
                    preflight.check_options(opt)
                    if data not in seen:
                        preflight.check_data({f'datasets: {key}': part for key, part in opt['datasets'].items()})
                    if net not in seen:
                        preflight_network.check_network(opt)
                except InputError as error:
                    raise InputError(f'rows: {row}: {error}') from None
                seen.update((data, net))

    def _find_oracle(self):
        path, train = self.base['path'], self.base['train']
        short = osp.join(self.absolute_folder, 'short_oracle.safetensors')
        recorded = manifest.read_entry(short)
        known = {name: manifest.read_entry(file) or {} for name, file in self.references().items()}
        whole = train.get('oracle_cost') or known.get('oracle', {}).get('cost')
        if path.get('pretrain_network_oracle'):
            self.use_oracle(path['pretrain_network_oracle'], whole, 'full')
        elif recorded:
            self.use_oracle(short, recorded['whole_cost'], 'short')
            if recorded.get('recipe') != short_oracle.recipe(self, recorded['share']):
                print(f'{short} was trained on other data or with other options, and is not used.')
                self.use_oracle(None, recorded['whole_cost'], 'none')
        else:
            self.use_oracle(None, whole or known['original'].get('cost'), 'none')

    @property
    def oracle_cost(self):
        return self.base['train'].get('oracle_cost')

    def needs_retain(self, row):
        """Return whether a row is given retain data other than what is made from the forget set."""
        tree = self.tree(row, 0, 0)
        sources = tree['datasets']['train'].get('retain') or {}
        own = [source for source in sources.values() if source.get('from') != 'forget']
        return bool(own) and method_class(tree['train']['method']).uses_retain


def run_name(row, trial, seed):
    """Return the name of a run, fit for a file."""
    return f'{re.sub(r"[^A-Za-z0-9]+", "_", row)}-t{trial}-s{seed}'


def assign(tree, key, value, option):
    """Set `a:b:c` in an option tree.

    Raises:
        InputError: A section on the way is missing.
    """
    *sections, last = key.split(':')
    for name in sections:
        tree = tree.get(name)
        if not isinstance(tree, dict):
            raise InputError(f'{option}: {key}: there is no section {name} in the option tree.')
    tree[last] = value
