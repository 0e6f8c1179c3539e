"""Is the skill still in one half of the network? Halves are exchanged with the original's."""

from copy import deepcopy

from basicsr_unlearn.audits.behaviour import psnr
from basicsr_unlearn.audits.subjects import answer, device
from basicsr_unlearn.methods.taps import ENCODER, find_modules

OPTION = 'audit: swap'


def swap(net, original, pairs, tiles, encoder=None):
    """Measure the net's encoder with the original's decoder, and the original's encoder with the net's decoder.

    Needs the original. A hybrid that restores what was forgotten shows that its unlearned half still can; what a
    hybrid with a stranger's half does says how much of that is chance, so read it beside the oracle's.

    Args:
        net (nn.Module): Restorer; left as it is.
        original (nn.Module): Of the same architecture; left as it is.
        pairs (list): `(lq, gt)`, (1, 3, H, W) in [0, 1] each, of the forgotten kind.
        tiles (dict): Of `restore`.
        encoder (list[str]): Patterns of module names. Default: those of PromptIR, AdaIR, Restormer, NAFNet.

    Returns:
        dict: `encoder` and `decoder`: mean PSNR in dB of the hybrid that has this half of the net.
    """
    hybrids = {'encoder': (original, net), 'decoder': (net, original)}
    found = {}
    for name, (body, giver) in hybrids.items():
        hybrid, halves = deepcopy(body), find_modules(giver, encoder, OPTION, ENCODER)
        for key, module in halves.items():
            hybrid.get_submodule(key).load_state_dict(module.state_dict())
        values = [psnr(answer(hybrid, lq, tiles), gt.to(device())) for lq, gt in pairs]
        found[name] = sum(values) / len(values)
    return found
