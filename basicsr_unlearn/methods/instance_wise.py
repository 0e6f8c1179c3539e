"""Instance-wise unlearning: ascent on the forget set, and adversarial examples in the place of the retain set."""

from dataclasses import dataclass
from functools import cached_property

from basicsr_unlearn.attacks.examples import EXAMPLES
from basicsr_unlearn.attacks.pgd import NORMS
from basicsr_unlearn.attacks.targets import TARGETS
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.methods.base import METHOD_REGISTRY, check_positive
from basicsr_unlearn.methods.gradient_ascent import AscentOptions, GradientAscent
from basicsr_unlearn.methods.importance import drift, residual_importance, stiffness
from basicsr_unlearn.options import check_choice

IMPORTANCE_IMAGES = 64  # forget patches that the importance is measured on


@dataclass
class InstanceOptions(AscentOptions):
    adv_weight: float = 1.0  # factor of l_adv
    n_adv: int = 1  # adversarial examples for each forget image of a batch
    craft: str = 'online'  # online: from each batch; cache: once, before iteration 1 (attacks/examples.py)
    cache_images: int = 256  # forget patches that the cache is crafted from
    keep_cache: bool = False  # leave the cache behind; it holds forget images
    target: str = 'untargeted'  # of the attack: identity, prompt or untargeted (attacks/targets.py)
    margin: float = 0.0  # dB that target: identity must gain for an example to be kept
    norm: str = 'l2'  # of the perturbation: l2 or linf
    eps_rms: float = 4 / 255  # its size: root mean square (l2) or largest value (linf), images in [0, 1]
    steps: int = 4  # of the attack
    importance_weight: float = 0.0  # lambda of the pull to the original's weights; 0: none

    def __post_init__(self):
        super().__post_init__()
        for name, known in (('craft', EXAMPLES), ('target', TARGETS), ('norm', NORMS)):
            check_choice(f'train: method: {name}', getattr(self, name), list(known))
        check_positive(self, 'n_adv', 'cache_images', 'eps_rms', 'steps')
        if not self.importance_weight >= 0:
            raise InputError(f'train: method: importance_weight: {self.importance_weight} must not be negative.')


@METHOD_REGISTRY.register()
class InstanceWise(GradientAscent):
    """Minimise w_f relu(m - l(f(x), y)) + w_a l(f(x_a), f_0(x_a)) (+ w_r l(f(x_r), y_r)), w_f : w_a = n_f : n_a.

    A reconstruction, never a reproduction: of Su and Zheng, Accurate Forgetting for All-in-One Image Restoration Model
    (arXiv 2409.00685), only the abstract was at hand. Theirs: gradient ascent on the forget set, regularised by
    adversarial examples. From the method for classifiers that it builds on (Cha et al., Learning to Unlearn, AAAI 2024,
    arXiv 2301.11578): the weights n_f and n_a, PGD from the forget images against the frozen original, the original's
    answers as labels, and the pull (lambda / 2) sum Omega (theta - theta_0)^2 with Omega = 1 - importance. Ours: the
    bound m of AscentLoss, f_0(x_a) for a class, the targets of the attack and the test of its success, the residual in
    the importance, retain images where there are any. `forget_opt: {type: IdentityLoss}` instead of ascent ends at the
    level of the oracle, which ascent passes.
    """

    Options = InstanceOptions
    uses_retain = True

    def __init__(self, options, run):
        super().__init__(options, run)
        self.iteration = 0
        self.examples = EXAMPLES[options.craft](run, options)

    def setup(self):
        self.examples.prepare()
        if self.options.importance_weight:
            self.run.cost += 3 * IMPORTANCE_IMAGES / self.run.world_size
            drift(self.run, self.omega)

    def losses(self, batch):
        examples, answers, number = self.examples.draw(batch, self.iteration)
        self.iteration += 1
        retain = [] if batch.retain_lq is None else [batch.retain_lq]
        forget, adversarial, *retain = self.run.forward(batch.forget_lq, examples, *retain)
        share = batch.whole / (batch.whole + number)
        distance = self.retain_loss(adversarial, answers) if len(adversarial) else forget.new_zeros(())
        distance = distance * (len(adversarial) * self.run.world_size / max(number, 1))  # a mean over all processes
        terms = {
            'l_forget': share * self.forget_term(forget, batch)['l_forget'],
            'l_adv': (1 - share) * self.options.adv_weight * distance,
        }
        if self.options.importance_weight:
            terms['l_anchor'] = self.options.importance_weight / 2 * drift(self.run, self.omega)
        return {**terms, **self.retain_term(retain[0] if retain else None, batch)}

    @cached_property
    def omega(self):
        """Omega of each weight, measured on forget images with the original."""
        return stiffness(residual_importance(self.run, self.run.original, IMPORTANCE_IMAGES))

    def export(self, net):
        self.examples.close()

    def state_dict(self):
        return {'iteration': self.iteration}

    def load_state_dict(self, state):
        self.iteration = state['iteration']
