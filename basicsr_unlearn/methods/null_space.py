"""What the inputs of a layer leave unused: updates of its weights in there do not change what it answers to them."""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from statistics import median

import torch

from basicsr_unlearn.methods.base import takes_degraded
from basicsr_unlearn.methods.forget_target import TargetOptions, unseen
from basicsr_unlearn.methods.layer_patches import layers_of, measure_covariances, to_rows, to_weight
from basicsr_unlearn.methods.mirror_target import MirrorTarget

ROUNDING = 1e-12  # variances below this share of a layer's largest are what rounding leaves of 0


def spectrum(covariance):
    """Return the variances along the eigenvectors, falling and never below 0, and the eigenvectors as columns."""
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(-1), vectors.flip(-1)
    return torch.where(values > ROUNDING * values[..., :1], values, 0), vectors


def largest_by_share(variances, share):
    """Say which directions to keep: the fewest whose standard deviations sum to a share of all.

    Args:
        variances (Tensor): (groups, d), falling.
        share (float): gamma; 1: all that have a variance.

    Returns:
        Tensor: (groups, d), bool.
    """
    sizes = variances.sqrt()
    sums = sizes.cumsum(-1)
    return (sizes > 0) & (sums - sizes < share * sums[..., -1:])


def all_but_smallest(variances, threshold):
    """Say which directions to keep: those with a variance of at least `threshold` times the largest of their group."""
    return (variances > 0) & (variances >= threshold * variances[..., :1])


class NullSpace:
    """Directions of each layer's weights that must not change.

    Args:
        covariances (dict[str, Tensor]): As `measure_covariances` gives them; emptied, for they are large.
        choose (callable): Which directions to keep: of a name and its variances (groups, d), a mask of their shape.

    Attributes:
        bases (dict[str, Tensor]): U of each layer, (groups, d, k), float64: the kept directions; a group that has fewer
            than k of them ends with zeros.
        kept (dict[str, tuple[int]]): How many directions of each layer are kept, and how many there are.
    """

    def __init__(self, covariances, choose):
        self.bases, self.kept = {}, {}
        for name in list(covariances):
            variances, vectors = spectrum(covariances.pop(name))
            mask = choose(name, variances)
            most = int(mask.sum(-1).max())
            self.bases[name] = (vectors * mask.unsqueeze(-2))[..., :most].clone()
            self.kept[name] = int(mask.sum()), mask.numel()

    @torch.no_grad()
    def project(self, net, start):
        """Take out of the way of every weight from `start` to `net` what lies in the kept directions, D <- D - D U U^T.

        Weights without a basis, biases, norms and buffers go back to those of `start`. Both are networks of one kind.
        """
        before = dict(chain(start.named_parameters(), start.named_buffers()))
        layers = {f'{name}.weight': (layer, self.bases.get(name)) for name, layer in layers_of(net).items()}
        for name, value in chain(net.named_parameters(), net.named_buffers()):
            layer, basis = layers.get(name, (None, None))
            if basis is None:
                value.copy_(before[name])
                continue
            first = before[name].double()
            way = to_rows(layer, value.double() - first)
            value.copy_(first + to_weight(layer, way - (way @ basis) @ basis.transpose(1, 2)))

    def table(self):
        """Return lines for people: of the parts of the network, how many percent of each layer's directions stay."""
        parts = {}
        for name, (kept, number) in self.kept.items():
            parts.setdefault(name.split('.')[0], []).append(100 * kept / number)
        rows = [('all', [share for shares in parts.values() for share in shares]), *parts.items()]
        head = f'{"part":<24}{"layers":>8}{"min %":>8}{"median %":>10}{"max %":>8}'
        lines = (f'{n:<24}{len(s):>8}{min(s):>8.0f}{median(s):>10.0f}{max(s):>8.0f}' for n, s in rows)
        return '\n'.join([head, *lines])


@dataclass
class NullSpaceOptions(TargetOptions):
    images: int = 256  # patches that the covariances are measured on

    def __post_init__(self):
        self.ascends = bool(takes_degraded(self.forget_opt))  # instead of a target
        super().__post_init__()


class NullSpaceMethod(MirrorTarget):
    """Minimise w_f l(f(x_f), t) (+ w_r l(f(x_r), y_r)) by steps that leave a layer's answers to what is kept alone.

    After the optimizer's step the way from the original to the current weights is projected, so that momentum, Adam and
    weight decay cannot leave the null space; as all earlier steps lie in it, that projects the last step alone, and no
    rounding adds up. Nothing but weights of convolutions and linear layers moves.
    """

    unmaskable = 'keeps to directions of the weights that a mask would leave'
    holds = 5.2  # bases in float64, in sizes of the small PromptIR; 1.6 to 3.4 of the published networks

    def trainable(self, net):
        chosen = {id(layer.weight) for layer in layers_of(net).values()}
        return [weight for weight in super().trainable(net) if id(weight) in chosen]

    def setup(self):
        self.run.cost += 3 * self.options.images / self.run.world_size  # the products are twice the work of the pass
        lines = f'{type(self).__name__}: directions that stay as they are, of each layer:\n{self.null_space.table()}'
        self.run.logger.info(lines)

    @cached_property
    def null_space(self):
        """The NullSpace; a resumed run measures it again, as it depends on the original alone."""
        covariances = measure_covariances(self.run.original, self.images())
        for covariance in covariances.values():
            self.run.total(covariance)
        return NullSpace(covariances, self.keep)

    def images(self):
        """Yield batches of images (N, 3, H, W) whose answers are to be kept."""
        raise NotImplementedError

    def keep(self, name, variances):
        """Return the mask of the directions of a layer to keep."""
        raise NotImplementedError

    def losses(self, batch):
        if not self.options.ascends:
            return super().losses(batch)
        forget, retain = self.restore_both(batch)
        loss = self.forget_loss(forget, batch.forget_gt, batch.forget_lq, **unseen(self.run, self.options, batch))
        return {'l_forget': self.options.forget_weight * loss, **self.retain_term(retain, batch)}

    def edit_weights(self):
        self.null_space.project(self.run.net, self.run.original)
