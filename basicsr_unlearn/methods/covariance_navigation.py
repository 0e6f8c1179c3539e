"""Forget in the directions that proxies do not use: public images in the place of retain data."""

from dataclasses import dataclass

from basicsr_unlearn.data.forget_retain_paired_dataset import MixedPairedDataset
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.null_space import NullSpaceMethod, NullSpaceOptions, all_but_smallest
from basicsr_unlearn.option_tables import RETAIN, SOURCE
from basicsr_unlearn.option_tree import check_source

PROXIES = 'train: method: proxies'


@dataclass
class CovarianceNavigationOptions(NullSpaceOptions):
    proxies: dict = None  # a source of images that stand for the retain set, or several by name, each with a `weight`
    threshold: float = 0.03  # directions with a smaller variance than this share of a layer's largest may change

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.threshold < 1:
            raise InputError(f'train: method: threshold: {self.threshold} must be at least 0 and below 1.')
        if not self.proxies:
            raise InputError(
                f'{PROXIES}: is missing. Name clean images that anybody may have, for example {{dataroot_gt: FOLDER, '
                'degradation: {type: gaussian_noise, sigma: 25}}.'
            )
        if any(key in SOURCE or not isinstance(value, dict) for key, value in self.proxies.items()):
            self.proxies = {'images': self.proxies}
        for name, source in self.proxies.items():
            check_source(f'{PROXIES}: {name}', source, {**SOURCE, 'weight': RETAIN['weight']})


@METHOD_REGISTRY.register()
class CovarianceNavigation(NullSpaceMethod):
    """Move the weights only where the inputs of their layer, on proxies of the retain set, have the least variance.

    Source: Abbasi et al., CovarNav: Machine Unlearning via Model Inversion and Covariance Navigation (arXiv
    2311.12999), of which only the abstract was at hand: proxies of the training data by model inversion, forget images
    relabelled with the most probable wrong class, and a projection of the gradient that protects the proxies. Unknown,
    and our choice: how the directions are chosen (the variance below `threshold` times the layer's largest), how many
    images, and the optimizer. Ours, for restorers: public clean images with degradations put on them for inversion,
    which needs the statistics of BatchNorm; the identity for the wrong class. Directions that the real retain data use
    and the proxies do not are not protected: watch them with a few real pairs in `datasets: train: retain`, which this
    method does not learn from.
    """

    Options = CovarianceNavigationOptions
    uses_retain = False

    def images(self):
        dataset = proxy_set(self.options, self.run.train_set.opt)
        return self.run.images(dataset, 'lq', self.options.images, 'covariances')

    def keep(self, name, variances):
        return all_but_smallest(variances, self.options.threshold)


def proxy_set(options, section):
    """Return the proxies as a data set, with the patches and turns of a section `datasets: train`."""
    return MixedPairedDataset({**section, 'sources': options.proxies}, PROXIES)
