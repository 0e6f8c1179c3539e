"""Fine-tuning on the retain set while weights are drawn to zero."""

from dataclasses import dataclass

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY, MethodOptions, UnlearnMethod


@dataclass
class L1SparseOptions(MethodOptions):
    gamma: float = 1e-5  # factor of the sum of |weights| at the start
    decay_steps: int = 100  # iterations until the factor has fallen to zero; total_iter is the paper's

    def __post_init__(self):
        super().__post_init__()
        if self.decay_steps < 1:
            raise InputError(f'train: method: decay_steps: {self.decay_steps} must be a positive whole number.')


@METHOD_REGISTRY.register()
class L1Sparse(UnlearnMethod):
    """Minimise l(f(x_r), y_r) + gamma_t |theta|_1 with gamma_t = gamma (1 - t / T): sparse networks forget more easily.

    Source: Jia et al., Model Sparsity Can Simplify Machine Unlearning (NeurIPS 2023). Ours: norms, biases, temperatures
    and other parameters with a single axis are left out; the value of gamma. Forget images are never shown. With
    `target: original` everywhere y_r is the start itself, and the second term alone moves the weights.
    """

    Options = L1SparseOptions
    needs_retain = True
    repairs = True
    step = 0

    def losses(self, batch):
        gamma = self.options.gamma * max(0.0, 1 - self.step / self.options.decay_steps)
        self.step += 1
        found = self.retain_term(self.run.forward(batch.retain_lq)[0], batch)
        return {**found, 'l_sparse': gamma * sum(weight.abs().sum() for weight in self.sparse_weights())}

    def sparse_weights(self):
        weights = (weight for weight in self.run.net.parameters() if weight.requires_grad)
        return [weight for weight in weights if weight.numel() > max(weight.shape, default=1)]

    def state_dict(self):
        return {'step': self.step}

    def load_state_dict(self, state):
        self.step = state['step']
