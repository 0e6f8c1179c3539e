from basicsr_unlearn.data import (  # noqa: F401
    degraded_image_dataset,
    forget_retain_paired_dataset,
    paired_files_dataset,
    scene_dataset,
)
