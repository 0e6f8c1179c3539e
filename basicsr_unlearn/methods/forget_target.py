"""What a forgotten image should become, in the place of its clean image."""

from dataclasses import dataclass

import torch

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.identity_target import IdentityOptions
from basicsr_unlearn.methods.regions import FILLS, painted
from basicsr_unlearn.options import check_choice

AXES = {'horizontal': (3,), 'vertical': (2,), 'both': (2, 3)}  # of (N, 3, H, W)
TARGETS = {
    'identity': 'its degraded image: what a network that never saw the degradation makes of it',
    'mirror': "the original's answer to its mirror image, mirrored back: what is known by heart is the pair alone",
    'reference': 'the answer of `path: pretrain_network_reference`, a network that never saw the pair',
    'region': "the original's answer, and in the `regions` of the forget set its clean image painted over",
}


@dataclass
class TargetChoice:
    """What a method's options have that asks for such a target; a part of MethodOptions."""

    forget_target: str = None  # a name of TARGETS; ~: by task: mirror for instance, else identity
    mirror: str = 'horizontal'  # horizontal: left and right change places; vertical; both: half a turn
    region_fill: str = 'mean'  # what regions are painted with: mean, blur or grey (regions.py)
    beyond: float = 0.0  # how far the target is moved on, away from the clean image, as a share of its error

    def __post_init__(self):
        super().__post_init__()
        if self.forget_target is not None:
            check_choice('train: method: forget_target', self.forget_target, list(TARGETS))
        if self.ascends and self.forget_target == 'region':
            raise InputError(
                'train: method: forget_target: region: ascent would forget whole patches. Choose a method that is '
                'taught its target, such as MirrorTarget.'
            )
        if self.ascends and not needs_unseen(self):
            self.forget_target = 'identity'  # nobody is asked
        if self.forget_target is None:
            self.forget_target = 'mirror' if self.task == 'instance' else 'identity'
        check_choice('train: method: mirror', self.mirror, list(AXES))
        check_choice('train: method: region_fill', self.region_fill, list(FILLS))
        if self.beyond and self.forget_target not in ('mirror', 'reference'):
            raise InputError(
                f'train: method: beyond: {self.beyond} goes with forget_target: mirror or reference. Take it out.'
            )


@dataclass
class TargetOptions(TargetChoice, IdentityOptions):
    """Of methods that teach the network the target."""


def forget_target(run, options, batch):
    """Return what the forget images of a Batch should become, t + b (t - y_f) with t by `forget_target` (TARGETS).

    `mirror` must be none of the turns of the original's training: with `use_hflip` take `vertical`, with `use_rot` no
    mirror is left, and a reference is needed.

    Args:
        run (Run): Gives the original and the reference.
        options (TargetOptions): Of the method.
        batch (Batch): Of training.

    Returns:
        Tensor: (N, 3, H, W), without gradient.
    """
    if options.forget_target == 'identity':
        return batch.forget_lq
    if options.forget_target == 'region':
        region = batch.forget_region
        clean = painted(batch.forget_gt, region, options.region_fill)
        return torch.where(region.bool(), clean, run.ask_original(batch.forget_lq))
    if options.forget_target == 'mirror':
        target = ask_mirrored(run, batch.forget_lq, options.mirror)
    else:
        target = run.ask_reference(batch.forget_lq)
    return target + options.beyond * (target - batch.forget_gt)


def ask_mirrored(run, images, mirror):
    """Return M f_0(M x) of images (N, 3, H, W); M is one of AXES."""
    return run.ask_original(images.flip(AXES[mirror])).flip(AXES[mirror])


def needs_unseen(options):
    """Return whether a bound of AscentLoss is the error of one that never saw the pair: that of `forget_target`."""
    return options.forget_opt.get('bound') == 'unseen'


def unseen(run, options, batch):
    """Return what AscentLoss is given beside the images of a Batch: `{'unseen': answers}`, where its bound needs it."""
    return {'unseen': forget_target(run, options, batch)} if needs_unseen(options) else {}
