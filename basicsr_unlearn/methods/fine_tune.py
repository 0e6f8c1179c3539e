"""Fine-tuning on the retain set alone: the floor that every unlearning method must beat."""

from basicsr_unlearn.methods.base import METHOD_REGISTRY, UnlearnMethod


@METHOD_REGISTRY.register()
class FineTune(UnlearnMethod):
    """Minimise l(f(x_r), y_r) and hope that the rest fades. The forget images are never shown to the network."""

    needs_retain = True

    def losses(self, batch):
        return self.retain_term(self.run.forward(batch.retain_lq)[0], batch)
