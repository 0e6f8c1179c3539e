"""Unlearning methods: one algorithm, one class, one file. `train: method: type:` chooses one by name."""

from basicsr_unlearn.methods import (  # noqa: F401
    bad_teacher,
    blindspot,
    budgeted_retraining,
    deep_forget,
    fine_tune,
    gradient_ascent,
    i2i_encoder,
    identity_target,
    instance_wise,
    l1_sparse,
    mirror_target,
    neg_grad,
    random_target,
    salun,
    scrub,
    ssd,
)
from basicsr_unlearn.methods.base import (  # noqa: F401
    METHOD_REGISTRY,
    Batch,
    UnlearnMethod,
    build_method,
    method_class,
    method_options,
)
