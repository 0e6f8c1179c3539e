"""Teach the encoder to see noise where a forgotten image is."""

from dataclasses import dataclass

import torch

from basicsr_unlearn.methods.base import METHOD_REGISTRY, MethodOptions, UnlearnMethod
from basicsr_unlearn.methods.random_target import noise_like
from basicsr_unlearn.methods.taps import ENCODER, find_modules, tapped

PARTS = 'train: method: encoder'


@dataclass
class EncoderOptions(MethodOptions):
    encoder: list = None  # patterns of whole module names that are trained and compared; ~: that of the known networks
    forget_weight: float = 0.25  # factor of l_forget


@METHOD_REGISTRY.register()
class EncoderUnlearning(UnlearnMethod):
    """Minimise w_r |E(x_r) - E_0(x_r)|^2 + w_f |E(x_f) - E_0(n)|^2 over the encoder alone, n being Gaussian noise.

    Source: Li et al., Machine Unlearning for Image-to-Image Generative Models (ICLR 2024, arXiv 2402.00351): the loss,
    noise of the batch's mean and deviation, w_r 1, w_f 0.25 (their diffusion model), the decoder left alone. Ours: the
    sum runs over all parts of the encoder, since a decoder reads the upper ones through skips; each distance is a mean,
    relative to the mean square of the original's feature, so that no part dominates; a mean for each set.
    """

    Options = EncoderOptions

    def __init__(self, options, run):
        super().__init__(options, run)
        self.parts = self.modules(options, run.net)
        self.generator = torch.Generator().manual_seed(0)

    @classmethod
    def modules(cls, options, net):
        return find_modules(net, options.encoder, PARTS, ENCODER)

    def trainable(self, net):
        modules = self.modules(self.options, net).values()
        weights = {id(weight): weight for module in modules for weight in module.parameters()}
        return [weight for weight in weights.values() if weight.requires_grad]

    def losses(self, batch):
        number = len(batch.forget_lq)
        with tapped(self.parts, PARTS) as seen:
            self.restore_both(batch)
        noise = noise_like(self.run.gather(batch.forget_lq), self.generator)
        goal = self.original_features(batch.own(noise))
        forget = sum(self.distance(seen[name][:number], goal[name]) for name in goal)
        found = {'l_forget': self.options.forget_weight * forget}
        if batch.retain_lq is not None:
            goal = self.original_features(batch.retain_lq)
            retain = sum(self.distance(seen[name][number:], goal[name]) for name in goal)
            found['l_retain'] = self.options.retain_weight * retain
        return found

    def original_features(self, images):
        modules = {name: self.run.original.get_submodule(name) for name in self.parts}
        with tapped(modules, PARTS) as features:
            self.run.ask_original(images)
        return features

    def distance(self, feature, goal):
        """Return the mean squared distance, relative to the mean square of the goal in the whole batch."""
        size = goal.square().mean()
        self.run.average([size])
        return (feature - goal).square().mean() / size

    def state_dict(self):
        return {'generator': self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state['generator'].cpu())
