"""Charts as inline SVG. Colours are CSS classes, so that dark and light pages need one drawing."""

import math

from markupsafe import Markup

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 348, 10, 210  # of the plot
SHAPES = {
    'square': 'M-3-3h6v6h-6z',
    'circle': 'M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z',
    'triangle': 'M0-4 4 3.2-4 3.2z',
    'diamond': 'M0-4.4 4.4 0 0 4.4-4.4 0z',
    'down': 'M0 4 4-3.2-4-3.2z',
    'cross': 'M-1-4h2v3h3v2h-3v3h-2v-3h-3v-2h3z',
}
MARKS = {'original': 'square', 'unlearned': 'circle', 'oracle': 'triangle', 'oracle_2': 'diamond'}
WHOLE = 60  # radius of an area of 1
STEPS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000)


class Axis:
    """A scale from values to pixels.

    Args:
        values (list[float]): To be shown.
        first, last (float): Pixels of the low and the high end.
        limits (list): [low, high] instead of what the values need. Default: None.
        steps (bool): Logarithmic, with 0. Default: False.
    """

    def __init__(self, values, first, last, limits=None, steps=False):
        self.first, self.last, self.steps = first, last, steps
        low, high = limits or (min(values), max(values))
        margin = 0 if limits or steps else 0.07 * (high - low) or 0.5
        self.low, self.high = low - margin, high + margin + (low == high and bool(steps))

    def place(self, value):
        """Return the pixel of a value."""
        low, high, value = map(self._scale, (self.low, self.high, value))
        return self.first + (value - low) / (high - low) * (self.last - self.first)

    def _scale(self, value):
        return math.log1p(value) if self.steps else value

    def ticks(self):
        """Return `[(pixel, text)]` at round values."""
        if self.steps:
            return [(self.place(tick), str(tick)) for tick in STEPS if self.low <= tick <= self.high]
        rough = (self.high - self.low) / 4
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        ticks = [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [(self.place(tick), f'{tick + 0.0:.{digits}f}'.replace('-', '−')) for tick in ticks]


def draw(chart):
    """Return the SVG of what `words.chart` gives."""
    points = [point for series in chart['series'] for point in series['points'] if None not in point[:2]]
    across, up = [point[0] for point in points], [point[1] for point in points]
    if chart.get('diagonal') and not chart.get('limits'):
        across = up = across + up
    x = Axis(across, LEFT, RIGHT, chart.get('limits'), chart.get('steps'))
    y = Axis(up, BOTTOM, TOP, chart.get('limits'))
    parts = [_frame(chart, x, y)]
    if chart.get('diagonal'):
        ends = (x.place(x.low), y.place(x.low), x.place(x.high), y.place(x.high))
        parts.append(Markup('<path class="diagonal" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>').format(*ends))
    for series in chart['series']:
        parts.append(_series(series, x, y))
    if chart.get('labels'):
        parts.append(_labels(chart['series'], x, y))
    text = f'{chart["title"]}. {chart["y"]} against {chart["x"]}: ' + ', '.join(s['name'] for s in chart['series'])
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, text)
    return head + Markup('').join(parts) + Markup('</svg>')


def mark(style, hollow=False):
    """Return a small SVG with the mark of a style, for legends."""
    kind = 'mark hollow' if hollow else 'mark'
    head = Markup('<svg class="key" viewBox="-6 -6 12 12" aria-hidden="true">')
    return head + Markup('<path class="{} {}" d="{}"/></svg>').format(kind, style, _shape(style))


def _shape(style):
    if style in MARKS:
        return SHAPES[MARKS[style]]
    return list(SHAPES.values())[int(style.removeprefix('run')) % len(SHAPES)]


def _frame(chart, x, y):
    parts = []
    for pixel, text in y.ticks():
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, pixel, RIGHT))
        parts.append(Markup('<text class="tick end" x="{}" y="{:.1f}">{}</text>').format(LEFT - 7, pixel + 3.5, text))
    for pixel, text in x.ticks():
        parts.append(Markup('<text class="tick middle" x="{:.1f}" y="{}">{}</text>').format(pixel, BOTTOM + 16, text))
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, BOTTOM, RIGHT))
    parts.append(
        Markup('<text class="label middle" x="{}" y="{}">{}</text>').format((LEFT + RIGHT) / 2, HEIGHT - 6, chart['x'])
    )
    parts.append(
        Markup('<text class="label middle" transform="translate(10 {}) rotate(-90)">{}</text>').format(
            (TOP + BOTTOM) / 2, chart['y']
        )
    )
    return Markup('').join(parts)


def _series(series, x, y):
    style, parts, path, open_path = series['style'], [], [], False
    for point in series['points']:
        if None in point[:2]:
            open_path = False
            continue
        place = x.place(point[0]), y.place(point[1])
        path.append(f'{"L" if open_path else "M"}{place[0]:.1f} {place[1]:.1f}')
        open_path = True
        area = point[3] if len(point) > 3 else None
        if area:
            parts.append(
                Markup('<circle class="area {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(
                    style, *place, WHOLE * math.sqrt(area)
                )
            )
        if len(point) > 2 and point[2]:
            parts.append(
                Markup('<path class="mark {}" transform="translate({:.1f} {:.1f})" d="{}"><title>{}</title></path>').format(
                    style, *place, _shape(style), point[2]
                )
            )
    if series['line'] and path:
        parts.insert(0, Markup('<path class="line {}" d="{}"><title>{}</title></path>').format(style, ''.join(path), series['name']))
    return Markup('').join(parts)


def _labels(series, x, y):
    """Return names beside points, moved down where two would touch."""
    parts, taken = [], []
    found = [(entry, point) for entry in series for point in entry['points'] if None not in point[:2]]
    for entry, point in sorted(found, key=lambda pair: y.place(pair[1][1])):
        across, down = x.place(point[0]), y.place(point[1]) + 3.5
        side, gap = ('end', -8) if across > (LEFT + RIGHT) / 2 else ('start', 8)
        while any(side == other and abs(down - place) < 12 for other, place in taken):
            down += 4
        taken.append((side, down))
        parts.append(
            Markup('<text class="name {}" x="{:.1f}" y="{:.1f}">{}</text>').format(side, across + gap, down, entry['name'])
        )
    return Markup('').join(parts)
