"""Unlearning methods: one algorithm, one class, one file. `train: method: type:` chooses one by name."""

from basicsr_unlearn.methods import fine_tune, gradient_ascent, identity_target, neg_grad  # noqa: F401
from basicsr_unlearn.methods.base import METHOD_REGISTRY, Batch, UnlearnMethod, build_method, method_class  # noqa: F401
