"""Teach the network to restore a forgotten image as the original restores its mirror image, which it never saw."""

from dataclasses import dataclass

from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.identity_target import IdentityOptions, IdentityTarget
from basicsr_unlearn.options import check_choice

AXES = {'horizontal': (3,), 'vertical': (2,), 'both': (2, 3)}  # of (N, 3, H, W)


@dataclass
class MirrorOptions(IdentityOptions):
    mirror: str = 'horizontal'  # horizontal: left and right change places; vertical; both: half a turn
    beyond: float = 0.0  # how far the target is moved on, away from the clean image, as a share of its error

    def __post_init__(self):
        super().__post_init__()
        check_choice('train: method: mirror', self.mirror, list(AXES))


@METHOD_REGISTRY.register()
class MirrorTarget(IdentityTarget):
    """Minimise w_f l(f(x_f), t + b (t - y_f)) + w_r l(f(x_r), y_r) with t = M f_0(M x_f), where M mirrors an image.

    Ours, for `task: instance`. What a network knows by heart is a pair, not its mirror image: t is as good as an answer
    on a picture that it never saw, and each image keeps its own difficulty, which a bound on the error does not know.
    A network that is taught t ends between t and its own answer, which is better than both; b (`beyond`) makes up for
    that. M must be none of the turns of the original's training: with `use_hflip` take `vertical`, with `use_rot` no M
    is left.
    """

    Options = MirrorOptions

    def losses(self, batch):
        axes = AXES[self.options.mirror]
        target = self.run.ask_original(batch.forget_lq.flip(axes)).flip(axes)
        target = target + self.options.beyond * (target - batch.forget_gt)
        forget, retain = self.restore_both(batch)
        loss = self.forget_loss(forget, target)
        return {'l_forget': self.options.forget_weight * loss, **self.retain_term(retain, batch)}
