"""Adversarial examples for a regression network by projected gradient ascent."""

import torch

from basicsr_unlearn.options import check_choice

NORMS = ('l2', 'linf')


def pgd(images, objective, generator, norm='l2', eps_rms=4 / 255, steps=4, whole=None, first=0):
    """Climb an objective inside a ball around each image.

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks (ICLR 2018): a random start,
    normalised steps of 2.5 radius / steps, a projection after each. The gradient is taken with respect to the images
    alone: no weight gets a `.grad`, and whether weights ask for one changes nothing.

    Args:
        images (Tensor): (N, C, H, W), float32 in [0, 1].
        objective (callable): Of the attacked and the given images, both (N, C, H, W); gives N values to maximise, each
            depending on its own image alone.
        generator (torch.Generator): Draws the start.
        norm (str): `l2` or `linf`. Default: `l2`.
        eps_rms (float): Size of the ball, in the unit of the images. `l2`: the root mean square of a perturbation, so
            the radius is eps_rms * sqrt(C H W); `linf`: its largest value. Default: 4/255.
        steps (int): Gradient steps. Default: 4.
        whole (int): How many images are attacked at once where these are a part of them. Default: N.
        first (int): Place of these among them; an image has the same start in whatever part it is. Default: 0.

    Returns:
        Tensor: As `images`: inside the ball and in [0, 1].

    Raises:
        InputError: An unknown norm.
    """
    check_choice('pgd: norm', norm, NORMS)
    images = images.detach()
    starts = _start((whole or len(images), *images.shape[1:]), norm, generator)[first : first + len(images)]
    attacked = _project(images + eps_rms * starts.to(images.device), images, norm, eps_rms)
    for _ in range(steps):
        with torch.enable_grad():
            attacked.requires_grad_()
            (gradient,) = torch.autograd.grad(objective(attacked, images).sum(), attacked)
        step = 2.5 * eps_rms / steps * (_unit(gradient) if norm == 'l2' else gradient.sign())
        attacked = _project(attacked.detach() + step, images, norm, eps_rms)
    return attacked


def rms(images):
    """Return the root mean square of each image, (N, 1, 1, 1)."""
    return images.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def _start(shape, norm, generator):
    """Draw points of the unit ball: in any direction up to the boundary (l2), evenly (linf)."""
    device = generator.device
    if norm == 'linf':
        return 2 * torch.rand(shape, generator=generator, device=device) - 1
    length = torch.rand(shape[0], 1, 1, 1, generator=generator, device=device)
    return length * _unit(torch.randn(shape, generator=generator, device=device))


def _unit(direction):
    """Scale each image to a root mean square of 1; one without any direction stays zero."""
    return direction / rms(direction).clamp_min(torch.finfo(direction.dtype).tiny)


def _project(attacked, images, norm, eps_rms):
    """Go to the ball, then to [0, 1]: the images lie in both, so that the second step never leaves the first."""
    change = attacked - images
    if norm == 'l2':
        change = change * (eps_rms / rms(change).clamp_min(eps_rms))
    else:
        change = change.clamp(-eps_rms, eps_rms)
    return (images + change).clamp(0, 1)
