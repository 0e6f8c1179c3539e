"""The chain of requests that a network went through, and whether what earlier ones removed has come back."""

from basicsr_unlearn import history
from basicsr_unlearn.report import words
from basicsr_unlearn.report.words import number

NOTE = 'PSNR in dB before the first request and after each, on the validation sets of the runs; n/a: not measured then.'


def chain(audit, title='One request after another'):
    """Return the table of a run that had earlier requests, and nothing for any other run."""
    requests = (audit.get('summary') or {}).get('history') or []
    if len(requests) < 2:
        return []
    head, *rows = history.table(requests)
    shown = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
    return [words.table(title, head, shown, NOTE)]


def notices(audit):
    """Return what there is to say of earlier removals: which came back, which were not measured again."""
    summary = audit.get('summary') or {}
    return history.remarks(summary, only_returned=True) if summary.get('history') else []
