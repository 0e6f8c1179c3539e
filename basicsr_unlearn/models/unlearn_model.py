"""The BasicSR model that unlearns: it runs a method, watches its effect, stops by rule and reports."""

import time
from collections import OrderedDict
from contextlib import nullcontext
from functools import partial
from os import path as osp

import torch

from basicsr.utils.registry import MODEL_REGISTRY
from basicsr_unlearn import manifest
from basicsr_unlearn.atomic import atomic_save
from basicsr_unlearn.errors import Diverged, InputError
from basicsr_unlearn.interruption import REPORT, interruption
from basicsr_unlearn.methods import build_method
from basicsr_unlearn.models import random_states
from basicsr_unlearn.models.divergence import Divergence, has_finite_weights
from basicsr_unlearn.models.reporter import Reporter
from basicsr_unlearn.models.restoration_model import RestorationModel
from basicsr_unlearn.models.run import Run
from basicsr_unlearn.models.stop_rule import Probes, StopRule
from basicsr_unlearn.models.tensorboard import log_probes
from basicsr_unlearn.stop_options import stop_options


@MODEL_REGISTRY.register()
class UnlearnModel(RestorationModel):
    """Unlearning as a BasicSR training run.

    Before iteration 1 it measures every validation set with the original (and the oracle, if given). Then it trains
    with the method of `train: method:`, looks at fixed probes every `train: stop: every:` iterations, and ends by
    the first rule that applies. It leaves the best state by that rule, not the last one:
    `models/net_g_latest.pth`, `unlearn_summary.json` and `.md`, and the same table at the end of the log.

    Args:
        opt (dict): The option tree; options/README.md is the reference.

    Raises:
        InputError: Unknown options, weights that do not fit.
        Diverged: A value is not finite, or gradients explode; raised after the last good weights are saved.
        SystemExit: Status 0 when a rule ends the run before `total_iter`, 4 after a signal; raised after saving.
    """

    def init_training_settings(self):
        train = self.opt['train']
        self.net_g.train()
        self.run = Run(self)
        self.method = build_method(train['method'], self.run)
        chosen = {id(parameter) for parameter in self.method.trainable(self.run.net)}
        for parameter in self.run.net.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        if self.opt['dist']:
            self.net_g = self.model_to_device(self.run.net)  # its wrapper must know which parameters stand still
        self.setup_optimizers()
        self.setup_schedulers()
        self.stop = stop_options(train)
        self.divergence = Divergence(self.stop.gradient_limit)
        self.reporter = Reporter(self.opt, self.run)
        self.beside_weights = {'history': self.reporter.history}  # as far as its requests are finished
        self.budget = (self.stop.max_cost_share or float('inf')) * (manifest.oracle_cost(self.opt) or 1)
        self.rule = self.probes = self.clock = self.stopped_by = self.reason = self.random = None
        self.seconds, self.spent, self.price, self.finished = 0.0, 0.0, 0.0, False
        self.remedy = 'Lower train: optim_g: lr or bound the loss.'

    def begin(self):
        """Measure what to compare with, cut the probes and set the method up; once, before the first step."""
        if not self.reporter.before:
            self.reporter.measure_before()
        self.clock = time.time()
        self.probes = Probes(self.run, self.stop)
        if self.rule is None:
            probes = self.probes.measure(self.run.net)
            self.rule = StopRule(self.stop, self.probes.points(), probes, self.method.repairs)
            if self.rule.judge(0, probes, self._copy_weights) == 'diverged':
                raise InputError('path: pretrain_network_g: what it makes of the training pairs is not finite.')
            self._log_probes(0, probes)
            if 'heldout' in probes and self.rule.gap(probes) <= 0:
                self.run.logger.warning('No forget pair is known by heart: held-out pairs are restored as well.')
            self.method.setup()
        elif len(self.random) > self.opt['rank']:  # resumed, perhaps by more processes than there were
            random_states.restore(self.random[self.opt['rank']])
        interruption.patient = True

    def feed_data(self, data):
        """Take a training batch as ForgetRetainPairedDataset makes it, or a validation pair (`lq`, `gt`)."""
        if 'lq' in data:
            super().feed_data(data)
            return
        self.data = data

    def optimize_parameters(self, current_iter):
        if self.clock is None:
            self.begin()
        before = self.run.cost
        losses = self._gradients()
        interrupted = self._reduce(losses, before)
        self.reason = self.divergence.judge(self.log_dict)
        if self.reason is None:
            if losses:
                self.optimizer_g.step()
            try:
                self.method.edit_weights()
                self._look(current_iter)
            except Diverged as fault:
                self.reason, self.remedy = fault.args
        now = time.time()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        self._tick(self.opt['train']['total_iter'] if self.stopped_by or self.reason else current_iter)
        if self.stopped_by or self.reason:
            self._end(current_iter)
        if interrupted:
            self._save_and_leave(current_iter)

    def _gradients(self):
        """Fill the gradients in; return the losses and `grad_norm`, nothing for a step that only edits weights."""
        self.optimizer_g.zero_grad(set_to_none=True)
        losses = self.method.losses(self.run.to_batch(self.data, self.method.uses_retain))
        if not losses:
            return {}
        sum(losses.values()).backward()
        self.method.edit_gradients()
        gradients = [p.grad for p in self.run.net.parameters() if p.grad is not None]
        return {**losses, 'grad_norm': torch.nn.utils.get_total_norm(gradients)}

    def _reduce(self, losses, before):
        """Average the losses over all processes; return whether to leave. One message: so they end together."""
        values = [value.detach().double().mean() for value in losses.values()]
        rest = [self.run.cost, self.run.cost - before, interruption.asked]
        rest = torch.tensor(rest, dtype=torch.float64, device=self.device)
        *values, self.spent, self.price, asked = self.run.total(torch.stack([*values, *rest])).tolist()
        self.log_dict = OrderedDict(zip(losses, [value / self.opt['world_size'] for value in values], strict=True))
        return asked > 0

    def _look(self, iteration):
        """Measure the probes when it is time, and let the rule judge them."""
        spent = self.spent + self.price + self.probes.price > self.budget  # with another step and the last look
        last = iteration >= self.opt['train']['total_iter'] or self.method.done or spent
        if iteration % self.stop.every and not last:
            return
        self._check_weights()
        if self.reason:
            return
        probes = self.probes.measure(self.run.net)
        self.stopped_by = self.rule.judge(iteration, probes, self._copy_weights)
        if self.stopped_by == 'diverged':
            self.reason = 'a probe is not finite'
        if self.stopped_by is None and (self.method.done or spent):
            self.stopped_by = 'method' if self.method.done else 'max_cost_share'
        self._log_probes(iteration, probes)

    def _check_weights(self):
        if self.run.total(float(not has_finite_weights(self.run.net))):
            self.reason = 'a weight is not finite'

    def _log_probes(self, iteration, probes):
        self.run.logger.info(f'Probes @ {iteration} iter: {self.rule.words(probes)}')
        log_probes(iteration, probes, self.get_current_learning_rate()[0])

    def _end(self, iteration):
        """Finish the run before `total_iter`, and end `train_pipeline` on every process."""
        if self.reason:
            self.stopped_by, self.reason = 'diverged', f'{self.reason} at iteration {iteration}'
        kept = self.finish(iteration)
        if self.reason:
            raise Diverged(f'{self.reason}. The weights of iteration {kept} are saved. {self.remedy}')
        raise SystemExit(0)

    def finish(self, iteration):
        """Go back to the state to keep, save it, measure it and report; return the iteration of that state."""
        kept = self.rule.keep()
        self.run.net.load_state_dict(kept['weights'])
        if kept['iter'] != iteration:
            self.run.logger.warning(
                f'Stopped at iteration {iteration} by {self.reason or self.stopped_by}; back to the weights of '
                f'iteration {kept["iter"]}.'
            )
        self.method.export(self.run.net)
        self.save_network(self.net_g, 'net_g', -1)
        facts = {'iterations': iteration, 'kept_iteration': kept['iter'], 'seconds': round(self.seconds, 2)}
        facts.update(stopped_by=self.stopped_by, reason=self.reason)
        with interruption.at_once(REPORT) if not self.opt['dist'] else nullcontext():
            save = partial(self.save_network, self.net_g, 'net_g', -1)
            self.reporter.report(self.run.net, self.run.total(self.run.cost), facts, save)
        self.finished = True
        return kept['iter']

    def _copy_weights(self):
        return {key: value.detach().clone() for key, value in self.run.net.state_dict().items()}

    def measure_set(self, dataloader, current_iter, tb_logger, save_img):
        """Measure one validation set; BasicSR's way when testing, and by role while unlearning."""
        if not self.is_train:
            super().measure_set(dataloader, current_iter, tb_logger, save_img)
        elif not self.finished:  # the final measurement is part of the report
            self.reporter.measure(dataloader.dataset.opt['name'], current_iter, self.run.net, save_img)

    def save(self, epoch, current_iter):
        """Save weights and state; at the end of the run (-1), finish it."""
        if current_iter != -1:
            self._check_weights()
            if self.reason:
                self._end(current_iter)
            super().save(epoch, current_iter)
        elif not self.finished:
            if self.clock is None:
                self.begin()
            self.stopped_by = self.stopped_by or 'total_iter'
            self.finish(int(self.opt['train']['total_iter']))

    def save_network(self, net, net_label, current_iter, param_key='params'):
        """Save weights that fit network_g, whatever the method has added to it."""
        if self.opt['rank'] == 0:
            super().save_network(self.method.plain(self.run.net), net_label, current_iter, param_key)

    def save_training_state(self, epoch, current_iter):
        """Save what resume needs: BasicSR's state, and what method, rules, report and generators know."""
        cost, random = self.run.total(self.run.cost), self.run.gather_objects(random_states.collect())
        self.run.skipped.gather()
        if self.opt['rank'] > 0:
            return
        state = {
            'epoch': epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            'unlearn': {
                'type': self.opt['train']['method']['type'],
                'method': self.method.state_dict(),
                'rule': self.rule.state_dict(),
                'divergence': self.divergence.state_dict(),
                'before': self.reporter.before,
                'skipped': self.run.skipped.entries,
                'cost': cost,  # of all processes
                'seconds': self.seconds,
                'random': random,  # of each process
            },
        }
        atomic_save(state, osp.join(self.opt['path']['training_states'], f'{current_iter}.state'))

    def resume_training(self, resume_state):
        super().resume_training(resume_state)
        state = resume_state['unlearn']
        self.method.load_state_dict(state['method'])
        self.rule = StopRule(self.stop, {'input': 0.0, 'heldout': 0.0}, {}, self.method.repairs)
        self.rule.load_state_dict(state['rule'])
        self.divergence.load_state_dict(state['divergence'])
        self.reporter.before, self.random = state['before'], state['random']
        self.run.skipped.collect(state['skipped'])
        self.run.cost, self.seconds = state['cost'] / self.opt['world_size'], state['seconds']
