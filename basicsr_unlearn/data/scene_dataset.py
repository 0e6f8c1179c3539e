"""Validation sets of drawn scenes."""

import numpy as np
from torch.utils import data

from basicsr.utils import img2tensor
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr_unlearn.data.sources import SceneSource
from basicsr_unlearn.errors import InputError


@DATASET_REGISTRY.register()
class SceneDataset(data.Dataset):
    """Drawn scenes for validation and test; a pair looks the same every time.

    Args:
        opt (dict): The section `datasets: val_...`: `scenes`, `first_scene`, `fixed` and `degradation` as in a source
            of ForgetRetainPairedDataset, and `gt_size`, height and width in pixels. Where source and set have
            `fixed: true` and one `gt_size`, scene n is the same pair in both.

    Returns (`__getitem__`):
        dict: `lq gt` (3, gt_size, gt_size), float32 in [0, 1], RGB, and `lq_path gt_path` (str), the scene's name.

    Raises:
        InputError: A key is missing, an unknown degradation.
    """

    def __init__(self, opt):
        super().__init__()
        option = f'datasets: {opt.get("name")}'
        for key, example in (('scenes', '300'), ('degradation', '{type: rain}'), ('gt_size', '64')):
            if not opt.get(key):
                raise InputError(f'{option}: {key}: is missing, for example {key}: {example}.')
        self.opt, self.pixels = opt, opt['gt_size']
        self.source = SceneSource(option, opt)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        rng = np.random.default_rng((self.source.first + index, 1))  # of scenes that are not fixed
        lq, gt, lq_path, gt_path = self.source.read(index, rng, self.pixels)
        lq, gt = img2tensor([lq, gt], bgr2rgb=True, float32=True)
        return {'lq': lq, 'gt': gt, 'lq_path': lq_path, 'gt_path': gt_path}
