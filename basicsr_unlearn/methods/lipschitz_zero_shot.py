"""Make what the network adds to a forgotten image insensitive to changes of that image; no retain data."""

from dataclasses import dataclass

import torch

from basicsr_unlearn.attacks.examples import generator
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY, MethodOptions, UnlearnMethod, check_positive
from basicsr_unlearn.methods.importance import drift

NEAREST = 0.05  # least t: the gradient of l_directional grows as 1 / t


@dataclass
class LipschitzOptions(MethodOptions):
    isotropic_weight: float = None  # factor of l_isotropic; ~: 1 for task: instance, else 0
    directional_weight: float = None  # factor of l_directional; ~: 0 for task: instance, else 1
    samples: int = 4  # N, perturbations of each forget image, of each kind
    sigma: float = 4 / 255  # deviation of the isotropic noise, images in [0, 1]
    anchor_weight: float = 0.0  # factor of the pull to the original's weights

    def __post_init__(self):
        super().__post_init__()
        isotropic = self.task == 'instance'
        if self.isotropic_weight is None:
            self.isotropic_weight = float(isotropic)
        if self.directional_weight is None:
            self.directional_weight = float(not isotropic)
        if not self.isotropic_weight + self.directional_weight:
            raise InputError(
                'train: method: isotropic_weight: 0.0 leaves nothing to do beside directional_weight: 0.0. Raise one.'
            )
        check_positive(self, 'samples', 'sigma')


@METHOD_REGISTRY.register()
class LipschitzZeroShot(UnlearnMethod):
    """Minimise w_i K(x + s) + w_d K(x + t (y - x)) (+ a / 2 |theta - theta_0|^2), K(x') = |R(x) - R(x')| / |x - x'|.

    x is a forget image, R(x) = f(x) - x the residual, s ~ N(0, sigma^2) and t ~ U(0.05, 1); means over N draws and over
    the batch. No gradient flows through R(x').
    Source: JiT of Foster et al., An Information Theoretic Approach to Machine Unlearning (arXiv 2402.01401, TMLR 2025):
    K of f for isotropic noise, the gradient through the clean output alone, forget inputs alone, N = 25 and sigma 0.01
    to 1.5. Ours: R for f, since a restorer whose f is smooth loses the image; the direction of the degradation, which
    needs y, since noise is hardly seen by a dehazer; the mean over the batch, their sum ties the learning rate to its
    size; noisy images cut to [0, 1]; the pull to the original. The network is in evaluation mode: dropout would be a
    part of K. Nothing holds the retained tasks but the pull, the stop rule, or a mask (SalUn with this as `host`); with
    noise alone the learning rate must be small, as each R(x) runs after R(x') and nothing says where to.
    """

    Options = LipschitzOptions
    uses_retain = False

    def __init__(self, options, run):
        super().__init__(options, run)
        run.net.eval()
        self.iteration = 0

    def losses(self, batch):
        options, random = self.options, generator(self.run, self.iteration)
        images, shape = batch.forget_lq, batch.forget_lq.shape[1:]
        self.iteration += 1
        residual = self.run.forward(images)[0] - images

        def noisy():
            noise = torch.randn((batch.whole, *shape), generator=random)
            return (images + options.sigma * batch.own(noise).to(images.device)).clamp(0, 1)

        def cleaner():
            t = NEAREST + (1 - NEAREST) * torch.rand((batch.whole, 1, 1, 1), generator=random)
            return images + batch.own(t).to(images.device) * (batch.forget_gt - images)

        found = {}
        if options.isotropic_weight:
            found['l_isotropic'] = options.isotropic_weight * self.slope(residual, images, noisy)
        if options.directional_weight:
            found['l_directional'] = options.directional_weight * self.slope(residual, images, cleaner)
        if options.anchor_weight:
            found['l_anchor'] = options.anchor_weight / 2 * drift(self.run)
        return found

    def slope(self, residual, images, draw):
        """Return the mean of |R(x) - R(x')| / |x - x'| over N draws of x' and all images of the batch."""
        total = 0.0
        for _ in range(self.options.samples):
            moved = draw()
            there = self.run.ask(moved) - moved
            way = length(images - moved).clamp_min(torch.finfo(images.dtype).eps)
            total = total + (length(residual - there) / way).mean()
        return total / self.options.samples

    def state_dict(self):
        return {'iteration': self.iteration}

    def load_state_dict(self, state):
        self.iteration = state['iteration']


def length(images):
    """Return the Euclidean length of each image, (N,)."""
    return images.flatten(1).norm(dim=1)
