from basicsr_unlearn.archs import adair_arch, nafnet_arch, promptir_arch, restormer_arch  # noqa: F401
