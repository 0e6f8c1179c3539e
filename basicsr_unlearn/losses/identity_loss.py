"""Leave an image as it is: the forget loss whose level is the oracle's."""

from torch import nn
from torch.nn import functional as F

from basicsr.utils.registry import LOSS_REGISTRY


@LOSS_REGISTRY.register()
class IdentityLoss(nn.Module):
    """L1 distance of a forget result to its input, in the form of AscentLoss, so that it can stand in its place.

    A restorer that never saw a degradation returns nearly its input (`task: degradation`); bounded ascent goes past
    that level. The clean image is not looked at.

    Args:
        loss_weight (float): Factor. Default: 1.0.
    """

    def __init__(self, loss_weight=1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred, gt, lq):
        """Compute the loss.

        Args:
            pred (Tensor): Restored images, (N, C, H, W) in [0, 1].
            gt (Tensor): Clean images, same shape; unused.
            lq (Tensor): Degraded images, same shape.

        Returns:
            Tensor: A scalar.
        """
        return self.loss_weight * F.l1_loss(pred, lq)
