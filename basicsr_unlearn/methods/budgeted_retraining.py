"""Reset a part of the network, or all of it, and train on the retain set: what any method must beat at equal cost."""

from dataclasses import dataclass, field

from basicsr_unlearn.methods.base import METHOD_REGISTRY, MethodOptions
from basicsr_unlearn.methods.fine_tune import FineTune
from basicsr_unlearn.methods.taps import find_modules, initialise_anew

RESET = 'train: method: reset'


@dataclass
class RetrainingOptions(MethodOptions):
    reset: list = field(default_factory=lambda: ['.*'])  # patterns of whole module names to initialise anew; .*: all


@METHOD_REGISTRY.register()
class BudgetedRetraining(FineTune):
    """Initialise the modules of `reset` anew, then minimise l(f(x_r), y_r) for as long as `total_iter` allows.

    Source: EU-k of Goel et al., Towards Adversarial Evaluations for Inexact Machine Unlearning (arXiv 2201.06640),
    which resets the last k layers. Ours: any modules; with `.*` and `target: gt` it is the oracle's recipe cut short,
    with `target: original` a distillation of what is retained. Of the states on
    the way the stop rule keeps the best that reaches the forget level and is within the retain budget; where none is,
    the original is left as it was.
    """

    Options = RetrainingOptions
    needs_clean = False
    repairs = True

    def __init__(self, options, run):
        super().__init__(options, run)
        self.parts = self.modules(options, run.net)

    @classmethod
    def modules(cls, options, net):
        return find_modules(net, options.reset, RESET)

    def setup(self):
        initialise_anew(self.parts, self.run.fresh())
