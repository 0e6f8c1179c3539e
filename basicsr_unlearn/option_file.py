"""Option files, read without running code from them; numbers as people write them; `--force_yml`."""

import argparse
import math
import re
import sys
from os import path as osp

import yaml

from basicsr_unlearn.errors import InputError

LONGEST = 1 << 20  # characters of a file
DEEPEST = 40  # sections inside sections
MOST = 20_000  # entries, those that an alias repeats included
NULL, BOOL, INT, FLOAT, TEXT, MERGE = (f'tag:yaml.org,2002:{name}' for name in 'null bool int float str merge'.split())
PLAIN = {NULL, BOOL, INT, FLOAT, TEXT, MERGE, 'tag:yaml.org,2002:map', 'tag:yaml.org,2002:seq'}
INTEGER = re.compile(r'[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$')
REAL = re.compile(
    r'[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?)$'
    r'|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$'
)


class _Yaml(yaml.SafeLoader):
    """PyYAML's safe loader, for which 1e-4 is a number, and dates and times of day are text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag in (NULL, BOOL, MERGE)]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Forced(_Yaml):
    """For the values of `--force_yml`, where BasicSR knows None, and true and false in any case."""


_Yaml.add_implicit_resolver(INT, INTEGER, list('-+0123456789'))
_Yaml.add_implicit_resolver(FLOAT, REAL, list('-+.0123456789'))
_Forced.yaml_implicit_resolvers = {first: list(known) for first, known in _Yaml.yaml_implicit_resolvers.items()}
_Forced.add_implicit_resolver(NULL, re.compile(r'none$', re.IGNORECASE), list('nN'))
_Forced.add_implicit_resolver(BOOL, re.compile(r'(true|false)$', re.IGNORECASE), list('tTfF'))


class Loader:
    """What `yaml.load` takes for a loader; gives what is known of a file that has been checked, or reads it."""

    def __init__(self, stream, known=None):
        text = stream if isinstance(stream, str) else stream.read()
        self.tree = known or parse(text, getattr(stream, 'name', 'YAML'))

    def get_single_data(self):
        return self.tree

    def dispose(self):
        pass


def arguments():
    """Return the command line of this process as BasicSR's parser reads it; None if that would end with an error."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('-opt')
    parser.add_argument('--launcher', default='none')
    parser.add_argument('--auto_resume', action='store_true')
    parser.add_argument('--debug', action='store_true')
    parser.add_argument('--local_rank', default='0')
    parser.add_argument('--force_yml', nargs='+', default=[])
    found, rest = parser.parse_known_args()
    return found if found.opt is not None and not rest else None


def without_force(found):
    """Return a `sys.argv` that says what `arguments` found, less `--force_yml`."""
    plain = [sys.argv[0], f'-opt={found.opt}', f'--launcher={found.launcher}', f'--local_rank={found.local_rank}']
    return plain + ['--auto_resume'] * found.auto_resume + ['--debug'] * found.debug


def read(path, option, forced=()):
    """Read a YAML file that holds a section of keys.

    Args:
        path (str): The file.
        option (str): Option that named it, for error messages.
        forced (list[str]): Entries of `--force_yml`. Default: none.

    Returns:
        dict: Of dict, list, str, int, float, bool and None; no part of it stands in two places.

    Raises:
        InputError: No such file, no YAML, a tag, a key that is no text or stands twice, more than an option file holds.
    """
    name = f'{option} {path}' if option.startswith('-') else f'{option}: {path}'
    if not osp.isfile(path):
        raise InputError(f'{name}: no such file.')
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read(LONGEST + 1)
    except UnicodeDecodeError:
        raise InputError(f'{name}: not text. Not valid YAML.') from None
    except OSError as error:
        raise InputError(f'{name}: cannot be read: {error.strerror}.') from None
    tree = parse(text, name)
    if not isinstance(tree, dict) or not tree:
        raise InputError(f'{name}: holds no options. Write one with: basicsr init quickstart')
    for entry in forced or ():
        force(tree, entry)
    return tree


def parse(text, name, kind=_Yaml):
    """Return what a YAML text holds; `name` stands before every error message."""
    if len(text) > LONGEST:
        raise InputError(f'{name}: is longer than {LONGEST} characters. It is no option file.')
    try:
        loader = kind(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, name, loader)
        return _unshared(loader.construct_document(node))
    except RecursionError:
        raise InputError(f'{name}: is nested more than {DEEPEST} deep.') from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        mark = getattr(error, 'problem_mark', None)
        where = f'line {mark.line + 1}: ' if mark else ''
        problem = getattr(error, 'problem', None) or getattr(error, 'reason', None) or 'not text'
        raise InputError(f'{name}: {where}{problem}. Not valid YAML.') from None


def force(tree, entry):
    """Change an option tree in place by one entry `section:key=value` of `--force_yml`.

    Raises:
        InputError: No such section, no `=`, an empty key, a value that is no YAML.
    """
    name = f'--force_yml {entry}'
    if not entry.isprintable():
        raise InputError(f'{name}: holds a character that cannot be printed.')
    keys, equals, value = entry.partition('=')
    *sections, last = [key.strip() for key in keys.split(':')]
    section = tree
    for key in sections:
        section = section.get(key) if isinstance(section, dict) else None
    if not equals or not all([*sections, last]) or not isinstance(section, dict):
        raise InputError(f'{name}: write it as section:key=value with a section of the option file.')
    section[last] = forced_value(value.strip(), name)


def forced_value(text, name):
    """Return what the value of an entry of `--force_yml` means: a number, a list, a section, None, a bool, or text."""
    if text[:1] in tuple('[{"\'!'):
        return parse(text, name, _Forced)
    loader = _Forced('')  # anything else is one word, also where YAML would see a remark or an alias
    mark = loader.get_mark()
    node = yaml.ScalarNode(loader.resolve(yaml.ScalarNode, text, (True, False)), text, mark, mark)
    _check(node, name, loader)
    return loader.construct_object(node)


def _walk(node, depth=0):
    yield node, depth
    if depth <= DEEPEST and not isinstance(node, yaml.ScalarNode):
        pairs = node.value if isinstance(node, yaml.MappingNode) else [(child,) for child in node.value]
        for child in [child for pair in pairs for child in pair]:
            yield from _walk(child, depth + 1)


def _check(root, name, loader):
    """Raise InputError for nodes that an option file does not hold, before anything is made of them."""
    for number, (node, depth) in enumerate(_walk(root)):
        where = f'{name}: line {node.start_mark.line + 1}:'
        if depth > DEEPEST:
            raise InputError(f'{where} is nested more than {DEEPEST} deep.')
        if number > MOST:
            raise InputError(f'{where} stands for more than {MOST} entries, aliases counted as often as they are used.')
        if node.tag not in PLAIN:
            tag = node.tag.replace('tag:yaml.org,2002:', '!!')
            raise InputError(f'{where} the tag {tag} is not allowed: option files hold numbers, text, lists, sections.')
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, name)
        elif node.tag in (INT, FLOAT, BOOL):
            _check_value(node, where, loader)


def _check_keys(node, name):
    lines = {}
    for key, _ in node.value:
        where = f'{name}: line {key.start_mark.line + 1}:'
        if key.tag not in (TEXT, MERGE) or not key.value.strip() or not key.value.isprintable():
            shown = repr(key.value)[:40] if isinstance(key, yaml.ScalarNode) else 'that is a section or a list'
            raise InputError(f'{where} the key {shown} must be a word. Put it in quotes, or correct it.')
        if key.value in lines:
            raise InputError(f'{where} {key.value} stands twice, first in line {lines[key.value]}. Remove one.')
        lines[key.value] = key.start_mark.line + 1


def _check_value(node, where, loader):
    try:
        value = loader.construct_object(node)
        fits = -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)
    except (ValueError, OverflowError, KeyError, yaml.YAMLError):
        fits = False
    if not fits:
        raise InputError(f'{where} {str(node.value)[:40]} is no number to compute with.')


def _unshared(value):
    """Return a copy in which every alias has become a section of its own."""
    if isinstance(value, dict):
        return {key: _unshared(entry) for key, entry in value.items()}
    return [_unshared(entry) for entry in value] if isinstance(value, list) else value
