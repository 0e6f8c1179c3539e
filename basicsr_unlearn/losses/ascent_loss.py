"""Gradient ascent on the forget set, made safe."""

import torch
from torch import nn

from basicsr.utils.registry import LOSS_REGISTRY
from basicsr_unlearn.errors import InputError

CRITERIA = {
    'L1': lambda difference: difference.abs(),
    'MSE': lambda difference: difference.square(),
    'Charbonnier': lambda difference: (difference.square() + 1e-12).sqrt(),
}


@LOSS_REGISTRY.register()
class AscentLoss(nn.Module):
    """Raise the error of the forgotten images until a bound is reached: per image `relu(m - l(pred, gt))`.

    Plain ascent, `-l(pred, gt)`, has no minimum for a regression network and destroys every task within some 50 steps;
    with a bound the gradient of an image vanishes once its error has reached it. Source: gradient ascent as in Su and
    Zheng, Accurate Forgetting for All-in-One Image Restoration Model (arXiv 2409.00685); the bound is ours.

    Args:
        criterion (str): `L1`, `MSE` or `Charbonnier` (eps 1e-12), averaged over an image. Default: `L1`.
        bound (str | float): m. `input`: l(lq, gt), the network no longer improves its input (for `task: degradation`);
            `unseen`: l(unseen, gt), it is no better than one that never saw the pair, each pair as difficult as it is
            (for `task: instance`); a number, in the unit of the criterion on images in [0, 1]; `none`: plain ascent,
            for comparisons. Default: `input`.
        loss_weight (float): Factor. Default: 1.0.
        reduction (str): Over the images: `mean`, `sum` or `none`. Default: `mean`.

    Raises:
        InputError: An unknown criterion, bound or reduction.
    """

    def __init__(self, criterion='L1', bound='input', loss_weight=1.0, reduction='mean'):
        super().__init__()
        if criterion not in CRITERIA:
            raise InputError(f'AscentLoss: criterion: {criterion} is unknown. Choose one of {", ".join(CRITERIA)}.')
        if bound is None:
            bound = 'none'
        if bound not in ('input', 'unseen', 'none') and (isinstance(bound, (str, bool)) or not bound > 0):
            raise InputError(f'AscentLoss: bound: {bound} is unknown. Choose input, unseen, none or a positive number.')
        if reduction not in ('mean', 'sum', 'none'):
            raise InputError(f'AscentLoss: reduction: {reduction} is unknown. Choose mean, sum or none.')
        self.criterion, self.bound = CRITERIA[criterion], bound
        self.loss_weight, self.reduction = loss_weight, reduction

    def forward(self, pred, gt, lq=None, unseen=None):
        """Compute the loss.

        Args:
            pred (Tensor): Restored images, (N, C, H, W) in [0, 1].
            gt (Tensor): Clean images, same shape.
            lq (Tensor): Degraded images, same shape; needed by `bound: input`.
            unseen (Tensor): Answers of one that never saw the pairs, same shape; needed by `bound: unseen`.

        Returns:
            Tensor: A scalar; (N,) with `reduction: none`.

        Raises:
            ValueError: `bound: input` without `lq`, `bound: unseen` without `unseen`.
        """
        error = self.criterion(pred - gt).flatten(1).mean(1)
        if self.bound == 'none':
            loss = -error
        elif self.bound in ('input', 'unseen'):
            worse = lq if self.bound == 'input' else unseen
            if worse is None:
                raise ValueError(
                    f'AscentLoss: bound: {self.bound} needs images: call it as loss(pred, gt, lq, unseen).'
                )
            with torch.no_grad():
                reach = self.criterion(worse - gt).flatten(1).mean(1)
            loss = torch.relu(reach - error)
        else:
            loss = torch.relu(self.bound - error)
        if self.reduction == 'none':
            return self.loss_weight * loss
        return self.loss_weight * (loss.mean() if self.reduction == 'mean' else loss.sum())
