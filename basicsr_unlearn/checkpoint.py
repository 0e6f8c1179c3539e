"""Reading and writing weights: .pth and .ckpt without running code from them, .safetensors, the zoo's manifest."""

import hashlib
import json
import os
import pickle
from os import path as osp

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from basicsr_unlearn.errors import InputError

ZOO = osp.join(osp.dirname(__file__), 'zoo')
WRAPPERS = ('module.', '_orig_mod.', 'net.', 'net_g.')  # DDP, torch.compile, Lightning modules


def resolve(path):
    """Return the file behind a path: `zoo:NAME` is a file of this package, everything else is itself."""
    return osp.join(ZOO, path[4:]) if path.startswith('zoo:') else path


def atomic_save(content, path):
    """torch.save to a temporary file beside `path`, flushed to disk, then renamed: `path` is old or new, never half."""
    _atomic(path, lambda temporary: torch.save(content, temporary))


def atomic_write(text, path):
    """Write a text file as `atomic_save` does."""

    def write(temporary):
        with open(temporary, 'w', encoding='utf-8') as file:
            file.write(text)

    _atomic(path, write)


def _atomic(path, write):
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        write(temporary)
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        if osp.exists(temporary):
            os.remove(temporary)


def load_weights(path, option, param_key='params'):
    """Read the weights of one network.

    Args:
        path (str): A .pth, .ckpt or .safetensors file, or `zoo:NAME`.
        option (str): Option that named it, for error messages.
        param_key (str): Which entry holds them; if absent, `params`, `params_ema` and `state_dict` are tried, then the
            root. Default: `params`.

    Returns:
        dict[str, Tensor]: float32 on the CPU, without the prefixes of wrappers.

    Raises:
        InputError: No such file, not a checkpoint, or no tensors in it.
    """
    file = resolve(path)
    if not osp.isfile(file):
        raise InputError(f'{option}: {path}: no such file.')
    try:
        content = (
            load_file(file)
            if file.endswith('.safetensors')
            else torch.load(file, map_location='cpu', weights_only=True)
        )
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().split('\n')[0][:120]
        raise InputError(f'{option}: {path}: not a checkpoint that can be read safely ({reason}).') from None
    for key in (param_key, 'params', 'params_ema', 'state_dict'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    weights = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, dict) else {}
    if not weights:
        raise InputError(f'{option}: {path}: holds no weights under {param_key}, params, params_ema or state_dict.')
    return _strip({key: value.float() if value.is_floating_point() else value for key, value in weights.items()})


def _strip(weights):
    for prefix in WRAPPERS * 2:
        if all(key.startswith(prefix) for key in weights):
            weights = {key[len(prefix) :]: value for key, value in weights.items()}
    return weights


def load_into(net, path, option, param_key='params', strict=True):
    """Load weights into a network.

    Raises:
        InputError: `strict` and the keys or shapes differ (the first few are named), or nothing fits at all.
    """
    weights, own = load_weights(path, option, param_key), net.state_dict()
    missing = [key for key in own if key not in weights]
    extra = [key for key in weights if key not in own]
    shapes = [
        f'{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}'
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    faults = [
        f'{len(found)} {word} ({", ".join(found[:3])}{", ..." if len(found) > 3 else ""})'
        for word, found in (('missing', missing), ('unknown', extra), ('of another shape', shapes))
        if found
    ]
    if faults and (strict or len(missing) + len(shapes) == len(own)):
        raise InputError(
            f'{option}: {path} does not fit {type(net).__name__}: {"; ".join(faults)}. '
            'Make network_g that of the checkpoint.'
        )
    net.load_state_dict({k: v for k, v in weights.items() if k in own and v.shape == own[k].shape}, strict=strict)


def save_half(weights, path):
    """Write weights in half precision as .safetensors; return the sha256 of the file."""
    save_file({key: value.detach().cpu().half().contiguous() for key, value in weights.items()}, path)
    os.chmod(path, 0o644)  # safetensors leaves it readable for its owner alone
    return sha256(path)


def sha256(path):
    """Return the sha256 of a file as a hexadecimal string."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def manifest_entry(path):
    """Return what `manifest.json` beside a weight file says of it, or None.

    Raises:
        InputError: The file is not the one that the manifest describes.
    """
    file = resolve(path)
    manifest = osp.join(osp.dirname(file), 'manifest.json')
    if not osp.isfile(manifest) or not osp.isfile(file):
        return None
    with open(manifest, encoding='utf-8') as stream:
        entry = json.load(stream).get(osp.basename(file))
    if entry and entry['sha256'] != sha256(file):
        raise InputError(f'{path}: its sha256 is not the one in {manifest}. Restore the file.')
    return entry
