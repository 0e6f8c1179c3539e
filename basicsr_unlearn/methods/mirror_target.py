"""Teach the network to restore a forgotten image as one that never saw it: single pairs are forgotten."""

from dataclasses import dataclass

from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.forget_target import TargetOptions, forget_target
from basicsr_unlearn.methods.identity_target import IdentityTarget


@dataclass
class MirrorOptions(TargetOptions):
    forget_target: str = 'mirror'


@METHOD_REGISTRY.register()
class MirrorTarget(IdentityTarget):
    """Minimise w_f l(f(x_f), t + b (t - y_f)) + w_r l(f(x_r), y_r) with t = M f_0(M x_f), where M mirrors an image.

    Ours, for `task: instance`. What a network knows by heart is a pair, not its mirror image: t is as good as an answer
    on a picture that it never saw, and each image keeps its own difficulty, which a bound on the error does not know.
    A network that is taught t ends between t and its own answer, which is better than both; b (`beyond`) makes up for
    that. With `forget_target: reference` t is the answer of a network that never saw the pair. M must be none of the
    turns of the original's training: with `use_hflip` take `vertical`, with `use_rot` no M is left.
    """

    Options = MirrorOptions

    def target(self, batch):
        return forget_target(self.run, self.options, batch)
