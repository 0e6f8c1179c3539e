from basicsr_unlearn.archs import promptir_arch  # noqa: F401
