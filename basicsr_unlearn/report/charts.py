"""Charts as inline SVG. Colours are CSS classes, so that dark and light pages need one drawing."""

import math

from markupsafe import Markup

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 348, 10, 210  # of the plot
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
SHIFTS = (0, 13, -13, 26, -26, 39, -39)  # of a name that finds no room beside its point
STEPS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000)


class Axis:
    """A scale from values to pixels.

    Args:
        values (list[float]): To be shown.
        first, last (float): Pixels of the low and the high end.
        limits (list): [low, high] instead of what the values need. Default: None.
        steps (bool): Logarithmic, with 0. Default: False.
        margin (float): Share of the values' range left free at both ends. Default: 0.07.
    """

    def __init__(self, values, first, last, limits=None, steps=False, margin=0.07):
        self.first, self.last, self.steps = first, last, steps
        low, high = limits or (min(values), max(values))
        margin = 0 if limits or steps else margin * (high - low) or 0.5
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
        rough = (self.high - self.low) / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        ticks = [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [(self.place(tick), f'{tick + 0.0:.{digits}f}'.replace('-', '−')) for tick in ticks]


def draw(chart):
    """Return the SVG of what `words.chart` gives."""
    points = [point for series in chart['series'] for point in series['points'] if None not in point[:2]]
    if not points:
        return Markup('<p class="missing">n/a: there are no values.</p>')
    across, up = [point[0] for point in points], [point[1] for point in points]
    if chart.get('diagonal') and not chart.get('limits'):
        across = up = across + up
    x = Axis(across, LEFT, RIGHT, chart.get('limits'), chart.get('steps'))
    y = Axis(up, BOTTOM, TOP, chart.get('limits'), margin=0.16 if chart.get('labels') else 0.07)
    parts = [_frame(chart, x, y)]
    if chart.get('diagonal'):
        ends = (x.place(x.low), y.place(x.low), x.place(x.high), y.place(x.high))
        parts.append(_svg('<path class="diagonal" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>', *ends))
    parts += [_series(series, x, y) for series in chart['series']]
    if chart.get('labels'):
        parts.append(_labels(chart['series'], x, y))
    text = f'{chart["title"]}. {chart["y"]} against {chart["x"]}: ' + ', '.join(s['name'] for s in chart['series'])
    frame = '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return _svg(frame, WIDTH, HEIGHT, text, Markup('').join(parts))


def mark(style):
    """Return a small SVG with the mark of a style, for legends."""
    frame = '<svg class="key" viewBox="-6 -6 12 12" aria-hidden="true"><path class="mark {}" d="{}"/></svg>'
    return _svg(frame, style, _shape(style))


def _svg(text, *values):
    """Return SVG with values in it, escaped."""
    return Markup(text).format(*values)


def _shape(style):
    if style in MARKS:
        return SHAPES[MARKS[style]]
    return list(SHAPES.values())[int(style.removeprefix('run')) % len(SHAPES)]


def _frame(chart, x, y):
    parts = []
    for pixel, text in y.ticks():
        parts.append(_svg('<path class="grid" d="M{} {:.1f}H{}"/>', LEFT, pixel, RIGHT))
        parts.append(_svg('<text class="end" x="{}" y="{:.1f}">{}</text>', LEFT - 7, pixel + 3.5, text))
    for pixel, text in x.ticks():
        parts.append(_svg('<text class="middle" x="{:.1f}" y="{}">{}</text>', pixel, BOTTOM + 16, text))
    parts.append(_svg('<path class="axis" d="M{} {}H{}"/>', LEFT, BOTTOM, RIGHT))
    parts.append(_svg('<text class="middle" x="{}" y="{}">{}</text>', (LEFT + RIGHT) / 2, HEIGHT - 6, chart['x']))
    turned = '<text class="middle" transform="translate(10 {}) rotate(-90)">{}</text>'
    parts.append(_svg(turned, (TOP + BOTTOM) / 2, chart['y']))
    return Markup('').join(parts)


def _series(series, x, y):
    style, marks, path, drawing = series['style'], [], '', False
    for point in series['points']:
        if None in point[:2]:
            drawing = False
            continue
        place = x.place(point[0]), y.place(point[1])
        path += f'{"L" if drawing else "M"}{place[0]:.1f} {place[1]:.1f}'
        drawing = True
        if _radius(point):
            circle = '<circle class="area {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>'
            marks.append(_svg(circle, style, *place, _radius(point)))
        if len(point) > 2:
            one = '<path class="mark {}" transform="translate({:.1f} {:.1f})" d="{}"><title>{}</title></path>'
            marks.append(_svg(one, style, *place, _shape(style), point[2]))
    if series['line']:
        marks.insert(0, _svg('<path class="line {}" d="{}"><title>{}</title></path>', style, path, series['name']))
    return Markup('').join(marks)


def _radius(point):
    return WHOLE * math.sqrt(point[3] or 0) if len(point) > 3 else 0


def _labels(series, x, y):
    """Return names beside their points: on the side where they touch no other name and no mark."""
    found = [(entry['name'], point) for entry in series for point in entry['points'] if None not in point[:2]]
    places = [(x.place(point[0]), y.place(point[1])) for _, point in found]
    taken, parts = [(left - 5, down - 5, left + 5, down + 5) for left, down in places], []
    for (name, point), (left, down) in zip(found, places, strict=True):
        gap, width = max(8, _radius(point) + 4), 6 * len(name)
        sides = [
            (side, left + sign * gap, down + shift) for shift in SHIFTS for side, sign in (('start', 1), ('end', -1))
        ]
        boxes = [
            (edge if side == 'start' else edge - width, low - 6, edge + width if side == 'start' else edge, low + 6)
            for side, edge, low in sides
        ]
        free = (number for number, box in enumerate(boxes) if _is_free(box, taken))
        chosen = next(free, 0)
        taken.append(boxes[chosen])
        side, edge, low = sides[chosen]
        parts.append(_svg('<text class="name {}" x="{:.1f}" y="{:.1f}">{}</text>', side, edge, low + 3.5, name))
    return Markup('').join(parts)


def _is_free(box, taken):
    inside = LEFT <= box[0] and box[2] <= RIGHT + 10 and TOP - 4 <= box[1] and box[3] <= BOTTOM + 2
    return inside and not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
    )
