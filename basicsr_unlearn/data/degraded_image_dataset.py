"""Validation sets made from clean images: a folder of them, or the photographs inside the scikit-image package."""

import zlib
from os import path as osp

import cv2
import numpy as np
import skimage
from torch.utils import data

from basicsr.utils import img2tensor
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr_unlearn.data.degradations import build_degradation
from basicsr_unlearn.data.pairing import find_images
from basicsr_unlearn.data.sources import ImageReader, to_float
from basicsr_unlearn.errors import InputError

CROP = 192  # pixels; a multiple of 8
PHOTOGRAPHS = {  # name: (file, scale, (top, left) of the crops in the scaled photograph)
    'astronaut': ('astronaut.png', 0.6, ((0, 60), (100, 10))),
    'cat': ('chelsea.png', 1.0, ((20, 60), (100, 220))),
    'coffee': ('coffee.png', 0.7, ((20, 30), (80, 190))),
    'rocket': ('rocket.jpg', 0.7, ((50, 140), (100, 240))),
    'retina': ('retina.jpg', 0.3, ((60, 60), (170, 200))),
    'motorcycle': ('motorcycle_left.png', 0.6, ((20, 40), (90, 220))),
}


@DATASET_REGISTRY.register()
class DegradedImageDataset(data.Dataset):
    """Clean images, degraded when read; an image looks the same every time, whatever else is read before it.

    Args:
        opt (dict): The section `datasets: val_...`: `dataroot_gt`, `io_backend` as in BasicSR's PairedImageDataset,
            `file_list` (one file in each line; default: the whole folder) and `degradation`, for example
            `{type: gaussian_noise, sigma: 25}`.

    Returns (`__getitem__`):
        dict: `lq gt` (3, H, W), float32 in [0, 1], RGB, and `lq_path gt_path`. The random numbers of an image are
        seeded from its file name, or from its key in an LMDB.

    Raises:
        InputError: A missing or empty folder, an unknown degradation, an unreadable image.
    """

    def __init__(self, opt):
        super().__init__()
        self.opt = opt
        self.option = f'datasets: {opt.get("name")}'
        if not opt.get('degradation'):
            raise InputError(
                f'{self.option}: degradation: is missing, for example {{type: gaussian_noise, sigma: 25}}.'
            )
        self.degrade = build_degradation(opt['degradation'])
        self._find_images()

    def _find_images(self):
        self.paths = find_images(self.option, self.opt)
        self.read_image = ImageReader(self.opt)

    def _read(self, index):
        """Return the clean image (H, W, 3), its depth (H, W) or None, and its path."""
        return to_float(self.read_image(self.paths[index], 'gt')), None, self.paths[index]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        gt, depth, path = self._read(index)
        rng = np.random.default_rng(zlib.crc32(osp.basename(path).encode()))
        lq, gt = img2tensor([self.degrade(gt, rng, depth), np.ascontiguousarray(gt)], bgr2rgb=True, float32=True)
        return {'lq': lq, 'gt': gt, 'lq_path': path, 'gt_path': path}


@DATASET_REGISTRY.register()
class PhotographDataset(DegradedImageDataset):
    """Twelve crops of 192x192 pixels from the photographs inside the scikit-image package; nothing is downloaded.

    Astronaut, cat, coffee, rocket, retina, motorcycle, two crops of each. The motorcycle brings its true depth (from
    the disparity of the Middlebury stereo pair), the others get a drawn one. Options and returned entries are
    those of DegradedImageDataset, without `dataroot_gt`.
    """

    def _find_images(self):
        self.crops = [(name, number) for name, entry in PHOTOGRAPHS.items() for number in range(len(entry[2]))]
        self.paths = [f'{name}_{number}.png' for name, number in self.crops]

    def _read(self, index):
        name, number = self.crops[index]
        file_name, scale, corners = PHOTOGRAPHS[name]
        top, left = corners[number]
        window = np.s_[top : top + CROP, left : left + CROP]
        image = cv2.imread(osp.join(osp.dirname(skimage.__file__), 'data', file_name))
        if image is None:
            raise InputError(f'{file_name}: not found inside the scikit-image package. Reinstall scikit-image.')
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[window]
        depth = _motorcycle_depth(scale)[window] if name == 'motorcycle' else None
        return image.astype(np.float32) / 255, depth, self.paths[index]


def _motorcycle_depth(scale):
    """Return the motorcycle's depth in [0, 1], 1 farthest; pixels without disparity take that of what lies behind."""
    with np.load(osp.join(osp.dirname(skimage.__file__), 'data', 'motorcycle_disp.npz')) as archive:
        disparity = archive['arr_0'].astype(np.float32)
    known = np.isfinite(disparity) & (disparity > 0)
    # occluded pixels belong to what lies behind: fill along the row from the farther (smaller) known neighbour
    left = np.where(known, disparity, np.inf)
    for column in range(1, left.shape[1]):
        left[:, column] = np.where(known[:, column], disparity[:, column], left[:, column - 1])
    right = np.where(known, disparity, np.inf)
    for column in range(right.shape[1] - 2, -1, -1):
        right[:, column] = np.where(known[:, column], disparity[:, column], right[:, column + 1])
    filled = np.minimum(left, right)
    filled[~np.isfinite(filled)] = disparity[known].min()
    depth = 1 / (filled + 1e-6)
    depth = cv2.resize(depth / np.percentile(depth, 99), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.clip(depth, 0, 1)
