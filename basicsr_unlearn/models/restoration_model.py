"""A BasicSR model for restorers: SRModel that takes images of any size and reads any checkpoint safely."""

import json
from collections import OrderedDict
from functools import cached_property
from os import path as osp

import torch

from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from basicsr_unlearn.atomic import remove_half_written, remove_old
from basicsr_unlearn.checkpoint import load_into
from basicsr_unlearn.data.skipped import Skipped
from basicsr_unlearn.interruption import INTERRUPTED, interruption
from basicsr_unlearn.models.dry_run import DryRun
from basicsr_unlearn.models.evaluation import Evaluator
from basicsr_unlearn.models.inference import measuring, restore
from basicsr_unlearn.options import is_dry_run, tile_options


@MODEL_REGISTRY.register()
class RestorationModel(SRModel):
    """SRModel for training and testing all-in-one restorers.

    It differs in four ways: `test` takes images of any size (padding, and the tiles of `val: tile`), `load_network`
    reads .pth, .ckpt, .safetensors and `zoo:` files without running code from them, and validation hands every metric
    the images that it asks for (evaluation.py), each process its share. What validation logs, keeps and writes, and
    where, is BasicSR's. And `train: amp: bf16` trains under bfloat16 autocast, `train: compile: true` with a compiled
    network; measuring is always float32 and never compiled.
    """

    def model_to_device(self, net):
        if self.is_train and self.opt['train'].get('compile'):
            net.compile()  # in place: the keys of its state stay
        if self.device.type == 'cuda' and not self.opt['dist'] and torch.cuda.device_count() > 1:
            get_root_logger().info(f'One of {torch.cuda.device_count()} GPUs is used; torchrun uses all of them.')
        return super().model_to_device(net)

    def autocast(self):
        """Return the context of a training forward: bfloat16 autocast if `train: amp: bf16`, else nothing."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.opt['train'].get('amp') == 'bf16')

    def forward_for_training(self, images):
        """Send (N, 3, H, W) through network_g, under autocast if `train: amp` says so; float32 comes back."""
        with self.autocast():
            return self.net_g(images).float()

    @cached_property
    def skipped(self):
        """The training files that were left out (data/skipped.py)."""
        return Skipped(self.opt)

    def feed_data(self, data):
        for text in data.get('skipped', ()):
            self.skipped.collect(json.loads(text))
        super().feed_data(data)

    def optimize_parameters(self, current_iter):
        """Make one step with the losses of SRModel: `pixel_opt` and `perceptual_opt`."""
        self.optimizer_g.zero_grad(set_to_none=True)
        self.output = self.forward_for_training(self.lq)
        losses = OrderedDict()
        if self.cri_pix:
            losses['l_pix'] = self.cri_pix(self.output, self.gt)
        if self.cri_perceptual:
            found = zip(('l_percep', 'l_style'), self.cri_perceptual(self.output, self.gt), strict=True)
            losses.update((name, value) for name, value in found if value is not None)
        sum(losses.values()).backward()
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict(losses)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        self._tick(current_iter)
        interruption.patient = True
        self._leave_if_interrupted(current_iter)

    def _leave_if_interrupted(self, iteration):
        """After SIGTERM or SIGINT to any process: save, and end with status 4."""
        asked = torch.tensor(float(interruption.asked), device=self.device)
        if self.opt['dist']:
            torch.distributed.all_reduce(asked)
        if asked:
            self._save_and_leave(iteration)

    def _save_and_leave(self, iteration):
        self.save(interruption.epoch, iteration)
        if self.opt['dist']:  # a launcher ends the others as soon as one has left
            torch.distributed.barrier()
        get_root_logger().warning(f'Interrupted and saved at iteration {iteration}. Go on with --auto_resume.')
        raise SystemExit(INTERRUPTED)

    def validation(self, dataloader, current_iter, tb_logger, save_img=False):
        """Measure one validation set; while training, a signal ends it after saving what was trained."""
        if not self.is_train or self.opt['dist']:  # several processes must end together, after the next iteration
            self.measure_set(dataloader, current_iter, tb_logger, save_img)
            return
        try:
            with interruption.at_once('while validating.'):
                self.measure_set(dataloader, current_iter, tb_logger, save_img)
        except SystemExit:
            self._save_and_leave(current_iter)

    def measure_set(self, dataloader, current_iter, tb_logger, save_img):
        """Measure one validation set as SRModel does."""
        super().validation(dataloader, current_iter, tb_logger, save_img)

    def save(self, epoch, current_iter):
        """Save weights and state, and remove all but the newest `logger: keep_last` of them."""
        super().save(epoch, current_iter)
        keep = self.opt['logger'].get('keep_last')
        if self.opt['rank'] == 0 and current_iter != -1:  # older files hold more of what is to be forgotten
            remove_old(self.opt['path']['models'], self.opt['path']['training_states'], keep)

    def resume_training(self, resume_state):
        super().resume_training(resume_state)
        if self.opt['rank'] == 0:
            for key in ('models', 'training_states', 'experiments_root'):
                remove_half_written(self.opt['path'][key])

    def _tick(self, iteration):
        """In a debug run: time the iteration, and estimate the whole after the last."""
        if not is_dry_run(self.opt):
            return
        self.dry_run = getattr(self, 'dry_run', None) or DryRun(self.opt, self.device)
        self.dry_run.tick()
        if iteration >= self.opt['train']['total_iter']:
            self.dry_run.log()

    def test(self):
        net = self.get_bare_model(getattr(self, 'net_g_ema', self.net_g))
        with measuring(net):
            self.output = restore(net, self.lq, **tile_options(self.opt))

    def dist_validation(self, dataloader, current_iter, tb_logger, save_img):
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)  # the evaluator knows its share

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        name = dataloader.dataset.opt['name']
        net = self.get_bare_model(getattr(self, 'net_g_ema', self.net_g))
        evaluator = Evaluator(self.opt, self.device, self.opt['val'].get('metrics') or {})
        save_to = (lambda image: self._picture_path(name, image, current_iter)) if save_img else None
        found = evaluator.measure({'result': net}, dataloader.dataset, name, save_to)
        if not found:
            return
        self.metric_results = {metric: values['result'] for metric, values in found.items()}
        self._initialize_best_metric_results(name)
        for metric in evaluator.metrics:
            record = self.best_metric_results[name][metric.name]
            if record['iter'] == -1 and record['better'] != metric.better:  # BasicSR knows only what the file says
                record.update(better=metric.better, val=-record['val'])
            self._update_best_metric_result(name, metric.name, self.metric_results[metric.name], current_iter)
        self._log_validation_metric_values(current_iter, name, tb_logger)

    def _picture_path(self, dataset_name, name, iteration):
        """Return BasicSR's path of a validation picture."""
        folder = self.opt['path']['visualization']
        if self.opt['is_train']:
            return osp.join(folder, name, f'{name}_{iteration}.png')
        return osp.join(folder, dataset_name, f'{name}_{self.opt["val"].get("suffix") or self.opt["name"]}.png')

    def load_network(self, net, load_path, strict=True, param_key='params'):
        fallback = net is getattr(self, 'net_g_ema', None)  # BasicSR asks for params_ema, which a file need not have
        loaded = load_into(self.get_bare_model(net), load_path, 'path: pretrain_network', param_key, strict, fallback)
        get_root_logger().info(f'Loaded {load_path}: {loaded}.')
