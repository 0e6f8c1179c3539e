"""How BasicSR's functions are replaced: each shim says what is wrong, and is handed the function that it replaces."""

import functools
import importlib

_shims = []


def apply():
    """Put every shim in its place, once."""
    for name, owners, replacement in _shims:
        owners = [_find(owner) for owner in owners]
        original = getattr(owners[0], name)
        if getattr(original, 'is_shim', False):
            continue
        wrapped = _around(original, replacement)
        for owner in owners:
            if hasattr(owner, name):
                setattr(owner, name, wrapped)


def shim(name, *owners):
    """Replace `name` in every owner (`module` or `module:Class`) by a function that is handed the original."""

    def decorate(replacement):
        _shims.append((name, owners, replacement))
        return replacement

    return decorate


def _find(owner):
    module, _, cls = owner.partition(':')
    module = importlib.import_module(module)
    return getattr(module, cls) if cls else module


def _around(original, replacement):
    @functools.wraps(original, updated=())
    def wrapped(*args, **kwargs):
        return replacement(original, *args, **kwargs)

    wrapped.is_shim = True
    return wrapped
