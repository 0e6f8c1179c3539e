from basicsr_unlearn.data import degraded_image_dataset, forget_retain_paired_dataset  # noqa: F401
