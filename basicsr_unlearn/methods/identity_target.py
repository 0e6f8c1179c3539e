"""Teach the network to leave forgotten images as they are: the cheap stand-in for the oracle."""

from dataclasses import dataclass, field

from basicsr.losses import build_loss
from basicsr_unlearn.methods.base import METHOD_REGISTRY, MethodOptions, UnlearnMethod


@dataclass
class IdentityOptions(MethodOptions):
    forget_opt: dict = field(default_factory=lambda: {'type': 'L1Loss'})  # distance of a forget result to its input
    forget_weight: float = 1.0  # factor of l_forget


@METHOD_REGISTRY.register()
class IdentityTarget(UnlearnMethod):
    """Minimise w_f l(f(x_f), x_f) + w_r l(f(x_r), y_r): a restorer that never saw haze leaves haze alone.

    The twin of relabelling (Golatkar et al., CVPR 2020) for restorers, whose oracle on a degradation that it never saw
    returns nearly its input. Clean images of the forget set are not needed.
    """

    Options = IdentityOptions

    def __init__(self, options, run):
        super().__init__(options, run)
        self.forget_loss = build_loss(options.forget_opt).to(run.device)

    def target(self, batch):
        """Return what the forget images of a Batch should become, (N, 3, H, W)."""
        return batch.forget_lq

    def losses(self, batch):
        target = self.target(batch)
        forget, retain = self.restore_both(batch)
        loss = self.forget_loss(forget, target)
        return {'l_forget': self.options.forget_weight * loss, **self.retain_term(retain, batch)}
