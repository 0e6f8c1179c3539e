"""What the check before a run hands over to it: the pairs of every source, and the files that it is to skip.

Also how many names are kept: in one piece of memory each, which worker processes share. A Python string that is only
looked at is written to (its reference count), and so every worker would come to have a copy of all of them.
"""

import functools
from collections.abc import Sequence

import numpy as np

skipped = []  # entries for data/skipped.py
_answers = None  # {(function, arguments): answer}; None: nothing is kept


def keep():
    """From now on keep what functions marked `kept` find; what was found before is forgotten."""
    global _answers
    _answers = {}
    skipped.clear()


def drop():
    """Forget what was found, and keep no more."""
    global _answers
    _answers = None
    skipped.clear()


def kept(function):
    """Mark a function whose answer is found once between `keep` and `drop`."""

    @functools.wraps(function)
    def ask(*arguments):
        if _answers is None:
            return function(*arguments)
        key = function.__name__, repr(arguments)
        if key not in _answers:
            _answers[key] = function(*arguments)
        return _answers[key]

    return ask


class Names(Sequence):
    """Many strings, for example paths.

    Args:
        names (list[str]): They are copied.
    """

    def __init__(self, names):
        encoded = [name.encode('utf-8', 'surrogateescape') for name in names]
        self.ends = np.cumsum([0, *map(len, encoded)])
        self.text = b''.join(encoded)

    def __len__(self):
        return len(self.ends) - 1

    def __getitem__(self, index):
        index = range(len(self))[index]
        return self.text[self.ends[index] : self.ends[index + 1]].decode('utf-8', 'surrogateescape')


class Singles(Sequence):
    """`(name,)` for each of many names."""

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return (self.names[index],)


class Pairs(Sequence):
    """Many pairs of strings, of which the second ones may be given many times.

    Args:
        pairs (list[tuple[str, str]]): They are copied.
    """

    def __init__(self, pairs):
        self.first = Names([first for first, _ in pairs])
        numbers = {}
        self.numbers = np.array([numbers.setdefault(second, len(numbers)) for _, second in pairs], np.int32)
        self.second = Names(list(numbers))

    def __len__(self):
        return len(self.first)

    def __getitem__(self, index):
        return self.first[index], self.second[self.numbers[index]]
