"""Unlearning methods: one algorithm, one class, one file. `train: method: type:` chooses one by name."""

from basicsr_unlearn.methods import fine_tune, gradient_ascent, identity_target, neg_grad  # noqa: F401
from basicsr_unlearn.methods.base import (  # noqa: F401
    METHOD_REGISTRY,
    Batch,
    UnlearnMethod,
    build_method,
    method_class,
    method_options,
)
