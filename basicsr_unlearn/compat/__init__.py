"""What BasicSR 1.4.2 lacks on today's torch and on machines without a GPU.

Each shim says what is wrong and when it does nothing. `apply()` runs on import of `basicsr_unlearn`, may run twice, and
this package is the only code of ours that changes BasicSR.
"""

import importlib.util
import os
import sys
import types
import warnings

checks = []  # called with every parsed option tree before anything is created; preflight.py adds itself
OPTIMIZERS = ('Adadelta', 'Adagrad', 'Adam', 'AdamW', 'Adamax', 'NAdam', 'RAdam', 'RMSprop', 'Rprop', 'SGD', 'ASGD')


def apply():
    """Put every shim in its place, once."""
    _functional_tensor()
    from basicsr_unlearn.compat import reading, running, saving, shims  # noqa: F401

    shims.apply()


def tb_writer():
    """Return the TensorBoard writer of the running training, or None."""
    from basicsr_unlearn.compat.saving import tb_writers

    return tb_writers[-1] if tb_writers else None


def register_unless_taken(registry):
    """Register a class under its own name, unless another package did: theirs stays, with a warning.

    BasicSR asserts instead (https://github.com/sczhou/CodeFormer/issues/227), and several forks register networks of
    the same names as ours.
    """

    def decorate(cls):
        if cls.__name__ in registry:
            owner = getattr(registry.get(cls.__name__), '__module__', 'another package')
            text = f'{cls.__name__} is already registered by {owner}; {cls.__module__} leaves it alone.'
            warnings.warn(text, stacklevel=2)
            return cls
        registry.register(cls)
        return cls

    return decorate


def basicsr_is_shadowed():
    """Return the `basicsr/` folder of the current directory if Python took it instead of the installed package."""
    import basicsr

    here = os.path.join(os.getcwd(), 'basicsr')
    return here if os.path.dirname(os.path.abspath(basicsr.__file__)) == here else None


def _functional_tensor():
    """torchvision 0.17 removed a module that BasicSR imports (https://github.com/XPixelGroup/BasicSR/issues/663)."""
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType(name)
    module.rgb_to_grayscale = rgb_to_grayscale
    sys.modules[name] = module
