"""The BasicSR model that unlearns: it runs a method, watches its effect, stops by rule and reports."""

import math
import signal
import time
from collections import OrderedDict
from os import path as osp

import torch
from torch import distributed

from basicsr.utils.registry import MODEL_REGISTRY
from basicsr_unlearn import checkpoint
from basicsr_unlearn.errors import Diverged, InputError
from basicsr_unlearn.methods import build_method
from basicsr_unlearn.models.reporter import Reporter
from basicsr_unlearn.models.restoration_model import RestorationModel
from basicsr_unlearn.models.run import Run
from basicsr_unlearn.models.stop_rule import Probes, StopRule
from basicsr_unlearn.models.tensorboard import log_probes
from basicsr_unlearn.options import stop_options


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
        InputError: `ema_decay`, unknown options, weights that do not fit.
        Diverged: A loss, gradient or probe is not finite; raised after the last good weights are saved.
        SystemExit: Status 0 when a rule ends the run before `total_iter`, 4 after a signal; raised after saving.
    """

    def init_training_settings(self):
        train = self.opt['train']
        if train.get('ema_decay'):
            raise InputError('train: ema_decay: an average over the run has not forgotten. Remove it or set 0.')
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
        self.reporter = Reporter(self.opt, self.run)
        self.oracle_cost = self.reporter.oracle_cost()
        self.rule = self.probes = self.clock = self.stopped_by = None
        self.seconds, self.interrupted, self.finished = 0.0, False, False

    def begin(self):
        """Measure what to compare with, cut the probes and set the method up; once, before the first step."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)
        if not self.reporter.before:
            self.reporter.measure_before()
        self.clock = time.time()
        self.probes = Probes(self.run.train_set, self.stop.probes, self.device)
        self.run.skipped.collect(self.probes.skipped)
        if self.rule is None:
            probes = self._measure_probes()
            self.rule = StopRule(self.stop, self.probes.input_psnr(), probes, self.method.repairs)
            self.rule.judge(0, probes, self._copy_weights)
            self._log_probes(0, probes)
            self.method.setup()

    def feed_data(self, data):
        """Take a training batch as ForgetRetainPairedDataset makes it, or a validation pair (`lq`, `gt`)."""
        if 'lq' in data:
            super().feed_data(data)
            return
        self.data = data

    def optimize_parameters(self, current_iter):
        if self.clock is None:
            self.begin()
        losses = self._gradients()
        self.log_dict = self.reduce_loss_dict(OrderedDict(losses))
        finite = all(map(math.isfinite, self.log_dict.values()))
        diverged, interrupted = self._any_process(not finite, self.interrupted)
        if diverged:
            self.stopped_by = 'diverged'
        else:
            if losses:
                self.optimizer_g.step()
            self.method.edit_weights()
            self._look(current_iter)
        now = time.time()
        self.seconds, self.clock = self.seconds + now - self.clock, now
        self._tick(self.opt['train']['total_iter'] if self.stopped_by else current_iter)
        if self.stopped_by:
            self.finish(current_iter)
            self._leave()
        if interrupted:
            self.save(0, current_iter)
            self.run.logger.warning(f'Interrupted and saved at iteration {current_iter}. Go on with --auto_resume.')
            raise SystemExit(4)

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

    def _look(self, iteration):
        """Measure the probes when it is time, and let the rule judge them."""
        spent = self._spent()
        last = iteration >= self.opt['train']['total_iter'] or self.method.done or spent
        if iteration % self.stop.every and not last:
            return
        probes = self._measure_probes()
        self.stopped_by = self.rule.judge(iteration, probes, self._copy_weights)
        if self.stopped_by is None and self.method.done:
            self.stopped_by = 'method'
        if self.stopped_by is None and spent:
            self.stopped_by = 'max_cost_share'
        self._log_probes(iteration, probes)

    def _spent(self):
        """Return whether `stop: max_cost_share` is reached, on every process alike."""
        share = self.stop.max_cost_share
        return share is not None and self._total_cost() >= share * self.oracle_cost

    def _total_cost(self):
        """Return what all processes have spent together; they spend unlike sums."""
        if not self.opt['dist']:
            return self.run.cost
        total = torch.tensor(self.run.cost, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return total.item()

    def _measure_probes(self):
        self.run.cost += self.probes.images
        probes = [self.probes.measure(self.run.net)]
        if self.opt['dist']:  # one opinion for all processes
            distributed.broadcast_object_list(probes, src=0)
        return probes[0]

    def _log_probes(self, iteration, probes):
        goal = '' if self.rule.level is None else f' (goal {self.rule.level:.2f})'
        kept = ', '.join(
            f'{name} {value - self.rule.original[name]:+.2f}' for name, value in probes.items() if name != 'forget'
        )
        self.run.logger.info(
            f'Probes @ {iteration} iter: forget {probes["forget"]:.2f} dB{goal}; {kept or "no retain"}'
        )
        log_probes(iteration, probes, self.get_current_learning_rate()[0])

    def finish(self, iteration):
        """Go back to the state to keep, save it, measure it and report."""
        kept = self.rule.keep()
        self.run.net.load_state_dict(kept['weights'])
        if kept['iter'] != iteration:
            self.run.logger.warning(
                f'Stopped at iteration {iteration} by {self.stopped_by}; back to the weights of '
                f'iteration {kept["iter"]}.'
            )
        self.method.export(self.run.net)
        self.save_network(self.net_g, 'net_g', -1)
        cost = self._total_cost()
        self.reporter.report(self.run.net, kept['iter'], iteration, self.seconds, self.stopped_by, cost)
        self.finished = True

    def _leave(self):
        """End `train_pipeline` before `total_iter`, on every process."""
        if self.stopped_by == 'diverged':
            raise Diverged(
                'a loss, gradient or probe is not finite. The last good weights are saved; lower the learning '
                'rate or bound the loss.'
            )
        raise SystemExit(0)

    def _note_signal(self, number, frame):
        """Ask for a stop after the current iteration; a second signal ends at once."""
        signal.signal(number, signal.SIG_DFL)
        self.interrupted = True

    def _any_process(self, *flags):
        """Return for each flag whether it is set on any process."""
        if not self.opt['dist']:
            return flags
        together = torch.tensor(flags, dtype=torch.int32, device=self.device)
        distributed.all_reduce(together, distributed.ReduceOp.MAX)
        return [bool(flag) for flag in together.tolist()]

    def _copy_weights(self):
        return {key: value.detach().clone() for key, value in self.run.net.state_dict().items()}

    def validation(self, dataloader, current_iter, tb_logger, save_img=False):
        """Measure one validation set; BasicSR's way when testing, and by role while unlearning."""
        if not self.is_train:
            super().validation(dataloader, current_iter, tb_logger, save_img)
        elif not self.finished:  # the final measurement is part of the report
            self.reporter.measure(dataloader.dataset.opt['name'], current_iter, self.run.net, save_img)

    def save(self, epoch, current_iter):
        """Save weights and state; at the end of the run (-1), finish it."""
        if current_iter != -1:
            super().save(epoch, current_iter)
            if self.opt['rank'] == 0:  # older files hold more of what is to be forgotten
                keep = self.opt['logger'].get('keep_last')
                checkpoint.remove_old(self.opt['path']['models'], 'net_g_', '.pth', keep)
                checkpoint.remove_old(self.opt['path']['training_states'], '', '.state', keep)
        elif not self.finished:
            if self.clock is None:
                self.begin()
            self.stopped_by = self.stopped_by or 'total_iter'
            self.finish(int(self.opt['train']['total_iter']))

    def save_training_state(self, epoch, current_iter):
        """Save what resume needs: BasicSR's state, and that of the method, the stop rule and the report."""
        cost = self._total_cost() / self.opt['world_size']
        self.run.skipped.gather()
        if self.opt['rank'] > 0:
            return
        state = {
            'epoch': epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            'unlearn': {
                'method': self.method.state_dict(),
                'rule': self.rule.state_dict(),
                'before': self.reporter.before,
                'skipped': self.run.skipped.entries,
                'cost': cost,  # the mean of the processes
                'seconds': self.seconds,
                'random': torch.get_rng_state(),
            },
        }
        checkpoint.atomic_save(state, osp.join(self.opt['path']['training_states'], f'{current_iter}.state'))

    def resume_training(self, resume_state):
        super().resume_training(resume_state)
        state = resume_state['unlearn']
        self.method.load_state_dict(state['method'])
        self.rule = StopRule(self.stop, 0.0, {}, self.method.repairs)
        self.rule.load_state_dict(state['rule'])
        self.reporter.before = state['before']
        self.run.skipped.collect(state.get('skipped', []))
        self.run.cost, self.seconds = state['cost'], state['seconds']
        torch.set_rng_state(state['random'].cpu())
