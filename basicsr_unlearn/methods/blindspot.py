"""Learn from a teacher that is blind to the forget set, its attention maps included."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from basicsr_unlearn.methods.bad_teacher import BadTeacher, BadTeacherOptions
from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.taps import LEVELS, find_modules, tapped

TAPS = 'train: method: feature_layers'


@dataclass
class BlindspotOptions(BadTeacherOptions):
    attention_weight: float = 50.0  # factor of l_attention
    feature_layers: list = None  # patterns of whole module names to take attention from; ~: the encoder's levels
    bad_steps: int = 50  # training steps of the blind teacher on retain batches
    bad_lr: float = 1e-3  # its learning rate, Adam


@METHOD_REGISTRY.register()
class Blindspot(BadTeacher):
    """Minimise w_f [l(f(x_f), f_bad(x_f)) + 50 sum_l AT_l] + w_r l(f(x_r), y_r); f_bad saw retain images only.

    AT_l is the mean squared difference of the attention maps of f and f_bad at tap l: squared activations averaged over
    channels, flattened, of length one.
    Source: Tarun et al., Deep Regression Unlearning (ICML 2023): the loss, the factor 50, a teacher of the same
    architecture trained briefly (two epochs, Adam 0.01). Ours: a mean for each set instead of the share of forget
    samples in a mixed batch; the taps; steps and learning rate of the teacher, some per cent of the original's.
    """

    Options = BlindspotOptions
    needs_retain = True
    holds = 1.0  # the teacher

    def __init__(self, options, run):
        super().__init__(options, run)
        self.layers = self.modules(options, run.net)

    @classmethod
    def modules(cls, options, net):
        return find_modules(net, options.feature_layers, TAPS, LEVELS)

    def setup(self):
        teacher = self.run.fresh()
        optimizer = torch.optim.Adam([p for p in teacher.parameters() if p.requires_grad], self.options.bad_lr)
        for batch in self.run.batches(self.options.bad_steps * self.run.whole_batch, 'blind teacher'):
            self.run.cost += 3 * len(batch.retain_lq)
            optimizer.zero_grad()
            self.retain_loss(teacher(batch.retain_lq), batch.retain_gt).backward()
            self.run.average([weight.grad for weight in teacher.parameters() if weight.grad is not None])
            optimizer.step()
        optimizer.zero_grad()
        self.teacher = teacher.requires_grad_(False)

    def losses(self, batch):
        with tapped({name: self.teacher.get_submodule(name) for name in self.layers}, TAPS) as blind:
            taught = self.ask_teacher(batch.forget_lq)
        with tapped(self.layers, TAPS) as seen:
            forget, retain = self.restore_both(batch)
        attention = sum(
            F.mse_loss(attention_map(seen[name][: len(forget)]), attention_map(blind[name])) for name in self.layers
        )
        return {
            'l_forget': self.options.forget_weight * self.forget_loss(forget, taught),
            'l_attention': self.options.forget_weight * self.options.attention_weight * attention,
            **self.retain_term(retain, batch),
        }


def attention_map(feature):
    """Return (N, H * W) of length one from features (N, C, H, W)."""
    return F.normalize(feature.square().mean(1).flatten(1), dim=1)
