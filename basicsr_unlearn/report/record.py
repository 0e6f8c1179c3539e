"""The record of an unlearning run for the data-protection officer: what, when, by what, and what is left."""

from basicsr_unlearn import leftovers
from basicsr_unlearn.models.summary import ENDINGS
from basicsr_unlearn.report import words
from basicsr_unlearn.report.words import NETS, UNKNOWN

SHOWN = 1000  # hashes on the page: the one of all of them covers the rest


def blocks(audit):
    """Return the blocks of the record of an audit."""
    found = audit['record']
    parts = [words.facts([(name, value) for name, value in _rows(audit, found) if value])]
    forgotten, options = found.get('forgotten') or {}, found.get('options') or {}
    hashes = forgotten.get('hashes') or []
    if hashes:
        title = f'sha256 of each forgotten pair ({len(hashes)})'
        rest = [f'and {len(hashes) - SHOWN} more in audit.json'] if len(hashes) > SHOWN else []
        parts.append({'kind': 'code', 'title': title, 'text': '\n'.join([*hashes[:SHOWN], *rest])})
    if options.get('text'):
        parts.append({'kind': 'code', 'title': 'Option file', 'text': options['text']})
    left = found.get('leftovers') or []
    if not left:
        return [*parts, words.missing('What is left of the forgotten data', 'Nothing is known to be left.')]
    head, *rows = leftovers.rows(left)
    purge = f'`basicsr purge {audit["run"]}` removes what lies in the folders of the run.' if audit.get('run') else ''
    return [*parts, words.table('What is left of the forgotten data', head, rows, purge)]


def _rows(audit, found):
    forgotten, weights = found.get('forgotten') or {}, found.get('weights') or {}
    versions, options, summary = found.get('versions') or {}, found.get('options') or {}, audit.get('summary') or {}
    pairs, files = forgotten.get('pairs'), forgotten.get('files')
    yield 'what was forgotten', forgotten.get('what')
    yield 'how much', pairs and f'{pairs} pairs' + (f', {files} files' if files else '')
    yield 'sha256 of all of it', _code(forgotten.get('sha256'))
    yield 'finished', found.get('finished')
    yield 'method', f'{audit["method"]}, task {audit["task"]}' if audit['method'] else None
    yield 'ended because', ENDINGS.get(summary.get('stopped_by'))
    yield 'iterations', _iterations(found)
    yield 'cost', _cost(found)
    yield 'versions', ', '.join(f'{name} {version}' for name, version in versions.items())
    yield 'seeds', ', '.join(map(str, found.get('seeds') or []))
    yield 'sha256 of the option file', _code(options.get('sha256'))
    yield 'sha256 of the weights before', _code(weights.get('before'))
    yield 'sha256 of the weights after', _code(weights.get('after'))
    for net, entry in audit['nets'].items():
        yield NETS.get(net, net), f'{entry["path"]}, sha256 `{entry["sha256"]}`'


def _code(text):
    return text and f'`{text}`'


def _iterations(found):
    if found.get('iterations') is None:
        return None
    kept = found.get('kept_iteration')
    return f'{found["iterations"]}; the weights of iteration {UNKNOWN if kept is None else kept} were kept'


def _cost(found):
    if found.get('cost') is None:
        return None
    share = found.get('cost_share')
    of = f", {share:.2%} of the oracle's" if share is not None else ''
    return f'{found["cost"]:.0f} image-forward-equivalents{of}'
