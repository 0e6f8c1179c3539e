from basicsr_unlearn.metrics import lpips, psnr_aio, ssim_aio  # noqa: F401
