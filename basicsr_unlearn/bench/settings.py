"""The sections of a benchmark's option file, with their defaults."""

import itertools
import re
from dataclasses import dataclass, field

from basicsr_unlearn.errors import InputError


@dataclass
class Goals:
    """When a row counts as a success, dB."""

    forget_gap: float = 0.2  # |forget PSNR - the oracle's|
    retained_loss: float = 0.05  # that the worst retained task may lose against the original
    relearn_excess: float = 0.3  # E of the worst attack


@dataclass
class PairGoals:
    """When a row of single pairs counts as a success."""

    gap: float = 0.1  # dB: |calibrated lead of members over held-out pairs - the oracle's|
    auc: float = 0.03  # |calibrated AUC - the oracle's|
    retained_loss: float = 0.05  # dB that the worst retained set may lose against the original


@dataclass
class MembershipData:
    """What the attacker of single pairs has."""

    heldout: dict = None  # {val: source, test: source} of pairs like the forget set that were never trained on
    reference: str = None  # weights that saw neither; ~: the degraded picture says how difficult a pair is
    images: int = None  # of each kind at most; ~: all


@dataclass
class Stage:
    """How hard a stage looks."""

    images: int = None  # of each set, measured; ~: all
    attack_images: int = 8  # of each forget set, followed during an attack; ~: all
    lrs: list = field(default_factory=lambda: [1e-4])  # of the attack
    scopes: list = field(default_factory=lambda: ['all'])  # names of `attack: scopes:`
    seeds: list = field(default_factory=lambda: [0])  # of the attack
    steps: int = 100

    def check(self, option, scopes):
        """Raise InputError for empty lists, or values that are no rates, numbers or names."""
        for key, fits, example in (
            ('lrs', lambda lr: isinstance(lr, (int, float)) and lr > 0, '[1e-4]'),
            ('scopes', lambda scope: scope in scopes, f'[{scopes[0]}]; known: {", ".join(scopes)}'),
            ('seeds', lambda seed: isinstance(seed, int), '[0]'),
        ):
            values = getattr(self, key)
            if not values or not all(map(fits, values)):
                raise InputError(f'{option}: {key}: {values} must be a list such as {example}.')
        for key in ('images', 'attack_images', 'steps'):
            value = getattr(self, key)
            if not (value is None and key != 'steps') and not (value and value > 0):
                raise InputError(f'{option}: {key}: {value} must be a positive whole number.')

    def attacks(self):
        """Return every attack of the stage: (lr, scope, seed)."""
        return list(itertools.product(self.lrs, self.scopes, self.seeds))


@dataclass
class AttackData:
    """What the attacker has and may change."""

    data: dict = None  # a source of pairs of the forgotten kind that is used nowhere else
    batch_size: int = 4
    scopes: dict = field(default_factory=lambda: {'all': ['.*'], 'output': ['output']})  # regular expressions


@dataclass
class BenchOptions:
    """Everything in the file."""

    name: str
    base: str  # option file of an unlearning run: network, data, original, oracle
    rows: dict  # {name: {preset, set, search, budget, note}}
    sets: dict  # {val: {name: section}, test: {name: section}}
    attack: dict = None  # of a degradation; or
    membership: dict = None  # of single pairs (task: instance)
    set: dict = field(default_factory=dict)  # {a:b:c: value}, changes of the base
    oracle_2: str = None  # weights of an oracle trained with another seed: the noise floor
    search: dict = None  # {key of the option tree: values}, tried on every row that has no search of its own
    budget: float = 0.05  # share of the oracle's training cost that a row may spend
    seeds: list = field(default_factory=lambda: [0])
    finalists: int = 4
    crop: int = 256  # pixels, the centre of every measured image
    goals: dict = field(default_factory=dict)
    screening: dict = field(default_factory=dict)
    full: dict = field(default_factory=dict)
    val: dict = field(default_factory=dict)  # over those of the base


def run_name(row, trial, seed):
    """Return the name of a run, fit for a file."""
    return f'{re.sub(r"[^A-Za-z0-9]+", "_", row)}-t{trial}-s{seed}'
