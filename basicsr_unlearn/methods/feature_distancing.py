"""Learn on retain images whose features are as far from those of the forget images as a small perturbation allows."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from basicsr_unlearn.attacks.examples import generator
from basicsr_unlearn.attacks.pgd import pgd
from basicsr_unlearn.attacks.targets import mean_and_std
from basicsr_unlearn.losses.transport import cosine_costs, transport_cost
from basicsr_unlearn.methods.base import METHOD_REGISTRY, check_positive
from basicsr_unlearn.methods.forget_target import TargetOptions
from basicsr_unlearn.methods.mirror_target import MirrorTarget
from basicsr_unlearn.methods.taps import LEVELS, find_modules, tapped

TAPS = 'train: method: feature_layers'


@dataclass
class DistancingOptions(TargetOptions):
    task_weight: float = 1.0  # mu, factor of the task loss that holds the perturbation back
    eps_rms: float = 4 / 255  # size of the perturbation: root mean square, images in [0, 1]
    steps: int = 4  # K, gradient steps of the perturbation
    reg: float = 0.05  # of the transport: weight of the entropy, as a share of the mean cost
    feature_layers: list = None  # patterns of whole module names to take features from; ~: the encoder's levels

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, 'eps_rms', 'steps', 'reg')
        if not self.forget_weight:
            self.forget_target = None  # nobody asks for it


@METHOD_REGISTRY.register()
class FeatureDistancing(MirrorTarget):
    """Minimise w_r l(f(x_r + d), y_r) + w_f l(f(x_f), t), d in a ball and largest in OT(e(x_r + d), e(x_f)) - mu l.

    e(x) is mean and deviation of each channel of the features of f at the taps, OT the entropic transport between the
    two halves of the whole batch at the cosine distance of two embeddings; d is found by K normalised gradient steps
    on OT(e(x_r + d), e(x_f)) - mu l(f(x_r + d), y_r), and y_r is the answer to the image without d.
    Source: Choi and Na, Distribution-Level Feature Distancing (arXiv 2409.14747): the perturbation of the retain
    images, the task loss against it, entropic transport at the cosine distance, training on the perturbed images alone
    (`forget_weight: 0`). It is their intent: their program computes the transport of the images without d, so that it
    pulls at nothing, and never bounds d. Ours: embeddings at taps for logits, all taps of one weight; the L2 ball with
    a random start (attacks/pgd.py); constant weights, and the stop rule for their schedule; the forget term with t of
    `forget_target`. Large batches are better: the transport sees one at a time.
    """

    Options = DistancingOptions
    needs_retain = True

    def __init__(self, options, run):
        super().__init__(options, run)
        self.layers = self.modules(options, run.net)
        self.iteration = 0

    @classmethod
    def modules(cls, options, net):
        return find_modules(net, options.feature_layers, TAPS, LEVELS)

    def losses(self, batch):
        batch.retain_lq = self.perturb(batch)
        self.iteration += 1
        if not self.options.forget_weight:
            return self.retain_term(self.run.forward(batch.retain_lq)[0], batch)
        return super().losses(batch)

    def perturb(self, batch):
        """Return the retain images x_r + d of a Batch, (N, 3, H, W) in [0, 1]."""
        forget = self.embed_forget(batch.forget_lq)
        random, options, own = generator(self.run, self.iteration), self.options, len(batch.retain_lq)
        place = own * self.run.world_size, own * self.run.rank

        def objective(perturbed, images):
            return self.objective(perturbed, batch.retain_gt, forget)

        return pgd(batch.retain_lq, objective, random, 'l2', options.eps_rms, options.steps, *place)

    def embed_forget(self, images):
        """Return e(x_f) of the forget images of all processes, (M, D)."""
        with tapped(self.layers, TAPS) as features:
            self.run.ask(images)
        return self.run.gather(embedding(features))

    def objective(self, perturbed, answers, forget):
        """Return OT(e(x_r + d), e(x_f)) - mu l(f(x_r + d), y_r), as a function of the images of this process.

        Args:
            perturbed (Tensor): x_r + d, (N, 3, H, W).
            answers (Tensor): y_r, same shape.
            forget (Tensor): e(x_f), (M, D).
        """
        self.run.cost += 2 * len(perturbed)
        with tapped(self.layers, TAPS) as features:
            pred = self.run.net(perturbed)
        own = embedding(features)
        whole, first = self.run.gather(own.detach()), self.run.rank * len(own)
        whole = torch.cat([whole[:first], own, whole[first + len(own) :]])
        distance = transport_cost(cosine_costs(whole, forget), self.options.reg)
        return distance - self.options.task_weight * self.retain_loss(pred, answers) / self.run.world_size

    def state_dict(self):
        return {'iteration': self.iteration}

    def load_state_dict(self, state):
        self.iteration = state['iteration']


def embedding(features):
    """Return (N, D), each of length one, from features {name: (N, C, H, W)} in which all taps weigh the same."""
    parts = [F.normalize(mean_and_std(feature), dim=1) for feature in features.values()]
    return torch.cat(parts, 1) / math.sqrt(len(parts))
