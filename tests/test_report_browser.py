"""The page in headless Chromium, opened from disk: nothing cut off, readable in dark and light, the slider, the PDF."""

import base64
import shutil

import pytest
from audit_fixture import make_audit, write_audit

from basicsr_unlearn.cli import main

webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed (pip install ".[test]")')
DRIVER = shutil.which('chromedriver')
CHROMIUM = shutil.which('chromium')
pytestmark = pytest.mark.skipif(not (DRIVER and CHROMIUM), reason='chromium and chromedriver are not installed')
FLAGS = (
    '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
    '--disable-component-update --disable-sync'
)
COLOURS = """
const blend = (colour) => {
  const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
  return { rgb: [r, g, b], a };
};
const background = (element) => {
  for (let part = element; part; part = part.parentElement) {
    const { rgb, a } = blend(getComputedStyle(part).backgroundColor);
    if (a === 1) return rgb;
  }
  return [255, 255, 255];
};
const found = [];
for (const element of document.querySelectorAll('body *')) {
  const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!text || !element.checkVisibility() || element.closest('.stage, script, title')) continue;
  const style = getComputedStyle(element);
  const colour = element instanceof SVGElement ? style.fill : style.color;
  found.push([element.textContent.trim().slice(0, 40), blend(colour).rgb, background(element)]);
}
return found;
"""


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    """Pages of an audit, of one without an oracle whose names are long, of a run alone and of several runs."""
    home = tmp_path_factory.mktemp('pages')
    long = make_audit('a_rather_long_name_of_a_run_' * 3, nets=('original', 'unlearned'))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for audit in (make_audit(images=40), long):
            write_audit(home, audit)
            assert main(['report', audit['name']]) == 0
        for name in ('neg_grad', 'instance_wise', 'identity_target'):
            write_audit(home, make_audit(name))
        assert main(['compare', 'unlearn_haze', 'neg_grad', 'instance_wise', 'identity_target', long['name']]) == 0
    folders = {'audit': home / 'audits/unlearn_haze/report', 'long': home / 'audits' / long['name'] / 'report'}
    return {key: stem.with_suffix('.html') for key, stem in {**folders, 'compare': home / 'audits/compare'}.items()}


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS.split(), f'--user-data-dir={tmp_path_factory.mktemp("chromium")}'):
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    found = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


@pytest.fixture
def show(browser, pages):
    """Open a page in a window of a width, in a colour scheme; gives the browser."""

    def open_page(key, width=1280, scheme='light', media=''):
        size = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': width < 500}
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
        feature = {'name': 'prefers-color-scheme', 'value': scheme}
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'media': media, 'features': [feature]})
        browser.get(pages[key].as_uri())
        return browser

    yield open_page
    assert browser.get_log('browser') == []


@pytest.mark.parametrize('width', [1280, 768, 390])
@pytest.mark.parametrize('key', ['audit', 'long', 'compare'])
def test_nothing_is_cut_off(show, key, width):
    browser = show(key, width)
    browser.execute_script('document.querySelectorAll("details").forEach((part) => (part.open = true))')
    assert browser.execute_script('return document.documentElement.scrollWidth') <= width
    beyond = """return [...document.querySelectorAll('body *')].filter((element) => {
      const box = element.getBoundingClientRect();
      return element.checkVisibility() && box.width && !element.closest('.scroll, pre, svg')
        && (box.right > arguments[0] + 1 || box.left < -1);
    }).map((element) => element.outerHTML.slice(0, 80))"""
    assert browser.execute_script(beyond, width) == []


def test_no_text_of_a_chart_leaves_it(show):
    browser = show('audit')
    outside = """return [...document.querySelectorAll('svg.chart text')].filter((text) => {
      const [box, chart] = [text.getBoundingClientRect(), text.closest('svg').getBoundingClientRect()];
      return box.left < chart.left - 1 || box.right > chart.right + 1 || box.bottom > chart.bottom + 1;
    }).map((text) => text.textContent)"""
    assert browser.execute_script(outside) == []
    assert browser.execute_script('return document.querySelectorAll("svg.chart text").length') > 100


def luminance(colour):
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize('key', ['audit', 'compare'])
def test_dark_and_light_are_readable(show, key):
    backgrounds = []
    for scheme in ('light', 'dark'):
        browser = show(key, scheme=scheme)
        found = browser.execute_script(COLOURS)
        assert len(found) > 100
        for text, colour, background in found:
            low, high = sorted(map(luminance, (colour, background)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, text, colour, background)
        backgrounds.append(luminance(found[0][2]))
    assert backgrounds[0] > 0.8 and backgrounds[1] < 0.1


class Slider:
    """What one sees and does of the slider."""

    def __init__(self, browser):
        self.browser = browser
        self.range = self.find('.stage input')
        browser.execute_script('arguments[0].scrollIntoView({block: "center"})', self.range)

    def find(self, selector):
        return self.browser.find_element('css selector', f'.slider {selector}')

    @property
    def cut(self):
        """Percent of the upper picture that is cut off on the right."""
        clip = self.find('.over').value_of_css_property('clip-path')
        return float(clip.removeprefix('inset(0px ').split('%')[0])

    def choose(self, name, label):
        option = next(o for o in self.find(name).find_elements('css selector', 'option') if o.text == label)
        option.click()


def test_slider_by_mouse(show):
    browser = show('audit')
    slider = Slider(browser)
    assert slider.cut == 50
    width = slider.range.size['width']
    mouse = webdriver.ActionChains(browser)
    mouse.move_to_element(slider.range).click_and_hold().move_by_offset(-width // 4, 0).release().perform()
    assert slider.cut == pytest.approx(75, abs=3)
    edge = browser.execute_script('return document.querySelector(".edge").style.left')
    assert edge == f'{100 - slider.cut:g}%'


def test_slider_by_keys(show):
    slider = Slider(show('audit'))
    slider.range.send_keys('\ue012' * 3)  # left
    assert slider.cut == 53
    slider.range.send_keys('\ue010')  # end
    assert slider.cut == 0


def test_slider_by_touch(show):
    browser = show('audit', 390)
    slider = Slider(browser)
    box = browser.execute_script('return document.querySelector(".stage").getBoundingClientRect()')
    middle = box['top'] + box['height'] / 2
    places = [box['left'] + box['width'] * share for share in (0.5, 0.6, 0.7, 0.8)]
    for kind, x in [('touchStart', places[0]), *(('touchMove', x) for x in places[1:]), ('touchEnd', None)]:
        points = [] if x is None else [{'x': x, 'y': middle}]
        browser.execute_cdp_cmd('Input.dispatchTouchEvent', {'type': kind, 'touchPoints': points})
    assert slider.cut == pytest.approx(20, abs=4)


def test_slider_shows_the_chosen_pictures(show):
    browser = show('audit')
    slider = Slider(browser)

    def expected(item, net):
        pictures = browser.find_elements('css selector', f'.item:nth-of-type({item}) img[data-net={net}]')
        return pictures[0].get_attribute('src')

    def shown():
        return slider.find('.over').get_attribute('src'), slider.find('.under').get_attribute('src')

    assert shown() == (expected(1, 'input'), expected(1, 'unlearned'))
    slider.choose('.right', 'oracle')
    assert shown() == (expected(1, 'input'), expected(1, 'oracle')) and slider.find('.tag.right').text == 'oracle'
    slider.choose('.left', 'original')
    slider.choose('.item', 'rain (retain): rain_0000.png')
    assert shown() == (expected(2, 'original'), expected(2, 'oracle'))
    assert slider.find('.over').get_attribute('alt') == 'rain (retain): rain_0000.png, original'
    assert (
        len(set(shown())) == 2 and browser.execute_script('return document.querySelector(".under").naturalWidth') == 96
    )


def is_shown(browser, selector):
    shown = 'return [...document.querySelectorAll(arguments[0])].map((part) => part.checkVisibility())'
    return set(browser.execute_script(shown, selector))


def test_pictures_stand_side_by_side_without_javascript(show):
    browser = show('audit')
    assert is_shown(browser, '.beside img') == {False} and is_shown(browser, '.slider') == {True}
    browser.execute_cdp_cmd('Emulation.setScriptExecutionDisabled', {'value': True})
    try:
        browser = show('audit')
        assert is_shown(browser, '.beside img') == {True} and is_shown(browser, '.slider') == {False}
    finally:
        browser.execute_cdp_cmd('Emulation.setScriptExecutionDisabled', {'value': False})


def test_print_shows_all_and_no_controls(show):
    browser = show('audit', 688, 'dark', 'print')
    assert is_shown(browser, '.beside img') == {True} and is_shown(browser, '.slider') == {False}
    assert is_shown(browser, 'details td, details pre') == {True}
    assert browser.execute_script('return getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'
    assert browser.execute_script('return document.documentElement.scrollWidth') <= 688


def test_pdf(show):
    browser = show('audit')
    printed = browser.execute_cdp_cmd('Page.printToPDF', {'printBackground': True, 'preferCSSPageSize': True})
    pdf = base64.b64decode(printed['data'])
    assert pdf.startswith(b'%PDF') and 8 <= pdf.count(b'/Type /Page\n') <= 30
    assert set(browser.execute_script('return [...document.querySelectorAll("details")].map((part) => part.open)')) == {
        True
    }
