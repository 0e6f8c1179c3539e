"""A student that disobeys its teacher on the forget set and obeys it on the retain set, in turns."""

from dataclasses import dataclass

import torch

from basicsr.losses import build_loss
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY, UnlearnMethod
from basicsr_unlearn.methods.forget_target import unseen
from basicsr_unlearn.methods.gradient_ascent import AscentOptions


@dataclass
class ScrubOptions(AscentOptions):
    alpha: float = 0.5  # factor of the distance to the original on retain images, l_distill
    retain_weight: float = 1.0  # factor of l_retain, gamma in the paper
    max_steps: int = 10  # iterations of a max phase
    min_steps: int = 20  # iterations of a min phase
    max_phases: int = 3  # number of max phases; min steps only from then on
    jitter: float = 1e-3  # noise put on the weights before the start, as a share of each tensor's standard deviation

    def __post_init__(self):
        super().__post_init__()
        for key in ('max_steps', 'min_steps', 'max_phases'):
            if getattr(self, key) < 1:
                raise InputError(f'train: method: {key}: {getattr(self, key)} must be a positive whole number.')


@METHOD_REGISTRY.register()
class Scrub(UnlearnMethod):
    """Alternate max steps, l(f(x_f), f_0(x_f)) upwards, and min steps on a l(f(x_r), f_0(x_r)) + g l(f(x_r), y_r).

    Source: SCRUB of Kurmanji et al., Towards Unbounded Machine Unlearning (NeurIPS 2023): the phases, alpha 0.5, gamma
    1, an end on min phases. Their rewind, the choice among the states on the way, is the stop rule: of the states that
    reach the forget level it keeps the best. Ours: l instead of the KL divergence; the hinge relu(m - l) with
    m = l(x_f, f_0(x_f)), or `bound: unseen`, as l has no upper end; phases in iterations instead of epochs; a jitter of
    the weights, as the gradient of a max step (and of min steps with `target: original`) vanishes at f = f_0.
    """

    Options = ScrubOptions
    needs_retain = True
    repairs = True

    def __init__(self, options, run):
        super().__init__(options, run)
        self.forget_loss = build_loss(options.forget_opt).to(run.device)
        self.step = 0

    @torch.no_grad()
    def setup(self):
        generator = torch.Generator().manual_seed(0)
        for weight in self.run.net.parameters():
            if weight.requires_grad:
                noise = torch.randn(weight.shape, generator=generator).to(weight.device)
                weight += self.options.jitter * noise * weight.std(correction=0)

    @property
    def in_max_phase(self):
        phase, step = divmod(self.step, self.options.max_steps + self.options.min_steps)
        return phase < self.options.max_phases and step < self.options.max_steps

    def losses(self, batch):
        found = self.max_step(batch) if self.in_max_phase else self.min_step(batch)
        self.step += 1
        return found

    def max_step(self, batch):
        taught = self.run.ask_original(batch.forget_lq)
        more = unseen(self.run, self.options, batch)
        loss = self.forget_loss(self.run.forward(batch.forget_lq)[0], taught, batch.forget_lq, **more)
        return {'l_forget': self.options.forget_weight * loss}

    def min_step(self, batch):
        taught = self.run.ask_original(batch.retain_lq)
        pred = self.run.forward(batch.retain_lq)[0]
        return {'l_distill': self.options.alpha * self.retain_loss(pred, taught), **self.retain_term(pred, batch)}

    def state_dict(self):
        return {'step': self.step}

    def load_state_dict(self, state):
        self.step = state['step']
