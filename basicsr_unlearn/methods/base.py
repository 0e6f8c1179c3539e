"""What every unlearning method is, and what it is given."""

import math
from dataclasses import dataclass, field
from inspect import signature
from typing import ClassVar

import torch

from basicsr.losses import build_loss
from basicsr.utils.registry import LOSS_REGISTRY, Registry
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import check_choice, from_section

METHOD_REGISTRY = Registry('method')


@dataclass
class Batch:
    """One training batch on the device: images (N, 3, H, W), float32 in [0, 1]; no retain images: None.

    With several processes it is a part of a whole batch. What depends on the place of an image in a batch, or on the
    other images, must do so in the whole one: then the number of processes changes nothing.
    """

    forget_lq: torch.Tensor
    forget_gt: torch.Tensor
    retain_lq: torch.Tensor | None = None
    retain_gt: torch.Tensor | None = None  # the original's answer where the source says `target: original`
    whole: int | None = None  # forget images of all processes together; None: as many as here
    first: int = 0  # place of the first one of this process among them
    forget_region: torch.Tensor | None = None  # (N, 1, H, W), 1 inside of the regions to forget, else 0; None: all

    def __post_init__(self):
        self.whole = len(self.forget_lq) if self.whole is None else self.whole

    def own(self, values):
        """Return what belongs to the forget images of this process, of something that has all of them."""
        return values[self.first : self.first + len(self.forget_lq)]


@dataclass
class MethodOptions:
    """Options that every method has; a method adds its own in a subclass."""

    ascends: ClassVar[bool] = False  # whether `forget_opt` is called as loss(pred, gt, lq), away from the clean image

    task: str = 'degradation'  # what is forgotten: degradation, source or instance
    retain_opt: dict = field(default_factory=lambda: {'type': 'L1Loss'})  # loss on the retain images
    retain_weight: float = 1.0  # factor of l_retain

    def __post_init__(self):
        check_least(self)
        check_loss('train: method: retain_opt', self.retain_opt, False)
        if getattr(self, 'forget_opt', None):
            check_loss('train: method: forget_opt', self.forget_opt, self.ascends)


class UnlearnMethod:
    """An unlearning algorithm. Every hook has a default; `losses` is the one that a method must have.

    In the equations of the methods f_0 is the original, and y_r what `retain_gt` of a Batch holds: f_0(x_r) by default.

    Args:
        options (MethodOptions): The checked section `train: method:`.
        run (Run): The net, the frozen original, the device, the logger and `forward` (models/run.py).
    """

    Options = MethodOptions
    uses_retain = True  # False: retain images are not needed, and the original is not asked about them
    needs_retain = False  # True: cannot work without retain images
    needs_clean = False  # True: stands still where every retain source answers with the original
    holds = 0.0  # memory that it keeps beside the network and the original, in sizes of the network
    saves = 0.0  # what `state_dict` has, in sizes of the network
    unmaskable = None  # why SalUn cannot let some of its weights move alone: what it does instead, in words
    repairs = False  # True: damages first and repairs then; the retain budget is for the state that is left behind

    def __init__(self, options, run):
        self.options, self.run = options, run
        self.retain_loss = build_loss(options.retain_opt).to(run.device)

    @classmethod
    def modules(cls, options, net):
        """Return `{name: module}`: the modules of the network that the options name by patterns.

        Raises:
            InputError: A pattern matches none. Asked before a run creates anything, too.
        """
        return {}

    @classmethod
    def adapt(cls, options, net):
        """Add to a network, in place, what is trained beside its weights; asked before a run is resumed, too."""

    @property
    def done(self):
        """True when the method has nothing more to do; asked after every iteration."""
        return False

    def trainable(self, net):
        """Return the parameters that may move, before the optimizer is built."""
        return [parameter for parameter in net.parameters() if parameter.requires_grad]

    def setup(self):
        """Prepare, once, before iteration 1 (caches, masks, teachers); `run.batches` gives data."""

    def losses(self, batch):
        """Return the loss terms of a Batch: a dict of weighted scalars, `l_...`; their sum is minimised.

        An empty dict means no step of the optimizer: what one-shot methods return, which work in `edit_weights`.
        """
        raise NotImplementedError

    def edit_gradients(self):
        """Change gradients after backward."""

    def edit_weights(self):
        """Change weights after the optimizer's step."""

    def export(self, net):
        """Turn `net` into a plain network before the final save."""

    def plain(self, net):
        """Return the network that is saved in the place of `net`: one with the keys of network_g."""
        return net

    def state_dict(self):
        """Return what resume needs, made of tensors, numbers and strings."""
        return {}

    def load_state_dict(self, state):
        """Take back what `state_dict` gave."""

    def restore_both(self, batch):
        """Restore the forget and retain images in one forward; the retain result is None without retain images."""
        if batch.retain_lq is None:
            return self.run.forward(batch.forget_lq)[0], None
        return self.run.forward(batch.forget_lq, batch.retain_lq)

    def retain_term(self, pred, batch):
        """Return `{'l_retain': ...}`, empty without retain images."""
        if pred is None:
            return {}
        return {'l_retain': self.options.retain_weight * self.retain_loss(pred, batch.retain_gt)}


def check_least(options):
    """Raise InputError for a negative number among a method's options, or no images to measure on."""
    for name, value in vars(options).items():
        least = {'margin': -math.inf, 'images': 1}.get(name, 0)
        if isinstance(value, (int, float)) and value < least:
            raise InputError(f'train: method: {name}: {value} must be at least {least}.')


def check_positive(options, *names):
    """Raise InputError where one of these options of a method is not above 0."""
    for name in names:
        value = getattr(options, name)
        if not value or not value > 0:
            raise InputError(f'train: method: {name}: {value} must be a positive number.')


def takes_degraded(section):
    """Return whether a loss is one of ascent: those take the degraded image `lq`, too. None: no loss is known."""
    kind = section.get('type')
    if not isinstance(kind, str) or kind not in LOSS_REGISTRY:
        return None
    return 'lq' in signature(LOSS_REGISTRY.get(kind).forward).parameters


def check_loss(option, section, ascends):
    """Raise InputError for a loss that would pull the wrong way."""
    kind, found = section.get('type'), takes_degraded(section)
    if found is None:
        return  # the check of names says so
    if found != ascends:
        raise InputError(
            f'{option}: type: {kind} '
            + (
                'would draw the result to the clean image. Choose AscentLoss or IdentityLoss.'
                if ascends
                else 'is for methods that ascend. Choose a distance, such as L1Loss or CharbonnierLoss.'
            )
        )


def build_method(section, run, option='train: method'):
    """Build the method of an option section; `option` is its name for error messages.

    Raises:
        InputError: Unknown method or option; the nearest known name is given.
    """
    return method_class(section, option)(method_options(section, option), run)


def method_options(section, option='train: method'):
    """Return the options of a method, checked: an instance of its `Options`.

    Raises:
        InputError: An unknown option, or one of the wrong type.
    """
    own = {key: value for key, value in section.items() if key != 'type'}
    return from_section(method_class(section, option).Options, own, option)


def method_class(section, option='train: method'):
    """Return the registered class that `type` names.

    Raises:
        InputError: There is none.
    """
    names = [name for name, _ in METHOD_REGISTRY]
    check_choice(f'{option}: type', section.get('type'), names)
    return METHOD_REGISTRY.get(section['type'])
