from basicsr_unlearn.losses import ascent_loss, identity_loss  # noqa: F401
