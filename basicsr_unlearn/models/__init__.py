from basicsr_unlearn.models import restoration_model, unlearn_model  # noqa: F401
