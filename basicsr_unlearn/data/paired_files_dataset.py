"""Validation sets of paired files whose names differ, such as RESIDE SOTS."""

from torch.utils import data

from basicsr.utils import img2tensor
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr_unlearn.data.sources import PairedSource


@DATASET_REGISTRY.register()
class PairedFilesDataset(data.Dataset):
    """Whole pairs for validation and test, found as the training sources find theirs.

    BasicSR's PairedImageDataset wants one clean file of the same name for each degraded one; here several may share
    one (`0001_0.8_0.2.jpg` and `0001.png`).

    Args:
        opt (dict): The section `datasets: val_...`: `dataroot_lq`, `dataroot_gt`, and `io_backend`, `filename_tmpl`,
            `meta_info_file`, `file_list` as in a source of ForgetRetainPairedDataset.

    Returns (`__getitem__`):
        dict: `lq gt` (3, H, W), float32 in [0, 1], RGB, and `lq_path gt_path` (str).

    Raises:
        InputError: Missing files, pairs that do not match in name or size, an unreadable image.
    """

    def __init__(self, opt):
        super().__init__()
        self.opt = opt
        self.source = PairedSource(f'datasets: {opt.get("name")}', opt)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        lq, gt, lq_path, gt_path = self.source.read(index, rng=None)
        lq, gt = img2tensor([lq, gt], bgr2rgb=True, float32=True)
        return {'lq': lq, 'gt': gt, 'lq_path': lq_path, 'gt_path': gt_path}
