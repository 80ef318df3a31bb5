"""Protects the pages in a browser: they open from disk, fetch nothing, log no error, and react.

Needs Chromium with its driver (Debian: chromium chromium-driver); without them there is nothing to test with.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ppdet.report.comparison import compare
from ppdet.report.detections_file import analysis_of_files
from ppdet.report.evaluation import evaluation_page
from ppdet.report.training import write_training_report
from ppdet.utils.files import write_text
from tests.report.folders import write_detections, write_images, write_run

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
#: Moves the slider of the first argument to the second.
MOVE = (
    "const slider = document.querySelector(arguments[0]); slider.value = arguments[1];"
    "slider.dispatchEvent(new Event('input'))"
)
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1200,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    features = {"prefers-color-scheme": "light", "prefers-reduced-motion": "reduce"}
    emulated = [{"name": name, "value": value} for name, value in features.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": emulated})
    yield driver
    driver.quit()


def open_page(browser: Any, path: Path) -> None:
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # of pages before
    browser.get(path.as_uri())


def check_quiet(browser: Any, path: Path) -> None:
    """No message on the console, and no request but for the file itself and what it carries."""
    import json

    assert browser.get_log("browser") == []
    messages = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    addresses = [
        m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"
    ]
    assert path.as_uri() in addresses
    assert [a for a in addresses if not a.startswith(("data:", "blob:")) and a != path.as_uri()] == []


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    detections, annotations = write_detections(folder, images=30)
    images = write_images(folder / "val", tuple(f"{i}.jpg" for i in range(1, 60, 3)))
    write_text(
        folder / "page.html",
        evaluation_page(analysis_of_files(detections, annotations), title="m", images=images),
    )
    return folder / "page.html"


def column(browser: Any, number: int) -> list[str]:
    script = "return [...document.querySelectorAll('#class-table tbody tr')].filter(r => !r.hidden)"
    return browser.execute_script(f"{script}.map(r => r.cells[{number}].textContent.trim())")  # type: ignore[no-any-return]


def test_evaluation_page(browser: Any, evaluation: Path) -> None:
    open_page(browser, evaluation)
    find = browser.find_elements
    head = find("css selector", "#class-table thead th button")
    head[1].click()
    falling = [float(text) for text in column(browser, 1)]
    head[1].click()
    assert [float(text) for text in column(browser, 1)] == sorted(falling) and falling == sorted(falling)[
        ::-1
    ]
    assert find("css selector", "#class-table th[aria-sort=ascending]")[0].text.startswith("AP")
    find("css selector", "#class-filter")[0].send_keys("bold")
    assert column(browser, 0) == ["</script><b>bold & bad"]

    cell = find("css selector", "#matrix button[data-row='0'][data-column='0']")[0]
    browser.execute_script("arguments[0].scrollIntoView()", cell)
    cell.click()
    assert cell.get_attribute("aria-pressed") == "true"
    assert find("css selector", "#gallery-title")[0].text == cell.get_attribute("title")
    shots = find("css selector", "#shots li")
    assert 1 <= len(shots) <= int(cell.text)
    assert find("css selector", "#shots .box.focus")

    browser.execute_script("document.querySelector('#views [data-view=all]').click()")
    counted = "return [...document.querySelectorAll('#shots .tally')].map(t => t.textContent)"
    before = browser.execute_script(counted)
    boxes = len(find("css selector", "#shots rect"))
    browser.execute_script(MOVE, "#threshold", "1")
    assert find("css selector", "#threshold-value")[0].text == "1.00"
    assert len(find("css selector", "#shots rect")) < boxes and browser.execute_script(counted) != before
    assert all(text.startswith("0 correct, 0 wrong") for text in browser.execute_script(counted))
    check_quiet(browser, evaluation)


def test_tallies_are_those_of_the_matrix(browser: Any, evaluation: Path) -> None:
    """At the threshold of the matrix, the pictures together count what the matrix counts."""
    open_page(browser, evaluation)
    script = """
      const least = DATA.matrix.threshold, sums = {correct: 0, wrong: 0, missed: 0};
      for (const image of DATA.images) {
        const one = tally(image, least);
        for (const key of Object.keys(sums)) sums[key] += one[key];
      }
      const best = DATA.thresholds.all.best;
      return [sums, {correct: best.correct, wrong: best.wrong, missed: best.missed}];
    """
    found, expected = browser.execute_script(script)
    assert found == expected and expected["correct"] > 0


def test_keyboard_and_theme(browser: Any, evaluation: Path) -> None:
    open_page(browser, evaluation)
    from selenium.webdriver.common.keys import Keys

    body = browser.find_element("css selector", "body")
    body.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("class") == "skip", "first stop: skip to content"
    theme = browser.find_element("css selector", "#theme")
    theme.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    unnamed = """return [...document.querySelectorAll('button, input, select')].filter(e => e.offsetParent &&
      !e.textContent.trim() && !e.getAttribute('aria-label') && !e.labels?.length).map(e => e.outerHTML)"""
    assert browser.execute_script(unnamed) == []
    charts = browser.find_elements("css selector", ".chart[role=img]")
    assert charts and all(len(chart.get_attribute("aria-label")) > 30 for chart in charts)
    frame = browser.find_element("css selector", "#shots .frame")
    browser.execute_script("arguments[0].scrollIntoView()", frame)
    frame.send_keys(Keys.ENTER)
    assert browser.find_element("css selector", "dialog#large").get_attribute("open")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.find_element("css selector", "dialog#large").get_attribute("open")
    check_quiet(browser, evaluation)


def test_paper_has_pictures_and_no_controls(browser: Any, evaluation: Path) -> None:
    open_page(browser, evaluation)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.offsetParent !== null).length"
    shown = {name: browser.execute_script(script, name) for name in ("#shots img", ".controls", "#matrix td")}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown["#shots img"] > 0 and shown["#matrix td"] > 0 and shown[".controls"] == 0


def test_paper_has_every_section_and_what_is_folded(browser: Any, evaluation: Path, tmp_path: Path) -> None:
    """Chromium prints; what its page looks like meanwhile is recorded."""
    record = """addEventListener('beforeprint', () => { window.printed = {
      folded: document.querySelectorAll('details:not(.values):not([open])').length,
      sections: [...document.querySelectorAll('section[id]')].map(s => [s.id, s.offsetHeight > 30])}; })"""
    for path in (evaluation, write_training_report(write_run(tmp_path / "run"))):
        open_page(browser, path)
        browser.execute_script(record)
        folded = "return document.querySelectorAll('details:not([open])').length"
        before = browser.execute_script(folded)
        browser.execute_cdp_cmd("Page.printToPDF", {})
        printed = browser.execute_script("return window.printed")
        linked = browser.execute_script(
            "return [...document.querySelectorAll('nav.sections a')].map(a => a.hash.slice(1))"
        )
        assert printed["folded"] == 0
        assert {name for name, shown in printed["sections"] if shown} >= set(linked) > {"summary"}
        assert browser.execute_script(folded) == before > 0, "the screen is as it was"


def test_the_values_of_the_curves_are_tables_too(browser: Any, evaluation: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    open_page(browser, evaluation)
    rows = """return [...document.querySelectorAll(arguments[0] + ' + details.values tr')].map(
      row => [...row.children].map(cell => cell.textContent))"""
    expected = """const curve = DATA.thresholds[arguments[0]];
      return [...Array(21).keys()].map(i => ['f1', 'precision', 'recall'].map(name => curve[name][5 * i]))"""
    for key in ("all", "0"):
        browser.execute_script(
            "const c = document.querySelector('#curve-class'); c.value = arguments[0];"
            "c.dispatchEvent(new Event('change'))",
            key,
        )
        head, *body = browser.execute_script(rows, "#f1-chart")
        assert head == ["score threshold", "F1", "precision", "recall"]
        assert [float(row[0]) for row in body] == [i / 20 for i in range(21)]
        should = browser.execute_script(expected, key)
        for row, numbers in zip(body, should):
            assert [float(text) for text in row[1:]] == pytest.approx(numbers, abs=5.1e-4)
        head, *body = browser.execute_script(rows, "#pr-chart")
        assert head == ["recall", "IoU 0.5", "IoU 0.75", "IoU 0.9"]
        assert len(body) == 21
    summary = browser.find_element("css selector", "#f1-chart + details.values > summary")
    summary.send_keys(Keys.ENTER)
    assert browser.find_element("css selector", "#f1-chart + details.values table").is_displayed()


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_no_page_is_wider_than_the_window(browser: Any, evaluation: Path, tmp_path: Path, width: int) -> None:
    training = write_training_report(write_run(tmp_path / "run"))
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for path in (evaluation, training):
        open_page(browser, path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_training_page(browser: Any, tmp_path: Path) -> None:
    path = write_training_report(write_run(tmp_path / "run", validation_loss=lambda step: 1.0))
    open_page(browser, path)
    assert len(browser.find_elements("css selector", ".chart canvas")) == 8
    assert len(browser.find_elements("css selector", ".chart + details.values table")) == 8
    browser.execute_script(MOVE, "#smoothing", "0.5")
    assert browser.find_element("css selector", "#smoothing-value").text == "0.50"
    assert browser.find_element("css selector", "#moment-value").text == "step 200"
    browser.execute_script(MOVE, "#moment", "0")
    assert browser.find_element("css selector", "#moment-value").text == "step 40"
    assert len(browser.find_elements("css selector", "#pictures img")) == 2
    browser.execute_script("document.querySelector('#log-scale').click()")
    check_quiet(browser, path)


def test_comparison_page(browser: Any, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in ("one", "two")]
    compare(runs, tmp_path / "c.html")
    open_page(browser, tmp_path / "c.html")
    assert len(browser.find_elements("css selector", ".chart canvas")) == 7
    check_quiet(browser, tmp_path / "c.html")
