from basicsr_unlearn.data import degraded_image_dataset, forget_retain_paired_dataset, paired_files_dataset  # noqa: F401
