"""What `basicsr report` and `basicsr compare` do."""

import os
from os import path as osp

from basicsr_unlearn.errors import InputError
from basicsr_unlearn.report import compare as several
from basicsr_unlearn.report import view, write
from basicsr_unlearn.report.find import damaged, find


def report(text):
    """Write the page of an audit or of a finished run beside it, print the paths, and return the exit status.

    Args:
        text (str): NAME, `audits/NAME` or `experiments/NAME`.

    Raises:
        InputError: No such run or audit, a damaged file, or a page of somebody else in the way.
    """
    subject = find(text, 'report')
    page = _checked(subject, lambda: view.build(subject.audit))
    texts = _checked(subject, lambda: write.texts(page, subject.folder))
    return _save(page, texts, osp.join(subject.folder, 'report'))


def compare(texts, stem):
    """Write the page of several runs, print the paths, and return the exit status.

    Args:
        texts (list[str]): As for `report`.
        stem (str): Path of the three files without their suffixes.

    Raises:
        InputError: As for `report`, or the folder of `stem` cannot be made.
    """
    subjects = [find(text, 'compare') for text in texts]
    for subject in subjects:
        _checked(subject, lambda subject=subject: view.build(subject.audit))
    page = several.build([subject.audit for subject in subjects])
    stem = stem.removesuffix('.html')
    try:
        os.makedirs(osp.dirname(stem) or '.', exist_ok=True)
    except OSError as error:
        raise InputError(f'compare: -o {stem}: its folder cannot be made ({error.strerror}).') from None
    return _save(page, write.texts(page, '.'), stem)


def _checked(subject, make):
    """Return what `make` gives, or raise InputError: the file of the subject is damaged."""
    try:
        return make()
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise damaged(subject.file, f'{type(error).__name__} {error}', subject.audit.get('version')) from error


def _save(page, texts, stem):
    for path in write.save(texts, stem, page['made_by']):
        print(f'wrote {path}')
    return 0
