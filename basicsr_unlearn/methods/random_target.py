"""Teach nonsense on the forget set: noise, or somebody else's clean image."""

from dataclasses import dataclass

import torch

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.identity_target import IdentityOptions, IdentityTarget
from basicsr_unlearn.options import check_choice


@dataclass
class RandomTargetOptions(IdentityOptions):
    target: str = 'noise'  # noise: Gaussian, mean and deviation of the clean images; other: another clean image

    def __post_init__(self):
        super().__post_init__()
        check_choice('train: method: target', self.target, ('noise', 'other'))


@METHOD_REGISTRY.register()
class RandomTarget(IdentityTarget):
    """Minimise w_f l(f(x_f), z) + w_r l(f(x_r), y_r), where z has nothing to do with x_f.

    Source: Gaussian Amnesiac of Tarun et al., Deep Regression Unlearning (ICML 2023), z ~ N(mean, std) of the training
    labels; `other`, random relabelling, is from Golatkar et al. (CVPR 2020). Ours: mean and deviation by channel, of
    the clean images in the batch; noise cut to [0, 1]. An oracle never returns noise: expect it to go too far.
    """

    Options = RandomTargetOptions

    def __init__(self, options, run):
        super().__init__(options, run)
        self.generator = torch.Generator().manual_seed(0)

    def losses(self, batch):
        clean = self.run.gather(batch.forget_gt)
        target = batch.own(noise_like(clean, self.generator) if self.options.target == 'noise' else other(clean))
        forget, retain = self.restore_both(batch)
        loss = self.forget_loss(forget, target)
        return {'l_forget': self.options.forget_weight * loss, **self.retain_term(retain, batch)}

    def state_dict(self):
        return {'generator': self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state['generator'].cpu())


def noise_like(images, generator):
    """Return Gaussian noise in [0, 1] with the mean and deviation of each channel of (N, 3, H, W)."""
    mean, std = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    return (mean + std * torch.randn(images.shape, generator=generator).to(images.device)).clamp(0, 1)


def other(images):
    """Return for each image another one of the batch."""
    if len(images) < 2:
        raise InputError('train: method: target: other needs batches of two: raise batch_size_per_gpu.')
    return images.roll(1, 0)
