"""Correct the training data after the fact: one small step of the weights for each look at the pairs to change."""

from dataclasses import dataclass, field, replace
from itertools import cycle

import torch

from basicsr.losses import build_loss
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY, UnlearnMethod, check_positive
from basicsr_unlearn.methods.curvature import (
    check_curvature,
    conjugate_gradient,
    flat,
    gauss_newton_product,
    hessian_product,
    lissa,
    step_along,
)
from basicsr_unlearn.methods.forget_target import TargetOptions, forget_target
from basicsr_unlearn.methods.regions import painted
from basicsr_unlearn.methods.taps import find_modules
from basicsr_unlearn.options import check_choice

LAYERS = 'train: method: layers'
OUTPUT = ('refinement', 'output', 'ending', 'decoders')  # of PromptIR, AdaIR and Restormer, and of NAFNet
PRODUCT = 6  # cost of a product with the curvature, for a patch: two forward and two backward passes


def smooth_l1():
    return {'type': 'CharbonnierLoss', 'eps': 1e-3}


@dataclass
class InfluenceOptions(TargetOptions):
    forget_opt: dict = field(default_factory=smooth_l1)  # l of G
    forget_weight: float = 1.0  # w: share of the pairs to change in G; 0: the corrected pairs alone
    retain_opt: dict = field(default_factory=smooth_l1)  # loss whose curvature H is; L1 has none
    retain_weight: float = 1.0  # factor of the retain images in H
    order: str = 'first'  # first; second: lissa (products with the Hessian) or gauss_newton (conjugate gradients)
    tau: float = 1e-4  # length of an update as a share of |theta|, both of the layers that move
    images: int = 32  # forget images that G is measured on, others for each update
    layers: list = None  # patterns of whole module names that move; ~: all for first, the output blocks for second
    damping: float = 0.5  # lambda of (H + lambda I)^-1
    scale: float = 20.0  # s of lissa: above half the largest eigenvalue of H + lambda I
    steps: int = 30  # products with H for each update, at most
    patience: int = 10  # of lissa: steps without a smaller change
    curvature_images: int = 8  # forget images, and as many retain images, that H is measured on

    def __post_init__(self):
        super().__post_init__()
        check_choice('train: method: order', self.order, ('first', 'lissa', 'gauss_newton'))
        check_positive(self, 'tau', 'damping', 'scale', 'steps', 'patience', 'curvature_images')
        if self.order != 'first':
            check_curvature('train: method: retain_opt', self.retain_opt)


@METHOD_REGISTRY.register()
class InfluenceUpdate(UnlearnMethod):
    """theta <- theta - tau |theta| u / |u| with u = G or (H + lambda I)^-1 G, G = mean dl(x', t) - w mean dl(x, y).

    Source: Warnecke et al., Machine Unlearning of Features and Labels (NDSS 2023, arXiv 2108.11577): pairs (x, y) to
    change and their corrected versions (x', t), G (there a sum), the first order, and the second by LiSSA on a few
    layers, both repeated where many points change. Ours: `forget_target` for the correction; the length of an
    update, so that one `tau` fits all networks: each iteration is one small update, and the stop rule looks along the
    way and chooses the state, which is their line search; H of the corrected and the retain pairs; conjugate gradients
    on Gauss-Newton products, which unlike the Hessian's are never negative; Charbonnier, as L1 is not curved and its
    gradient where the network agrees is the sign of rounding. Where x' = x the two halves of G cancel as soon as an
    answer lies beyond t, so that the ascent ends by itself.

    With `forget_target: region` x' and t are x and y with the regions painted over, and G speaks of the regions alone:
    elsewhere the answers to x and x' are drawn to the original's, and nothing ascends. There w > 0 has no end of its
    own: set a forget level.
    """

    Options = InfluenceOptions
    holds = 4.0  # gradient, solution, direction and product

    def __init__(self, options, run):
        super().__init__(options, run)
        self.uses_retain = False  # in a step; the curvature draws its own
        self.forget_loss = build_loss(options.forget_opt).to(run.device)
        self.updates, self.finished = 0, False

    @classmethod
    def modules(cls, options, net):
        usual = ('.*',) if options.order == 'first' else OUTPUT
        found = find_modules(net, options.layers, LAYERS, usual)
        if not any(weight.requires_grad for module in found.values() for weight in module.parameters()):
            raise InputError(f'{LAYERS}: {options.layers}: {next(iter(found))} has no weights that train. Name others.')
        return found

    @property
    def done(self):
        return self.finished

    def trainable(self, net):
        modules = self.modules(self.options, net).values()
        chosen = {id(weight) for module in modules for weight in module.parameters()}
        return [weight for weight in super().trainable(net) if id(weight) in chosen]

    def losses(self, batch):
        return {}

    def edit_weights(self):
        weights = [weight for weight in self.run.net.parameters() if weight.requires_grad]
        update = self.measure_gradient(weights)
        if self.options.order != 'first' and update.any():
            update = self.solve(weights, update)
        self.finished = not update.any()
        if self.finished:
            self.run.logger.info('InfluenceUpdate: nothing is left to correct.')
            return
        step_along(weights, update, self.options.tau)
        self.updates += 1

    def batches(self, images, title, with_retain):
        """Yield Batches from where those of this update begin."""
        first = self.updates * self.options.images
        return self.run.batches(first + images, title, with_retain, first)

    def measure_gradient(self, weights):
        """Return G, flat."""
        total, seen = 0.0, 0
        for batch in self.batches(self.options.images, 'gradient', False):
            gradients = torch.autograd.grad(self.gap(batch), weights, materialize_grads=True)
            total, seen = total + batch.whole * flat(gradients), seen + batch.whole
        self.run.average([total])
        return total / seen

    def correct(self, batch):
        """Return the corrected pairs of a Batch: images and targets, (N, 3, H, W) each."""
        if self.options.forget_target == 'region':
            images = painted(batch.forget_lq, batch.forget_region, self.options.region_fill)
            batch = replace(batch, forget_lq=images)
        return batch.forget_lq, forget_target(self.run, self.options, batch)

    def gap(self, batch):
        """Return the loss whose gradient is G."""
        loss, weight = self.forget_loss, self.options.forget_weight
        images, target = self.correct(batch)
        if self.options.forget_target != 'region':
            (pred,) = self.restore(images)
            return loss(pred, target) - weight * loss(pred, batch.forget_gt)
        pred, corrected = self.restore(batch.forget_lq, images)
        region, still = batch.forget_region.bool(), pred.detach()  # no gradient where the target is the answer itself
        outside = torch.where(region, still, self.run.ask_original(batch.forget_lq))
        inside = torch.where(region, batch.forget_gt, still)
        return loss(corrected, target) + loss(pred, outside) - weight * loss(pred, inside)

    def restore(self, *images):
        self.run.cost += 3 * sum(map(len, images))
        return self.run.net(torch.cat(images)).split([len(image) for image in images])

    def solve(self, weights, gradient):
        """Return (H + lambda I)^-1 G, flat; LiSSA takes one batch after the other for H, conjugate gradients all."""
        options = self.options
        parts = [self.curved_pairs(batch) for batch in self.batches(options.curvature_images, 'curvature', True)]
        if options.order == 'gauss_newton':
            return conjugate_gradient(
                lambda vector: self.product(weights, parts, vector), gradient, options.damping, options.steps
            )
        endless, damping = cycle(parts), options.damping / options.scale
        return lissa(
            lambda vector: self.product(weights, [next(endless)], vector),
            *(gradient, damping, options.scale, options.steps, options.patience),
        )

    def curved_pairs(self, batch):
        """Return images, the loss of their answers, and how many forget images of all processes it is for."""
        images, target = self.correct(batch)
        if batch.retain_lq is None:
            return images, lambda pred: self.retain_loss(pred, target), batch.whole

        def criterion(pred):
            forget, retain = pred.split([len(target), len(batch.retain_lq)])
            return self.retain_loss(forget, target) + sum(self.retain_term(retain, batch).values())

        return torch.cat([images, batch.retain_lq]), criterion, batch.whole

    def product(self, weights, parts, vector):
        """Return H v, flat, a mean over the parts and over all processes."""
        total = torch.zeros_like(vector)
        for images, criterion, whole in parts:
            self.run.cost += PRODUCT * len(images)
            pred = self.run.net(images)
            if self.options.order == 'lissa':
                total += whole * hessian_product(criterion(pred), weights, vector)
            else:
                total += whole * gauss_newton_product(pred, criterion, weights, vector)
        self.run.average([total])
        return total / sum(whole for *_, whole in parts)

    def state_dict(self):
        return {'updates': self.updates, 'finished': self.finished}

    def load_state_dict(self, state):
        self.updates, self.finished = state['updates'], state['finished']
