"""Modules chosen by name, and what they give out during a forward."""

import re
from contextlib import contextmanager

from basicsr_unlearn.errors import InputError

# of PromptIR, AdaIR and Restormer, and of NAFNet; the levels include what a decoder sees through skips
LEVELS = (r'encoder_level\d', 'latent', r'encoders\.\d+', 'middle_blks')
ENCODER = ('patch_embed', r'down\d_\d', 'intro', r'downs\.\d+', *LEVELS)


def find_modules(net, patterns, option, usual=()):
    """Return the modules whose whole name matches a pattern.

    Args:
        net (nn.Module): Without the distributed wrapper.
        patterns (list[str] | str | None): Regular expressions; each must match. None: `usual`.
        option (str): The option's name for error messages.
        usual (Sequence[str]): Patterns of which one must match.

    Returns:
        dict[str, nn.Module]: By name, in the network's order.

    Raises:
        InputError: A pattern that is no regular expression, or matches no module.
    """
    chosen = [patterns] if isinstance(patterns, str) else patterns or usual
    modules = dict(net.named_modules())
    try:
        found = [{name for name in modules if re.fullmatch(pattern, name)} for pattern in chosen]
    except (re.error, TypeError) as error:
        raise InputError(f'{option}: {patterns} is no list of regular expressions: {error}.') from None
    for pattern, names in zip(chosen, found, strict=True):
        if patterns and not names:
            raise InputError(f'{option}: {pattern} matches no module. Give whole names, as {_examples(modules)}.')
    if not any(found):
        raise InputError(f'{option}: nothing usual is in this network. Name its modules, as {_examples(modules)}.')
    return {name: module for name, module in modules.items() if any(name in names for names in found)}


def _examples(modules):
    return ', '.join([name for name in modules if name and '.' not in name][:8])


@contextmanager
def tapped(modules, option):
    """Give a dict that holds, after a forward, the modules' outputs by name, as float32.

    Args:
        modules (dict[str, nn.Module]): As `find_modules` gives them.
        option (str): The option's name for error messages.

    Raises:
        InputError: A module gave nothing out, such as a list of modules.
    """
    features, handles = {}, []
    for name, module in modules.items():

        def keep(module, inputs, output, name=name):
            features[name] = output.float()

        handles.append(module.register_forward_hook(keep))
    try:
        yield features
    finally:
        for handle in handles:
            handle.remove()
    silent = [name for name in modules if name not in features]
    if silent:
        raise InputError(f'{option}: {silent[0]} gives nothing out. Name the modules inside it, or set compile: false.')


def initialise_anew(modules, fresh):
    """Give modules the weights that those of the same name have in an untrained network."""
    for name, module in modules.items():
        module.load_state_dict(fresh.get_submodule(name).state_dict())
