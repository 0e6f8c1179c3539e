"""The metrics that an option file chooses: `val: metrics: NAME: {type: ..., options}`, as in BasicSR."""

import dataclasses
from collections.abc import Callable
from inspect import Parameter, signature

import numpy as np

from basicsr.utils.registry import METRIC_REGISTRY
from basicsr_unlearn import options
from basicsr_unlearn.errors import InputError

TABLE = {'psnr': {'type': 'calculate_psnr'}, 'ssim': {'type': 'calculate_ssim'}}  # of an unlearning run
CHECKED = ('basicsr', 'basicsr_unlearn')  # packages whose metrics ignore what they do not know


@dataclasses.dataclass
class ChosenMetric:
    """A metric with its options.

    Attributes:
        name (str): Its key in `val: metrics`.
        function (callable): Registered in BasicSR's METRIC_REGISTRY.
        options (dict): Arguments besides the images.
        better (str): `higher` or `lower`.
    """

    name: str
    function: Callable
    options: dict
    better: str

    @property
    def form(self):
        """What it is handed: (multiple of pixels that both images are cut to beforehand, float RGB or 8-bit BGR)."""
        return getattr(self.function, 'crop', 1), getattr(self.function, 'float_rgb', False)

    @property
    def needs_clean(self):
        """Whether it compares two images; NIQE and its like look at one."""
        return 'img2' in signature(self.function).parameters

    @property
    def entry(self):
        """How it was chosen, defaults included, for the summary of a run."""
        return {'type': self.function.__name__, **self.options}

    def __call__(self, img, img2):
        """Measure one image, (H, W, 3) in the form that `form` says; `img2` is None where no clean image exists."""
        images = {'img': img} if img2 is None else {'img': img, 'img2': img2}
        if img2 is None and self.needs_clean:
            raise InputError(f'val: metrics: {self.name}: {self.function.__name__} needs clean images (dataroot_gt).')
        return float(self.function(**images, **self.options))

    def try_out(self):
        """Measure two drawn images, so that a bad option or a missing library shows before a run begins.

        Raises:
            InputError: The metric fails.
        """
        images = np.random.default_rng(0).integers(0, 256, (2, 192, 192, 3), np.uint8)  # NIQE's least size
        if self.form[1]:
            images = images.astype(np.float32) / 255
        try:
            self(*images)
        except InputError as error:
            raise InputError(f'val: metrics: {self.name}: {error}') from None
        except Exception as error:
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise InputError(f'val: metrics: {self.name}: {self.function.__name__} fails: {reason}') from None


def with_table(section):
    """Return `val: metrics` with the metrics of an unlearning run's table, where it does not name them itself."""
    return {**TABLE, **(section or {})}


def choose_metrics(section):
    """Return the ChosenMetric of each entry of `val: metrics`.

    Args:
        section (dict): `{name: {type: ..., better: ..., options}}`. `crop_border` is 0 if it is missing. Never changed.

    Raises:
        InputError: An unknown type, an unknown or missing option, `better` that is neither `higher` nor `lower`.
    """
    if not isinstance(section, dict):
        raise InputError(f'val: metrics: {section!r}: write NAME: {{type: calculate_psnr}}.')
    return [_choose(f'val: metrics: {name}', name, entry) for name, entry in section.items()]


def _choose(option, name, entry):
    if not isinstance(entry, dict):
        raise InputError(f'{option}: {entry!r} must be a section, for example {{type: calculate_psnr}}.')
    own = dict(entry)
    kind = own.pop('type', None)
    options.check_choice(f'{option}: type', kind, [registered for registered, _ in METRIC_REGISTRY])
    function = METRIC_REGISTRY.get(kind)
    better = own.pop('better', getattr(function, 'better', 'higher'))
    if better not in ('higher', 'lower'):
        raise InputError(f'{option}: better: {better} must be higher or lower.')
    parameters = {key: value for key, value in signature(function).parameters.items() if key not in ('img', 'img2')}
    open_ended = [key for key, value in parameters.items() if value.kind is Parameter.VAR_KEYWORD]
    known = {key: value for key, value in parameters.items() if key not in open_ended}
    if not open_ended or function.__module__.split('.')[0] in CHECKED:
        options.check_keys(option, own, [*known, 'type', 'better'])
    if 'crop_border' in known:
        own.setdefault('crop_border', 0)
    for key, value in known.items():
        if value.default is Parameter.empty and key not in own:
            raise InputError(f'{option}: {key}: is missing.')
    return ChosenMetric(name, function, own, better)
