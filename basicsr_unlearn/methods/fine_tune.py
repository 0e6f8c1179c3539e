"""Fine-tuning on the retain set alone: the floor that every unlearning method must beat."""

from basicsr_unlearn.methods.base import METHOD_REGISTRY, UnlearnMethod


@METHOD_REGISTRY.register()
class FineTune(UnlearnMethod):
    """Minimise l(f(x_r), y_r) and hope that the rest fades. The forget images are never shown to the network.

    y_r must be the clean image for one retain source at least (`target: gt`): with `target: original` everywhere the
    loss is zero at the start, and nothing moves.
    """

    needs_retain = needs_clean = True

    def losses(self, batch):
        return self.retain_term(self.run.forward(batch.retain_lq)[0], batch)
