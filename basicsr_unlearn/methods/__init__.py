"""Unlearning methods: one algorithm, one class, one file. `train: method: type:` chooses one by name."""

from basicsr_unlearn.methods import (  # noqa: F401
    bad_teacher,
    blindspot,
    budgeted_retraining,
    covariance_navigation,
    deep_forget,
    feature_distancing,
    fine_tune,
    gradient_ascent,
    gradient_projection,
    i2i_encoder,
    identity_target,
    influence_update,
    instance_wise,
    l1_sparse,
    lipschitz_zero_shot,
    mirror_target,
    neg_grad,
    random_target,
    residual_lora,
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
