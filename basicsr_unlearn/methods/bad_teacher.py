"""Two teachers: one that knows nothing for the forget set, the original for the retain set."""

from dataclasses import dataclass, field

import torch

from basicsr.losses import build_loss
from basicsr_unlearn.methods.base import METHOD_REGISTRY, MethodOptions, UnlearnMethod


@dataclass
class BadTeacherOptions(MethodOptions):
    forget_opt: dict = field(default_factory=lambda: {'type': 'L1Loss'})  # distance to the bad teacher
    forget_weight: float = 1.0  # factor of l_forget


@METHOD_REGISTRY.register()
class BadTeacher(UnlearnMethod):
    """Minimise w_f l(f(x_f), f_bad(x_f)) + w_r l(f(x_r), f_0(x_r)), where f_bad is randomly initialised.

    Source: Chundawat et al., Can Bad Teaching Induce Forgetting? (AAAI 2023). Theirs is the KL divergence, averaged
    over a batch of mixed samples. Ours: l of images; a mean for each set, so that the weights mean the same whatever
    the mix and the batch; f_0(x_r) is what the data gives as `target: original`, its default (`target: gt` makes it
    y_r). A restorer adds to its input, so a random one returns its input with some noise.
    """

    Options = BadTeacherOptions
    holds = saves = 1.0  # the teacher

    def __init__(self, options, run):
        super().__init__(options, run)
        self.forget_loss = build_loss(options.forget_opt).to(run.device)
        self.teacher = None

    def setup(self):
        self.teacher = self.run.fresh().requires_grad_(False)

    def ask_teacher(self, images):
        self.run.cost += len(images)
        with torch.no_grad():
            return self.teacher(images)

    def losses(self, batch):
        taught = self.ask_teacher(batch.forget_lq)
        forget, retain = self.restore_both(batch)
        loss = self.forget_loss(forget, taught)
        return {'l_forget': self.options.forget_weight * loss, **self.retain_term(retain, batch)}

    def state_dict(self):
        return {'teacher': self.teacher.state_dict()}

    def load_state_dict(self, state):
        self.teacher = self.run.fresh().requires_grad_(False)
        self.teacher.load_state_dict(state['teacher'])
