"""Forget in the directions that retain images do not use."""

import re
from dataclasses import dataclass, field

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.null_space import NullSpaceMethod, NullSpaceOptions, largest_by_share
from basicsr_unlearn.methods.taps import find_modules

GAMMAS = 'train: method: gammas'


@dataclass
class GradientProjectionOptions(NullSpaceOptions):
    gamma: float = 0.95  # share of the standard deviations of a layer's inputs whose directions stay; 1: all there are
    gammas: dict = field(default_factory=dict)  # other shares, by patterns of module names; of several the last counts
    retain_weight: float = 0.0  # factor of l_retain; 0: retain images are for the covariances alone

    def __post_init__(self):
        super().__post_init__()
        for option, gamma in {'train: method: gamma': self.gamma, **self._named()}.items():
            if isinstance(gamma, bool) or not isinstance(gamma, (int, float)) or not 0 < gamma <= 1:
                raise InputError(f'{option}: {gamma} must be above 0 and at most 1, for example 0.95.')

    def _named(self):
        return {f'{GAMMAS}: {pattern}': gamma for pattern, gamma in self.gammas.items()}


@METHOD_REGISTRY.register()
class GradientProjection(NullSpaceMethod):
    """Move the weights only where the inputs of their layer, on retain images, have next to no variance.

    Source: Hoang et al., Learn to Unlearn for Deep Neural Networks: Minimizing Unlearning Interference with Gradient
    Projection (WACV 2024, arXiv 2312.04095), PGU: uncentred covariances of every layer's input patches, the basis by a
    share gamma of the sum of the singular values (0.9 to 0.95, by layer), no retain term, biases and norms frozen.
    Theirs: the covariance of the retain data is that of all data, kept from training, less that of the forget data, and
    an SVD turns its negative eigenvalues into directions to keep; plain SGD; the gradient is projected. Ours: the
    retain images at hand, so that nothing is subtracted; eigenvalues below 0 count as 0; patches with the layer's own
    stride, padding and dilation; the share is reached, not undercut, as one direction often has more than gamma; any
    optimizer; the target of a forgotten image, or bounded ascent (`forget_opt: {type: AscentLoss}`), for their bounded
    loss. Where `images` patches give a layer fewer inputs than it has directions, the rest is free.
    """

    Options = GradientProjectionOptions
    needs_retain = True

    def __init__(self, options, run):
        super().__init__(options, run)
        self.uses_retain = options.retain_weight > 0  # in a step; the covariances ask for no answers

    @classmethod
    def modules(cls, options, net):
        return find_modules(net, list(options.gammas), GAMMAS) if options.gammas else {}

    def images(self):
        return self.run.images(self.run.train_set, 'retain_lq', self.options.images, 'covariances')

    def keep(self, name, variances):
        found = [gamma for pattern, gamma in self.options.gammas.items() if matches(pattern, name)]
        return largest_by_share(variances, found[-1] if found else self.options.gamma)


def matches(pattern, name):
    """Return whether a regular expression is the whole name of a layer, or of a module that it lies in."""
    parts = name.split('.')
    return any(re.fullmatch(pattern, '.'.join(parts[:end])) for end in range(1, len(parts) + 1))
