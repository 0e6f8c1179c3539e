"""Ascent on the forget set, descent on the retain set."""

from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.gradient_ascent import GradientAscent


@METHOD_REGISTRY.register()
class NegGrad(GradientAscent):
    """Minimise w_f relu(m - l(f(x_f), y_f)) + w_r l(f(x_r), y_r), forget and retain images in one forward.

    Source: NegGrad+ of Kurmanji et al., Towards Unbounded Machine Unlearning (NeurIPS 2023), with the bound of
    AscentLoss.
    """

    uses_retain = True

    def losses(self, batch):
        forget, retain = self.restore_both(batch)
        return {**self.forget_term(forget, batch), **self.retain_term(retain, batch)}
