"""What an unlearning run shows in TensorBoard, beside the losses that BasicSR logs."""

import cv2
import numpy as np

from basicsr_unlearn import compat

PANELS = ('input', 'original', 'unlearned', 'clean')


def log_probes(iteration, probes, rate):
    """Log the stop rule's probes and the learning rate."""
    writer = compat.tb_writer()
    if writer is None:
        return
    writer.add_scalar('train/learning_rate', rate, iteration)
    for name, value in probes.items():
        writer.add_scalar(f'probes/{name}', value, iteration)


def log_set(iteration, name, role, values, oracle):
    """Log PSNR and SSIM of one validation set under its role, and the gap to the oracle if there is one."""
    writer = compat.tb_writer()
    if writer is None:
        return
    for metric, value in values.items():
        writer.add_scalar(f'{metric}_{role}/{name}', value, iteration)
        if oracle and oracle.get(metric) is not None:
            writer.add_scalar(f'{metric}_gap_to_oracle/{name}', value - oracle[metric], iteration)


def log_pictures(iteration, name, pictures):
    """Log degraded, original, unlearned and clean side by side, a sheet for each picture."""
    writer = compat.tb_writer()
    if writer is None:
        return
    for number, panels in enumerate(pictures):
        picture = sheet(panels, PANELS)[..., ::-1].copy()
        writer.add_image(f'{name}/{number}', picture, iteration, dataformats='HWC')


def flush():
    """Write out what is still in memory."""
    if compat.tb_writer() is not None:
        compat.tb_writer().flush()


def sheet(panels, names):
    """Return the named panels, 8-bit (H, W, 3) each, side by side under their names."""
    return np.concatenate([_labelled(panels[name], name) for name in names], axis=1)


def _labelled(image, text):
    """Return an 8-bit picture (H, W, 3) under a strip of 20 pixels that carries a word."""
    strip = np.full((20, *image.shape[1:]), 255, np.uint8)
    cv2.putText(strip, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, image])
