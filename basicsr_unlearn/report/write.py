"""A page as HTML, Markdown and JSON, and the three files."""

import base64
import html
import json
import re
from functools import cache
from os import path as osp

import jinja2
from markupsafe import Markup

from basicsr_unlearn.atomic import atomic_write
from basicsr_unlearn.errors import InputError
from basicsr_unlearn.models.summary import markdown_table
from basicsr_unlearn.report import charts
from basicsr_unlearn.report.words import LIGHTS, text_of

KINDS = {'.jpg': 'jpeg', '.jpeg': 'jpeg', '.png': 'png', '.webp': 'webp'}
LARGEST = 4_900_000  # bytes of a page with pictures


def texts(page, folder):
    """Return `{suffix: text}` of a page.

    Args:
        page (dict): As `view.build` gives it.
        folder (str): To which the files of its pictures are relative.
    """
    return {
        '.html': to_html(page, folder),
        '.md': to_markdown(page),
        '.json': json.dumps(page, indent=1) + '\n',
    }


def save(found, stem, made_by):
    """Write the files and return their paths; only an earlier page of ours is replaced.

    Raises:
        InputError: Something else stands in the way.
    """
    for suffix in found:
        _check_free(stem + suffix, made_by)
    for suffix, text in found.items():
        atomic_write(text, stem + suffix)
    return [stem + suffix for suffix in found]


def _check_free(path, made_by):
    if not osp.lexists(path):
        return
    if osp.isfile(path) and not osp.islink(path):
        with open(path, encoding='utf-8', errors='replace') as file:
            if made_by in file.read(400):
                return
    raise InputError(f'{path}: is there already, and not written by `{made_by}`. Move it away.')


def to_html(page, folder):
    """Return the page as HTML that needs nothing but itself."""
    room = 0
    for _ in range(2):  # without pictures, then with those that find room
        text = _template().render(page=page, pictures=_Pictures(folder, room), LIGHTS=LIGHTS)
        room = LARGEST - len(text.encode())
    return text


@cache
def _template():
    loader = jinja2.FileSystemLoader(osp.dirname(__file__))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(draw=charts.draw, mark=charts.mark, text_of=text_of, code=_code)
    return environment.get_template('page.html')


def _code(text):
    """Return text with what stands between backticks as code."""
    parts = [
        (Markup('<code>{}</code>') if index % 2 else Markup('{}')).format(part)
        for index, part in enumerate(text.split('`'))
    ]
    return Markup('').join(parts)


class _Pictures:
    """Pictures as data URIs, as long as there is room.

    Args:
        folder (str): To which their paths are relative.
        room (int): Bytes.
    """

    def __init__(self, folder, room):
        self.folder, self.room = osp.realpath(folder), room

    def whole(self, item):
        """Return `[(net, label, URI)]` of an item whose files are all there and find room; otherwise nothing."""
        contents = []
        for picture in item['pictures']:
            path = osp.realpath(osp.join(self.folder, picture['file']))
            suffix = osp.splitext(path)[1].lower()
            if osp.commonpath([self.folder, path]) != self.folder or suffix not in KINDS:
                raise InputError(f'{self.folder}: {picture["file"]!r} is no picture of this audit. Audit again.')
            if not osp.isfile(path):
                return []
            with open(path, 'rb') as file:
                code = base64.b64encode(file.read()).decode()
            contents.append((picture['net'], picture['label'], f'data:image/{KINDS[suffix]};base64,{code}'))
        size = sum(len(uri) for _, _, uri in contents)
        if size > self.room:
            return []
        self.room -= size
        return contents


def to_markdown(page):
    """Return the page as Markdown; pictures are links to the files beside it."""
    lines = [
        f'<!-- {page["made_by"]} {page["version"]} -->',
        '',
        f'# {_plain(page["title"])}',
        '',
        _plain(page['summary']),
    ]
    if page['facts']:
        lines += ['', _plain(', '.join(page['facts']) + '.')]
    for notice in page['notices']:
        lines += ['', f'**{_plain(notice)}**']
    if page['cards']:
        rows = [(card['question'], card['text'], card['sentence'], _limits(card)) for card in page['cards']]
        lines += ['', *_table(('question', 'light', 'answer', 'thresholds'), rows)]
    for section in page['sections']:
        lines += ['', f'## {_plain(section["title"])}']
        for block in section['blocks']:
            lines += ['', *BLOCKS[block['kind']](block)]
    return '\n'.join(lines) + '\n'


def _limits(card):
    return '; '.join(f'{limit["name"]}: {limit["rule"]} ({limit["text"]})' for limit in card['limits'])


def _plain(text):
    """Return text without what Markdown or HTML would take for more than text."""
    return re.sub(r'([\\*\[\]|])', r'\\\1', html.escape(' '.join(str(text).split()), quote=False))


def _table(head, rows):
    return markdown_table([[_plain(text_of(cell)) for cell in row] for row in [head, *rows]])


def _of_table(block):
    note = ['', _plain(block['note'])] if block['note'] else []
    return [f'### {_plain(block["title"])}', '', *_table(block['head'], block['rows']), *note]


def _of_charts(block):
    note = [_plain(block['note']), ''] if block['note'] else []
    notes = [f'- {_plain(chart["title"])}: {_plain(chart["note"])}' for chart in block['charts'] if chart['note']]
    numbers = block['numbers']
    shown = _table(numbers['head'], numbers['rows']) if numbers else ['The curves are in the HTML and the JSON.']
    return [f'### {_plain(block["title"])}', '', *note, *notes, *[''] * bool(notes), *shown]


def _of_gallery(block):
    lines = [f'### {_plain(block["title"])}', '', *[_plain(block['note']), ''] * bool(block['note'])]
    for item in block['shown']:
        shown = [f'![{picture["label"]}](<{picture["file"]}>)' for picture in item['pictures']]
        lines += [_plain(item['name']), '', ' '.join(shown), '']
    return lines[:-1]


def _of_code(block):
    fence = '`' * max(3, 1 + max(map(len, re.findall('`+', block['text'])), default=0))
    return [f'### {_plain(block["title"])}', '', fence, block['text'].rstrip(), fence]


BLOCKS = {
    'table': _of_table,
    'charts': _of_charts,
    'gallery': _of_gallery,
    'code': _of_code,
    'facts': lambda block: _table(('what', 'value'), block['rows']),
    'missing': lambda block: [f'### {_plain(block["title"])}', '', f'n/a: {_plain(block["text"])}'],
}
