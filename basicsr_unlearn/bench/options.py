"""The option file of a benchmark, read and checked."""

from copy import deepcopy
from os import path as osp

from basicsr_unlearn import manifest, option_file, recipes
from basicsr_unlearn.bench import short_oracle
from basicsr_unlearn.bench.checks import check
from basicsr_unlearn.bench.settings import AttackData, BenchOptions, Goals, MembershipData, PairGoals, Stage, run_name
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods import method_class
from basicsr_unlearn.options import check_keys, check_name, expand_paths, from_section, task_of
from basicsr_unlearn.run_tree import absolute

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
        for key in ('name', 'base', 'rows', 'sets'):
            if not tree.get(key):
                raise InputError(f'-opt {path}: {key}: is missing.')
        expand_paths('-opt', tree)
        self.options = from_section(BenchOptions, tree, '-opt')
        check_name('name', self.options.name)
        self.home = osp.dirname(osp.abspath(path))
        self.folder = osp.join('bench', self.options.name)
        self.absolute_folder = osp.abspath(self.folder)
        self.counts = {}  # images of the sets, counted once
        self.screening = from_section(Stage, self.options.screening, 'screening')
        self.full = from_section(Stage, self.options.full, 'full')
        self.base = self._read_base()
        single = task_of(self.base) == 'instance'
        self.goals = from_section(PairGoals if single else Goals, self.options.goals, 'goals')
        self.attack, self.membership = self._attacker(single)
        self.searches = {name: self._search(name, row) for name, row in self.options.rows.items()}
        check(self)

    def _attacker(self, single):
        """Return AttackData and None, or None and MembershipData for single pairs."""
        task, given = task_of(self.base), {'attack': self.options.attack, 'membership': self.options.membership}
        wanted, other = ('membership', 'attack') if single else ('attack', 'membership')
        if not given[wanted] or given[other]:
            raise InputError(f'{wanted}: a benchmark of task: {task} needs this section, and no section {other}.')
        if not single:
            return from_section(AttackData, given['attack'], 'attack'), None
        found = from_section(MembershipData, given['membership'], 'membership')
        if set(found.heldout or {}) != {'val', 'test'}:
            raise InputError('membership: heldout: must have two sources of pairs, val and test.')
        return None, found

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
        check_keys(f'rows: {name}', row, ('preset', 'set', 'search', 'budget', 'note'))
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

    def find_oracle(self):
        """Find out what there is to compare with, and what a whole oracle costs."""
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
