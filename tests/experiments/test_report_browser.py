"""The page in a real browser: no complaint, every figure drawn, filters, phone, print.

Where there is no Chromium on the PATH these tests are skipped: pip brings none that starts on
its own. What is called after it on PyPI are drivers and downloaders, and Qt's engine, in a
wheel of 116 MB (pyqt6-webengine-qt6 6.11.2), wants the system's nss, gbm, X11, GL and sound.
What can be seen without a browser is tested in test_report_page.py and test_report_filters.py.
"""

import re

from browser import BINARIES, Browser, find_chromium
from PIL import Image
import pytest
from synthetic_study import write_run, write_study

from experiments.pictures.video_file import write_gif, write_mp4
from experiments.report import write_report
from experiments.reporting.svg import looks

WHY = f"no Chromium to look at the page with: none of {', '.join(BINARIES)} is on the PATH"
LOOK = looks(("ppg", "ppo"))
IS_SHOWN = "(e) => e.checkVisibility() && e.getClientRects().length > 0"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
  binary = find_chromium()
  if binary is None:
    pytest.skip(WHY)
  browser = Browser(binary, tmp_path_factory.mktemp("chromium"))
  yield browser
  browser.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  """A page of two agents, two games, two level distributions, with a failed run and a film."""
  root = tmp_path_factory.mktemp("page")
  runs = write_study(root / "runs")
  write_run(root / "runs" / "failed", seed=8, state="failed", done=0.3)
  pictures = [Image.new("RGB", (64, 48), (16 * i, 0, 255 - 16 * i)) for i in range(16)]
  film = runs[-1] / "films" / "test_sampled_environment-0_level-7.mp4"
  film.parent.mkdir()
  write_mp4(film, pictures, frames_per_second=8)
  write_gif(film.with_suffix(".gif"), pictures, frames_per_second=8)
  return write_report([root / "runs"], root / "report.html", resamples=100)


def shown(page, selector):
  """Text of every element that matches and can be seen."""
  return page.run(
    f"[...document.querySelectorAll({selector!r})].filter({IS_SHOWN}).map((e) => e.textContent)"
  )


def count(page, selector):
  """Number of elements that match and can be seen."""
  return len(shown(page, selector))


def lines(page, agent):
  """Visible lines and markers in an agent's colour, in all figures but the legends."""
  colour = LOOK[agent].colour.lower()
  return page.run(
    "[...document.querySelectorAll('figure > svg path, figure > svg use')].filter("
    f"(e) => (e.getAttribute('style') || '').includes('{colour}')).filter({IS_SHOWN}).length"
  )


def figures(page):
  """Titles of the figures that have an area on the screen."""
  return page.run(
    "[...document.querySelectorAll('figure > svg')].filter((e) => {"
    " const r = e.getBoundingClientRect(); return r.width > 100 && r.height > 50; })"
    ".map((e) => e.querySelector('title').textContent)"
  )


def box(page, name):
  """Selector of the check box beside a name."""
  value = page.run(
    "[...document.querySelectorAll('#filters label')].filter("
    f"(e) => e.textContent.trim() === {name!r})[0].firstElementChild.value"
  )
  return f"#filters input[value={value}]"


def test_every_figure_is_drawn_without_a_complaint(browser, path):
  page = browser.open(path, width=1200)
  assert page.errors == []
  assert all(url.startswith(("file:", "data:")) for url in page.requests)
  count = len(re.findall("<figure", path.read_text())) - 1  # one is a film
  titles = figures(page)
  assert len(titles) == len(set(titles)) == count > 25
  assert all(page.run("[...document.querySelectorAll('main section')].map((e) => e.offsetHeight)"))
  plays_h264 = "document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"')"
  if page.run(plays_h264):
    size = page.run(
      "(async () => { const v = document.querySelector('video'); v.load();"
      " if (v.readyState < 1) await new Promise((done) => {"
      "   v.addEventListener('loadedmetadata', done); v.addEventListener('error', done); });"
      " return [v.videoWidth, v.videoHeight, v.error && v.error.message]; })()"
    )
    assert size == [64, 48, None]
  assert page.errors == []


def test_filters_hide_what_is_not_chosen_and_show_it_again(browser, path):
  page = browser.open(path, width=1200)
  rows, pictures = shown(page, "tbody tr"), figures(page)
  before = {agent: lines(page, agent) for agent in LOOK}
  assert all(before.values())
  page.click("#filters summary")
  page.click(box(page, "ppg"))
  assert lines(page, "ppg") == 0
  assert lines(page, "ppo") == before["ppo"]
  left = shown(page, "#scores tbody tr")
  assert len(left) == 4
  assert not any("ppg" in row for row in left)
  assert shown(page, "#filters-state") == ["hidden: ppg"]
  assert not any("over" in row for row in shown(page, "#aggregate tbody tr"))

  page.click(box(page, "coinrun"))
  titles = figures(page)
  assert not any("coinrun" in each for each in titles if each.startswith("Mean episode"))
  assert any("starpilot" in each for each in titles)
  assert len(shown(page, "#scores tbody tr")) == 2
  page.click(box(page, "easy-all"))
  assert len(shown(page, "#scores tbody tr")) == 1
  assert shown(page, "h4") == ["Trained on easy-200"] * 2

  page.click("#filters button[data-choose=none][data-kind=l]")
  assert shown(page, "#scores tbody tr") == []
  page.click("#filters button[type=reset]")
  assert shown(page, "tbody tr") == rows
  assert figures(page) == pictures
  assert {agent: lines(page, agent) for agent in LOOK} == before
  assert page.errors == []


def test_print_and_a_page_without_scripts_show_everything(browser, path):
  plain = browser.open(path, width=1200, scripts=False)
  assert shown(plain, "#filters") == []
  everything, rows = figures(plain), shown(plain, "tbody tr")
  assert (count(plain, "video"), count(plain, ".still")) == (1, 0)
  page = browser.open(path, width=1200)
  page.click("#filters summary")
  page.click(box(page, "ppg"))
  assert len(shown(page, "tbody tr")) < len(rows)
  assert (count(page, "video"), count(page, ".still")) == (0, 0)  # the film is one of ppg's
  page.call("Emulation.setEmulatedMedia", media="print")
  assert (count(page, "video"), count(page, ".still")) == (0, 1)
  assert shown(page, "#filters") == []
  assert shown(page, "tbody tr") == rows
  assert figures(page) == everything
  assert page.pdf().startswith(b"%PDF")
  assert page.errors == plain.errors == []


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_nothing_is_wider_than_the_screen(width, browser, path):
  page = browser.open(path, width=width)
  page.click("#filters summary")
  assert page.run("innerWidth") == width
  assert page.run("document.documentElement.scrollWidth") == width
  wide = page.run(
    "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll') &&"
    f" !e.closest('svg') && e.getBoundingClientRect().right > {width})"
    ".map((e) => e.tagName + ' ' + e.textContent.slice(0, 60))"
  )
  assert wide == []
  # A table that is wider scrolls in its own frame, and says so to the keyboard.
  assert page.run(
    "[...document.querySelectorAll('table')].every((e) =>"
    " e.parentNode.scrollWidth <= e.parentNode.clientWidth || e.parentNode.tabIndex === 0)"
  )
  assert page.errors == []
