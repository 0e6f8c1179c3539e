from basicsr_unlearn.losses import ascent_loss  # noqa: F401
