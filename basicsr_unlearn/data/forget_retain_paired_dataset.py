"""The training data of unlearning, and of the all-in-one training that comes before it."""

import json

import numpy as np
from torch.utils import data

from basicsr.utils import img2tensor
from basicsr.utils.registry import DATASET_REGISTRY
from basicsr_unlearn.data.crops import augment
from basicsr_unlearn.data.image_header import ImageFault
from basicsr_unlearn.data.regions import RegionSource
from basicsr_unlearn.data.sampler import shuffled_index
from basicsr_unlearn.data.skipped import check_share
from basicsr_unlearn.data.sources import build_source
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import skipped_share

SECTION = 'datasets: train'


class _SampledDataset(data.Dataset):
    """A data set whose sample `number` depends on `manual_seed` and `number` alone (see sampler.py)."""

    counts_samples = True

    def __init__(self, opt):
        super().__init__()
        self.opt = opt
        self.seed = int(opt.get('manual_seed') or 0)
        self.size = opt.get('gt_size')
        self.max_skipped = skipped_share(opt)
        if not isinstance(self.size, int) or self.size < 8:
            raise InputError(f'{SECTION}: gt_size: {self.size} must be a patch size in pixels, at least 8.')

    def _build_mixture(self, option, sections, forget=None):
        """Build named sources and the chance of each."""
        sources = {name: build_source(f'{option}: {name}', opt, forget) for name, opt in sections.items()}
        weights = np.array([opt.get('weight', 1) for opt in sections.values()], float)
        if not (weights > 0).all():
            raise InputError(f'{option}: every weight must be a positive number, not {weights.tolist()}.')
        return sources, weights / weights.sum()

    def _draw(self, sources, chances, rng):
        name = list(sources)[rng.choice(len(sources), p=chances)]
        return name, self.read_pair(sources[name], int(rng.integers(len(sources[name]))), rng)

    def read_pair(self, source, index, rng):
        """Read, crop and turn one pair; with `on_error: skip` the next one of the source that can be used.

        Returns:
            tuple: Two (3, H, W) float tensors in [0, 1], channel order RGB, of a source with regions also their mask
            (1, H, W), two paths, and what was left out: a list of entries for data/skipped.py.
        """
        skipped = []
        while True:
            try:
                found = source.read((index + len(skipped)) % len(source), rng, self.size)
                break
            except ImageFault as fault:  # raised before the first random number is drawn
                if self.max_skipped is None:
                    raise
                skipped.append((source.option, source.files, fault.path, str(fault)))
                check_share(source.option, {path for _, _, path, _ in skipped}, source.files, self.max_skipped)
        *images, lq_path, gt_path = found
        images = augment(images, rng, self.opt.get('use_hflip', False), self.opt.get('use_rot', False))
        images = img2tensor([np.ascontiguousarray(image) for image in images], bgr2rgb=True, float32=True)
        return *images, lq_path, gt_path, skipped

    def _skipped(self, entries):
        """Return the entry of a sample that says what was left out for it: text, which a data loader passes on."""
        return {} if self.max_skipped is None else {'skipped': json.dumps(entries)}


@DATASET_REGISTRY.register()
class ForgetRetainPairedDataset(_SampledDataset):
    """Forget pairs, and beside each of them a pair that must stay.

    Args:
        opt (dict): The section `datasets: train`:
            forget (dict): The forget set, a source (below).
            retain (dict): Named sources to keep; absent or empty means retain-free unlearning.
            heldout (dict): A source of pairs like the forget set that no network was trained on: the stop rule compares
                with them, nothing is trained on them. Attribute `heldout`; None without.
            gt_size (int): Patch size in pixels.
            use_hflip (bool): Random left-right flips. Default: False.
            use_rot (bool): Random up-down flips and turns by 90 degrees. Default: False.
            on_error (str): `skip` takes the next pair of the source for an unreadable one. Default: raise.
            max_skipped (float): Share of a source's files that may be skipped. Default: 0.01.
            manual_seed (int): Filled in from the top of the option file.

    A source has either `dataroot_lq` and `dataroot_gt` (with BasicSR's `io_backend`, `meta_info_file` and
    `filename_tmpl`, or a `file_list`; several degraded files may share one clean file, as `0001_0.8_0.2.jpg` and
    `0001.png` do), or `dataroot_gt` and a `degradation`, or a number of `scenes` and a `degradation`, or
    `from: forget` and a `degradation`. In `retain` it may also have a `weight` (its share of the batch; default 1) and
    a `target`: `original` (default: what the network said before unlearning) or `gt`. `forget` may also have `regions`,
    a text file of boxes (regions.py).

    Returns (`__getitem__`):
        dict: `forget_lq forget_gt retain_lq retain_gt` (3, gt_size, gt_size), float32 in [0, 1], RGB;
        `retain_from_original` (bool); `forget_lq_path forget_gt_path retain_lq_path retain_gt_path retain_task` (str);
        with `regions` also `forget_region` (1, gt_size, gt_size), 1 inside of the boxes, else 0;
        with `on_error: skip` also `skipped` (str), JSON of what was left out.
        Without retain sources the retain entries are absent. The length is that of the forget set, with
        `regions` the number of images that they name.

    Raises:
        InputError: Missing folders, an empty set, pairs that do not match, an unreadable image, too large a patch.
    """

    def __init__(self, opt):
        super().__init__(opt)
        if not opt.get('forget'):
            raise InputError(
                f'{SECTION}: forget: is empty. Name the pairs to forget, for example with dataroot_lq and dataroot_gt.'
            )
        source = self.forget = build_source(f'{SECTION}: forget', opt['forget'])
        if opt['forget'].get('regions'):
            self.forget = RegionSource(source, f'{SECTION}: forget', opt['forget'], self.size)
        self.heldout = None
        if opt.get('heldout'):
            self.heldout = build_source(f'{SECTION}: heldout', opt['heldout'], source)
        sections = opt.get('retain') or {}
        self.retain, self.chances = self._build_mixture(f'{SECTION}: retain', sections, source)
        self.from_original = {}
        for name, section in sections.items():
            target = section.get('target', 'original')
            if target not in ('original', 'gt'):
                raise InputError(f'{SECTION}: retain: {name}: target: {target} is unknown. Choose original or gt.')
            self.from_original[name] = target == 'original'

    def __len__(self):
        return len(self.forget)

    def __getitem__(self, number):
        rng = np.random.default_rng((self.seed, 0, number))
        index = shuffled_index(number, len(self.forget), self.seed)
        *images, lq_path, gt_path, skipped = self.read_pair(self.forget, index, rng)
        sample = dict(zip(('forget_lq', 'forget_gt', 'forget_region'), images, strict=False))
        sample.update(forget_lq_path=lq_path, forget_gt_path=gt_path)
        if self.retain:
            name, (lq, gt, lq_path, gt_path, more) = self._draw(self.retain, self.chances, rng)
            skipped = skipped + more
            sample.update(
                retain_lq=lq,
                retain_gt=gt,
                retain_lq_path=lq_path,
                retain_gt_path=gt_path,
                retain_task=name,
                retain_from_original=self.from_original[name],
            )
        return {**sample, **self._skipped(skipped)}


@DATASET_REGISTRY.register()
class MixedPairedDataset(_SampledDataset):
    """Pairs of several degradations for all-in-one training with BasicSR's SRModel; the oracle is trained on it too.

    Args:
        opt (dict): As ForgetRetainPairedDataset, with `sources` (named sources with a `weight`) instead of `forget`
            and `retain`.
        option (str): Name of `sources`, for error messages. Default: that in `datasets: train`.

    Returns (`__getitem__`):
        dict: `lq gt` (3, gt_size, gt_size), float32 in [0, 1], RGB; `lq_path gt_path task` (str).
    """

    def __init__(self, opt, option=f'{SECTION}: sources'):
        super().__init__(opt)
        if not opt.get('sources'):
            raise InputError(f'{option}: is empty. Name at least one source of pairs.')
        self.sources, self.chances = self._build_mixture(option, opt['sources'])

    def __len__(self):
        return sum(len(source) for source in self.sources.values())

    def __getitem__(self, number):
        rng = np.random.default_rng((self.seed, 0, number))
        name, (lq, gt, lq_path, gt_path, skipped) = self._draw(self.sources, self.chances, rng)
        return {
            'lq': lq,
            'gt': gt,
            'lq_path': lq_path,
            'gt_path': gt_path,
            'task': name,
            **self._skipped(skipped),
        }
