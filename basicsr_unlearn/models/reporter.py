"""Measures the validation sets of a run and writes its table: before, during and after unlearning."""

from datetime import datetime, timezone
from functools import cached_property
from os import path as osp

from basicsr.data import build_dataset
from basicsr_unlearn import __version__, history, leftovers, manifest
from basicsr_unlearn.models import summary, tensorboard
from basicsr_unlearn.models.dry_run import peak_memory
from basicsr_unlearn.models.evaluation import Evaluator
from basicsr_unlearn.options import is_private

PICTURES = 2  # per set, in TensorBoard


class Reporter:
    """Everything that an unlearning run tells about the reported sets.

    Args:
        opt (dict): The whole option tree.
        run (Run): The net and the frozen nets to compare it with.
    """

    def __init__(self, opt, run):
        self.opt, self.run = opt, run
        self.evaluator = Evaluator(opt, run.device)
        self.history = history.of(opt)
        self.before = {}  # {set: {metric: {input, original, oracle}}}
        self.sets = {}  # {set: (dataset, role)}
        for key, section in opt['datasets'].items():
            if key.split('_')[0] == 'val':
                self.sets[section['name']] = (build_dataset(section), section['role'])
        for sentence in history.unmeasured(self.history, {name: role for name, (_, role) in self.sets.items()}):
            run.logger.warning(sentence)

    @cached_property
    def forgotten(self):
        """The names of the sets that show forgotten images; looked for when it is first asked, as it takes seconds."""
        return leftovers.forgotten_sets(self.opt)

    @property
    def hidden(self):
        """The names of the sets whose pictures stay out of TensorBoard and off the disk."""
        return self.forgotten if is_private(self.opt) else []

    def measure_before(self):
        """Measure the input, the original and, if given, the oracle on every set."""
        nets = {'input': None, 'original': self.run.original}
        if self.opt['path'].get('pretrain_network_oracle'):
            nets['oracle'] = self.run.load('oracle')
        for name, (dataset, role) in self.sets.items():
            self.before[name] = self.evaluator.measure(nets, dataset, f'{name}: before')
            self._log(0, name, role, {metric: values['original'] for metric, values in self.before[name].items()})

    def measure(self, name, iteration, net, save_img=False):
        """Measure the current net on one set and log the values; return `{metric: value}`."""
        dataset, role = self.sets[name]
        save_to = self._picture_path(name, iteration) if save_img and name not in self.hidden else None
        found = self.evaluator.measure({'unlearned': net}, dataset, name, save_to)
        values = {metric: value['unlearned'] for metric, value in found.items()}
        self._log(iteration, name, role, values)
        return values

    def _log(self, iteration, name, role, values):
        """Log in the form of BasicSR's validation lines."""
        lines = ''.join(f'\t # {metric}: {value:.4f}\n' for metric, value in values.items())
        self.run.logger.info(f'Validation {name} ({role}) @ {iteration} iter\n{lines}')
        oracle = {metric: known.get('oracle') for metric, known in self.before[name].items()}
        tensorboard.log_set(iteration, name, role, values, oracle)

    def _picture_path(self, set_name, iteration):
        """Return the rule for the files of `val: save_img`: visualization/IMAGE/SET_IMAGE_ITER.png."""
        folder = self.opt['path']['visualization']
        return lambda name: osp.join(folder, name, f'{set_name}_{name}_{iteration}.png')

    def report(self, net, cost, facts, save):
        """Measure the final net, log pictures and the table, add to the history, and write the summary files.

        Args:
            net (nn.Module): The unlearned network.
            cost (float): Of all processes, in image-forward-equivalents.
            facts (dict): `iterations`, `kept_iteration`, `seconds`, `stopped_by` and `reason` of the summary.
            save (callable): Saves the net, when this run is part of the history.
        """
        sets, kept_iteration = [], facts['kept_iteration']
        save_img = (self.opt.get('val') or {}).get('save_img', False)
        for name, (dataset, _) in self.sets.items():
            sets.append(self._entry(name, self.measure(name, kept_iteration, net, save_img)))
            if self.opt['rank'] == 0 and name not in self.hidden:
                nets = {'original': self.run.original, 'unlearned': net}
                tensorboard.log_pictures(kept_iteration, name, self.evaluator.pictures(nets, dataset, PICTURES))
        self.run.skipped.gather()
        if self.opt['rank'] > 0:
            return
        history.judge(self.history, sets)
        for sentence in history.verdicts(sets, only_returned=True):
            self.run.logger.warning(sentence)
        tensorboard.flush()
        folder = self.opt['path']['experiments_root']
        method = self.opt['train']['method']
        oracle_cost, skipped = manifest.oracle_cost(self.opt), self.run.skipped.names()
        result = {
            'version': __version__,
            'name': self.opt['name'],
            'finished': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            'method': method['type'],
            'task': method.get('task', 'degradation'),
            **facts,
            'memory': round(peak_memory(self.run.device) / 2**20, 1),
            'cost': round(cost, 1),
            'cost_share': cost / oracle_cost if oracle_cost else None,
            'metrics': {metric.name: metric.entry for metric in self.evaluator.metrics},
            'skipped': {'count': len(skipped), 'files': skipped},
            'sets': sets,
            'came_back': history.came_back(sets),
            'leftovers': leftovers.inside(osp.dirname(osp.dirname(folder)), self.opt['name'], self.forgotten)
            + leftovers.outside(self.opt),
        }
        self.history.append(history.entry(self.opt, result, self.run.train_set.forget))
        save()
        result['history'] = history.brief(self.history)
        summary.write_summary(result, folder)
        self.run.logger.info(
            f'Written to {osp.relpath(folder)}: models/net_g_latest.pth, unlearn_summary.json, '
            f'unlearn_summary.md\n\n{summary.to_markdown(result)}'
        )

    def _entry(self, name, after):
        """Return what the summary says of one set, of which `after` are the values of the unlearned network."""
        dataset, role = self.sets[name]
        shows, images = name in self.forgotten, self.evaluator.count(dataset)
        entry = {'name': name, 'role': role, 'shows_forgotten': shows, 'images': images}
        for metric, known in self.before[name].items():
            known = {**known, 'unlearned': after[metric]}
            entry[metric] = {column: known.get(column) for column in summary.COLUMNS}
        return entry
