"""Gradient ascent on the forget set alone."""

from dataclasses import dataclass, field
from typing import ClassVar

from basicsr.losses import build_loss
from basicsr_unlearn.methods.base import METHOD_REGISTRY, MethodOptions, UnlearnMethod
from basicsr_unlearn.methods.forget_target import TargetChoice, unseen


@dataclass
class AscentOptions(TargetChoice, MethodOptions):
    ascends: ClassVar[bool] = True

    forget_opt: dict = field(default_factory=lambda: {'type': 'AscentLoss', 'bound': 'input'})  # loss on forget images
    forget_weight: float = 1.0  # factor of l_forget


@METHOD_REGISTRY.register()
class GradientAscent(UnlearnMethod):
    """Raise the error on the forget set, `relu(m - l(f(x_f), y_f))`; retain data is not used.

    Source: Golatkar et al., Eternal Sunshine of the Spotless Net (CVPR 2020), baseline; bounded by AscentLoss.
    """

    Options = AscentOptions
    uses_retain = False

    def __init__(self, options, run):
        super().__init__(options, run)
        self.forget_loss = build_loss(options.forget_opt).to(run.device)

    def losses(self, batch):
        return self.forget_term(self.run.forward(batch.forget_lq)[0], batch)

    def forget_term(self, pred, batch):
        loss = self.forget_loss(pred, batch.forget_gt, batch.forget_lq, **unseen(self.run, self.options, batch))
        return {'l_forget': self.options.forget_weight * loss}
