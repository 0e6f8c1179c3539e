"""Finds the audit, or the finished run, that a page is made from."""

import dataclasses
import glob
import json
import os
from os import path as osp

from basicsr_unlearn import __version__
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.options import nearest
from basicsr_unlearn.report import unaudited
from basicsr_unlearn.report.words import LIGHTS

AUDIT, SUMMARY = 'audit.json', 'unlearn_summary.json'
PARTS = {
    'name': str,
    'private': bool,
    'nets': dict,
    'questions': list,
    'audits': dict,
    'sets': list,
    'pictures': list,
    'record': dict,
}


@dataclasses.dataclass
class Subject:
    """What a page is about: the content of audit.json, and the folder where it lies."""

    folder: str
    audit: dict
    file: str


def find(text, command):
    """Find an audit, or a finished run without one.

    Args:
        text (str): NAME, a folder `audits/NAME` or `experiments/NAME`, or a file in one of them.
        command (str): For messages.

    Returns:
        Subject: Of a run without an audit, every audit is missing.

    Raises:
        InputError: There is none, it has not finished, or its file is damaged.
    """
    text = osp.dirname(text) or '.' if osp.basename(text) in (AUDIT, SUMMARY) else text.rstrip('/')
    name = osp.basename(osp.abspath(text))
    places = [text, osp.join(text, '..', '..', 'audits', name)] if osp.isdir(text) else []
    places += [osp.join('audits', text), osp.join('experiments', text)]
    for file, make in ((AUDIT, _audit), (SUMMARY, _without_audit)):
        for place in places:
            path = osp.normpath(osp.join(place, file))
            if osp.isfile(path):
                return Subject(osp.dirname(path), make(path), path)
    if osp.isdir(osp.join('experiments', text)) or osp.isdir(text):
        raise InputError(f'{command}: {text}: holds no {AUDIT} and no {SUMMARY}: not an unlearning run that finished.')
    paths = glob.glob(f'audits/*/{AUDIT}') + glob.glob(f'experiments/*/{SUMMARY}')
    known = sorted({osp.basename(osp.dirname(path)) for path in paths})
    hint = nearest(name, known) if known else 'There are none here: `basicsr train` and `basicsr audit` make them.'
    raise InputError(f'{command}: {text}: no such run or audit in {os.getcwd()}. {hint}')


def damaged(path, reason, version=None):
    """Return the InputError for a file that is not of the shape that is known here."""
    of = f' (it says {version}; this is {__version__})' if version else ''
    again = 'basicsr audit' if osp.basename(path) == AUDIT else 'basicsr train'
    return InputError(f'{path}: is damaged, or of another version{of}: {reason}. Let `{again}` write it again.')


def _read(path):
    try:
        with open(path, encoding='utf-8') as file:
            found = json.load(file, parse_constant=lambda _: None)  # NaN and Infinity: unknown
    except ValueError as error:
        raise damaged(path, f'no JSON, {error}') from None
    if not isinstance(found, dict):
        raise damaged(path, f'not a section of keys, but {type(found).__name__}')
    return found


def _audit(path):
    found = _read(path)
    for key, kind in PARTS.items():
        if not isinstance(found.get(key), kind):
            raise damaged(path, f'{key} is missing or of the wrong type', found.get('version'))
    for question in found['questions']:
        try:
            lights = [question['light'], *(measure['light'] for measure in question['measures'])]
        except (KeyError, TypeError):
            raise damaged(path, 'questions: without lights or measures', found.get('version')) from None
        for light in lights:
            if light not in LIGHTS:
                raise damaged(path, f'questions: {light!r} is no light', found.get('version'))
    return found


def _without_audit(path):
    summary = _read(path)
    try:
        return unaudited.from_summary(summary, osp.basename(osp.dirname(osp.abspath(path))))
    except (KeyError, TypeError, ValueError):
        raise damaged(path, 'a key is missing or of the wrong type', summary.get('version')) from None
