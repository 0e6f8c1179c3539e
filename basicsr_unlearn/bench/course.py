"""The course of a benchmark: tune every row on val, screen all rows on test, attack the best ones in full.

The attack is that of the task: relearning of a degradation (relearning.py), membership of single pairs (pairs.py).
"""

import inspect

from basicsr.data import build_dataset
from basicsr_unlearn import checkpoint, unlearn_job
from basicsr_unlearn.audits import subjects
from basicsr_unlearn.audits.membership import restore_pairs
from basicsr_unlearn.bench import leaderboard, pairs, relearning, short_oracle
from basicsr_unlearn.bench.options import Bench
from basicsr_unlearn.bench.settings import run_name
from basicsr_unlearn.methods import method_class
from basicsr_unlearn.pool import Pool
from basicsr_unlearn.run_tree import complete

KINDS = {
    'unlearn': unlearn_job.unlearn,
    'measure': subjects.measure,
    'attack': subjects.attack,
    'restore_pairs': restore_pairs,
}


def run(path, workers=None, plan_only=False, make_oracle=None):
    """Run a benchmark, or go on with it; return the exit status.

    Args:
        path (str): Its option file.
        workers (int): Processes. Default: one for each GPU, without a GPU one for each core.
        plan_only (bool): Print the plan and end.
        make_oracle (float): Train a short oracle first, for this share of the original's training cost.

    Raises:
        InputError: One line that names the option, the value and the remedy.
    """
    bench = Bench(path)
    if make_oracle is not None and not plan_only:
        short_oracle.make(bench, make_oracle)
    pool = Pool(bench.folder, KINDS, workers)
    course = Course(bench, pool)
    print(course.plan())
    if plan_only:
        return 0
    with pool:
        course.tune()
        course.screen()
        course.final()
    return 0


class Course:
    """The stages, each from the results of the one before.

    Args:
        bench (Bench): The options.
        pool (Pool): Does the work.
    """

    def __init__(self, bench, pool):
        self.bench, self.options, self.pool = bench, bench.options, pool
        self.weights = bench.references()
        self.opt = complete(bench.tree(bench.rows[0], 0, self.options.seeds[0]))
        self.runs = {}  # {(row, trial, seed): what the run gave}
        self.chosen = {row: 0 for row in bench.rows}  # trial
        single = bench.membership is not None
        self.attacks, self.table = (
            (pairs.attacks, pairs.PairTable) if single else (relearning.attacks, relearning.RelearnTable)
        )

    def tune(self):
        """Run every trial with the first seed and choose the best of each row, by the screening attack on val."""
        first = self.options.seeds[0]
        trials = [(row, trial) for row in self.bench.rows for trial in range(self.bench.trials)]
        self._unlearn([(row, trial, first) for row, trial in trials], 'unlearning')
        if self.bench.trials == 1:
            return
        nets = [*self.weights, *(run_name(row, trial, first) for row, trial in trials)]
        numbers = self._look(nets, 'val', self.bench.screening, 'tuning on val')
        for row in self.bench.rows:
            found = [numbers.row(row, [run_name(row, trial, first)]) for trial in range(self.bench.trials)]
            self.chosen[row] = min(range(self.bench.trials), key=lambda trial: found[trial]['shortfall'])

    def screen(self):
        """Measure and attack the chosen trial of every row on test."""
        first = self.options.seeds[0]
        rows = {row: [run_name(row, self.chosen[row], first)] for row in self.bench.rows}
        numbers = self._look(
            [*self.weights, *sum(rows.values(), [])], 'test', self.bench.screening, 'screening on test'
        )
        self.screening = self._table(numbers, rows)
        leaderboard.write(self.bench, {'screening': self.screening})

    def final(self):
        """Run the best rows with all seeds and attack them in full."""
        ranked = [entry['row'] for entry in self.screening['rows']]
        best = [row for row in ranked if row in self.bench.rows][: self.options.finalists]
        self._unlearn([(row, self.chosen[row], seed) for row in best for seed in self.options.seeds], 'more seeds')
        rows = {row: [run_name(row, self.chosen[row], seed) for seed in self.options.seeds] for row in best}
        numbers = self._look([*self.weights, *sum(rows.values(), [])], 'test', self.bench.full, 'full attack on test')
        tables = {'screening': self.screening, 'final': self._table(numbers, rows)}
        print(f'Written: {leaderboard.write(self.bench, tables)}.')

    def _table(self, numbers, rows):
        entries = [numbers.row(row, nets, self._runs_of(nets)) for row, nets in rows.items()]
        entries = [{**entry, **self._facts(entry['row'])} for entry in entries]
        return {
            'references': [numbers.row(name, [name]) for name in self.weights],
            'rows': sorted(entries, key=lambda entry: (entry['shortfall'], entry['cost_share'] or 0)),
            'attacks': numbers.attacks(),
        }

    def _facts(self, row):
        trial = self.chosen[row]
        share = self.options.rows[row].get('budget', self.options.budget)
        return {'retain_data': self.bench.needs_retain(row), 'budget': share, 'chosen': self.bench.searches[row][trial]}

    def _runs_of(self, nets):
        return [result for key, result in self.runs.items() if run_name(*key) in nets]

    def _unlearn(self, keys, title):
        jobs = {key: self._unlearn_job(*key) for key in keys}
        results = self.pool.run(list(jobs.values()), title)
        for key, job in jobs.items():
            found = results[job['key']]
            self.runs[key] = {**found, 'cost_share': found['cost'] / self.bench.oracle_cost}

    def _unlearn_job(self, row, trial, seed):
        tree = self.bench.tree(row, trial, seed)
        cost = self.bench.oracle_cost * tree['train']['stop']['max_cost_share']
        folder = self.bench.absolute_folder
        job = {'kind': 'unlearn', 'key': f'unlearn-{tree["name"]}', 'tree': tree, 'folder': folder, 'cost': cost}
        code, section = [], tree['train']['method']
        while section:  # then the host of SalUn
            method, section = method_class(section), section.get('host')
            if method.__module__.split('.')[0] != 'basicsr_unlearn':
                code.append(inspect.getsourcefile(method))
        return {**job, 'code': code} if code else job

    def _look(self, nets, split, stage, title):
        """Measure and attack networks; return the Table of it."""
        jobs = {}
        for net in nets:
            jobs[net, None] = self._measure_job(net, split, stage)
            jobs.update({(net, attack): job for attack, job in self.attacks(self, net, split, stage).items()})
        results = self.pool.run(list(jobs.values()), title)
        return self.table(self.bench.goals, {key: results[job['key']] for key, job in jobs.items()})

    def looking_job(self, net, split, images):
        """Return what every job has that looks at a network: options, sets, pixels, weights."""
        weights, sets = self._weights_of(net), self.options.sets[split]
        opt = {key: self.opt[key] for key in ('network_g', 'scale', 'rank', 'world_size', 'val')}
        train = {key: self.opt['datasets']['train'].get(key) for key in ('gt_size', 'use_hflip', 'use_rot')}
        opt['datasets'] = {'train': train}
        common = {'opt': opt, 'sets': sets, 'images': images, 'crop': self.options.crop, 'weights': weights}
        common.update(self.bench.how_to_load(net))
        return {**common, 'sha256': checkpoint.sha256(checkpoint.resolve(weights))}

    def _weights_of(self, net):
        if net in self.weights:
            return self.weights[net]
        return next(result['weights'] for key, result in self.runs.items() if run_name(*key) == net)

    def _measure_job(self, net, split, stage):
        job = self.looking_job(net, split, stage.images)
        key = f'measure-{net}-{split}-{stage.images or "all"}'
        return {**job, 'kind': 'measure', 'key': key, 'cost': self.cost_of_sets(split, stage.images)}

    def cost_of_sets(self, split, images, role=None):
        """Return the cost of one look at a split, in image-forward-equivalents."""
        patches = (self.options.crop / self.opt['datasets']['train']['gt_size']) ** 2
        sections = [s for s in self.options.sets[split].values() if role in (None, s['role'])]
        return patches * sum(self._count(split, section, images) for section in sections)

    def _count(self, split, section, images):
        key = split, section['role'], str(section)
        if key not in self.bench.counts:
            dataset = build_dataset({**section, 'name': 'count', 'phase': 'val', 'scale': 1, 'manual_seed': 0})
            self.bench.counts[key] = len(subjects.Crops(dataset, None, 1))
        return min(images or self.bench.counts[key], self.bench.counts[key])

    def plan(self):
        """Return what will be done and about how long it takes, for people."""
        options, bench = self.options, self.bench
        rows, trials, nets = len(bench.rows), bench.trials, len(self.weights)
        unlearned = sum(
            self._unlearn_job(row, trial, options.seeds[0])['cost'] for row in bench.rows for trial in range(trials)
        )
        more = options.finalists * (len(options.seeds) - 1) * options.budget * bench.oracle_cost
        tuning = 0 if trials == 1 else (rows * trials + nets) * self._cost_of_look('val', bench.screening)
        screening = (rows + nets) * self._cost_of_look('test', bench.screening)
        final = (options.finalists * len(options.seeds) + nets) * self._cost_of_look('test', bench.full)
        second = subjects.second(self.opt, self.pool.gpus) / self.pool.workers / 3600
        parts = [
            f'{rows} rows, {trials} trials each, tried alike: {unlearned * second:.1f} h at most',
            f'tuning on val: {tuning * second:.1f} h',
            f'screening on test: {screening * second:.1f} h',
            f'{options.finalists} finalists, {len(options.seeds)} seeds, {self._words(bench.full)}: '
            f'{(final + more) * second:.1f} h',
        ]
        lines = [f'Plan of {bench.folder} with {self.pool.workers} processes:', *(f'  {part}' for part in parts)]
        total = (unlearned + more + tuning + screening + final) * second
        return '\n'.join([*lines, f'  about {total:.1f} h in all, less what is done already.', bench.claims()])

    def _words(self, stage):
        if self.bench.membership is not None:
            return 'the membership attack on each net'
        return f'{len(stage.attacks())} attacks of {stage.steps} steps on each net'

    def _cost_of_look(self, split, stage):
        attacks = self.attacks(self, next(iter(self.weights)), split, stage)
        return self.cost_of_sets(split, stage.images) + sum(job['cost'] for job in attacks.values())
