"""Forget by removal: initialise the deepest modules anew, and teach them everything but what is to go."""

from dataclasses import dataclass

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY
from basicsr_unlearn.methods.identity_target import IdentityOptions, IdentityTarget
from basicsr_unlearn.methods.taps import find_modules, initialise_anew

RESET = 'train: method: reset'
DEEPEST = ('latent', r'prompt3', r'noise_level3', r'reduce_noise_level3', r'down3_4', r'up4_3', 'fre1', 'middle_blks')


@dataclass
class DeepForgetOptions(IdentityOptions):
    reset: list = None  # patterns of whole module names to initialise anew; ~: the deepest level of a U-shaped network
    forget_share: float = 0.34  # of the forget images of a batch that are used, at least one


@METHOD_REGISTRY.register()
class DeepForget(IdentityTarget):
    """Initialise the modules of `reset` anew, then minimise w_f l(f(x_f), x_f) + w_r l(f(x_r), y_r).

    Ours. A method that only moves weights until haze is left alone hides the skill: the features that remove haze are
    still there, and a little fine-tuning on haze finds them (audits/relearn.py). Here the modules that hold most of
    them are gone before anything is learnt: the deepest level, where a restorer sees the whole patch and tells one
    degradation from another. What stays, the outer levels, lets retained tasks come back in a few percent of a
    training. The two parts are known: EU-k of Goel et al. (arXiv 2201.06640) resets layers, the identity target is the
    oracle's level. As long as the retained tasks are not back within the retain budget nothing is kept.
    """

    Options = DeepForgetOptions
    needs_retain = True
    repairs = True

    def __init__(self, options, run):
        super().__init__(options, run)
        if not 0 < options.forget_share <= 1:
            raise InputError(
                f'train: method: forget_share: {options.forget_share} must be above 0 and at most 1, for example 0.34.'
            )
        self.parts = self.modules(options, run.net)

    @classmethod
    def modules(cls, options, net):
        return find_modules(net, options.reset, RESET, DEEPEST)

    def setup(self):
        initialise_anew(self.parts, self.run.fresh())

    def losses(self, batch):
        number = max(1, round(self.options.forget_share * len(batch.forget_lq)))
        batch.forget_lq, batch.forget_gt = batch.forget_lq[:number], batch.forget_gt[:number]
        return super().losses(batch)
