"""Dampen, in one shot, the weights that matter more to the forget set than to the rest."""

from dataclasses import dataclass

import torch

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY, MethodOptions, UnlearnMethod
from basicsr_unlearn.options import check_choice


@dataclass
class SSDOptions(MethodOptions):
    alpha: float = 10.0  # weights with I_f > alpha I_D are dampened: larger, fewer
    dampening: float = 1.0  # lambda: smaller, stronger
    signal: str = 'fisher'  # what importance is measured on: fisher, loss or residual
    forget_share: float = 0.0  # share of the forget set in I_D; keep alpha * forget_share below 1
    images: int = 64  # forget images, and as many retain images, that the importances are measured on

    def __post_init__(self):
        super().__post_init__()
        check_choice('train: method: signal', self.signal, ('fisher', 'loss', 'residual'))
        if self.forget_share < 0 or self.alpha * self.forget_share >= 1:
            raise InputError(
                f'train: method: forget_share: {self.forget_share} with alpha: {self.alpha} selects no weight, as '
                'I_D holds I_f itself: their product must be below 1.'
            )


@METHOD_REGISTRY.register()
class SelectiveSynapticDampening(UnlearnMethod):
    """Where I_f > alpha I_D: theta <- min(lambda I_D / I_f, 1) theta, with importances I measured on gradients.

    Source: Foster et al., Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening (AAAI 2024):
    the rule, alpha 10, lambda 1, and `signal: loss`, the mean squared gradient of the loss. `residual` is their
    label-free sibling LFSSD: |gradient| of the squared norm of the output, which for a network that adds to its input
    is R(x) = f(x) - x. Ours: `fisher`, the default: the mean squared gradient of f(x) e with Gaussian e, the diagonal
    of the Fisher information of a Gaussian model, which needs no label and does not grow with the error or the residual
    (both are larger on haze for every weight); one image at a time, as the square of a batch's gradient depends on the
    batch; a squared error, as gradients of L1 are mere signs; I_D = s I_f + (1 - s) I_r with s = `forget_share`. All
    training data is s = |D_f| / |D|, a third where one of three degradations is forgotten: no weight can exceed an
    alpha of 3 then.
    """

    Options = SSDOptions
    needs_retain = True
    holds = 2.0  # the importances
    finished = False

    @property
    def done(self):
        return self.finished

    def losses(self, batch):
        return {}

    @torch.no_grad()
    def edit_weights(self):
        weights = [weight for weight in self.run.net.parameters() if weight.requires_grad]
        number, share = 0, self.options.forget_share
        for weight, forget, retain in zip(weights, *self.measure_importances(weights), strict=True):
            everything = share * forget + (1 - share) * retain
            chosen = forget > self.options.alpha * everything
            factor = (self.options.dampening * everything / forget).clamp(max=1)
            weight.copy_(torch.where(chosen, weight * factor, weight))
            number += int(chosen.sum())
        self.run.logger.info(f'SSD: {number:,} of {sum(map(torch.numel, weights)):,} weights dampened.')
        self.finished = True

    def measure_importances(self, weights):
        """Return I_f and I_r, each a list of tensors as `weights`."""
        forget, retain = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        images, loss = 0, 0.0
        generator = torch.Generator().manual_seed(0)
        for batch in self.run.batches(self.options.images, 'importance'):
            for_forget, for_retain = (self.draw_noise(batch, generator) for _ in range(2))
            self.add_importance(forget, weights, batch.forget_lq, batch.forget_gt, for_forget)
            loss += self.add_importance(retain, weights, batch.retain_lq, batch.retain_gt, for_retain)
            images += batch.whole
        loss = self.run.total(loss)
        for value in (*forget, *retain):
            self.run.total(value)
        if self.options.signal == 'loss' and loss / images < 1e-9:
            raise InputError(
                'train: method: signal: loss has no gradient on retain images whose targets are the answers of the '
                'original itself. Set target: gt in datasets: train: retain, or signal: fisher.'
            )
        return [value / images for value in forget], [value / images for value in retain]

    def draw_noise(self, batch, generator):
        """Return e for each image of this process; it does not depend on how a batch is divided."""
        if self.options.signal != 'fisher':
            return [None] * len(batch.forget_lq)
        shape = (1, *batch.forget_lq.shape[1:])
        return batch.own([torch.randn(shape, generator=generator) for _ in range(batch.whole)])

    @torch.enable_grad()
    def add_importance(self, total, weights, lq, gt, noise):
        """Add g^2 (`residual`: |g|) of each image; return the sum of the images' signals."""
        self.run.cost += 3 * len(lq)
        values = 0.0
        for image, clean, e in zip(lq.split(1), gt.split(1), noise, strict=True):
            signal = self.signal_of(self.run.net(image), image, clean, e)
            gradients = torch.autograd.grad(signal, weights, materialize_grads=True)
            for value, gradient in zip(total, gradients, strict=True):
                value += gradient.abs() if self.options.signal == 'residual' else gradient.square()
            values += signal.item()
        return values

    def signal_of(self, pred, image, clean, noise):
        if self.options.signal == 'fisher':
            return (pred * noise.to(pred.device)).mean()
        return (pred - (clean if self.options.signal == 'loss' else image)).square().mean()
