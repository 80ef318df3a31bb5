"""Protects the page in a browser: boxes, masks, threshold, classes, webcam, token; no other host is asked.

Needs Chromium with its driver (Debian: chromium chromium-driver); without them there is nothing to test with.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
pytest.importorskip("starlette", reason="the service needs pip install 'ppdet[serve]'")
pytest.importorskip("uvicorn", reason="the service needs pip install 'ppdet[serve]'")

from tests.serve.support import (  # noqa: E402
    Client,
    KnownDetector,
    picture,
    png_bomb,
    service,
    wait_until,
)

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
    ),
]
#: Colour of a pixel of the canvas.
PIXEL = "return [...document.querySelector('#canvas').getContext('2d').getImageData(...arguments, 1, 1).data]"
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with service(KnownDetector()) as found:
        yield found


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
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--window-size=1200,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


def open_page(browser: Any, client: Client, path: str = "/") -> None:
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # of pages before
    browser.get(f"http://127.0.0.1:{client.port}{path}")


def text(browser: Any, selector: str) -> str:
    return str(browser.find_element("css selector", selector).text)


def shows(browser: Any, client: Client, folder: Path, content: bytes, name: str = "photo.png") -> None:
    """Open the page, choose a file, wait for its detections."""
    open_page(browser, client)
    wait_until(lambda: text(browser, "#name") == "known")
    (folder / name).write_bytes(content)
    browser.find_element("css selector", "#file").send_keys(str(folder / name))
    wait_until(lambda: text(browser, "#latency").endswith(" ms"))


def check_quiet(browser: Any, client: Client) -> None:
    """No message on the console, which has every breach of the policy too, and no other host is asked."""
    logged = [
        row for row in browser.get_log("browser") if "getImageData" not in row["message"]
    ]  # of the tests
    assert logged == []
    messages = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    own = f"http://127.0.0.1:{client.port}/"
    assert own in asked
    assert [one for one in asked if not one.startswith((own, "blob:", "data:", "chrome:"))] == []


def move(browser: Any, value: float) -> None:
    script = "const s = document.querySelector('#threshold'); s.value = arguments[0];"
    browser.execute_script(f"{script} s.dispatchEvent(new Event('input'))", value)


def classes(browser: Any) -> list[str]:
    script = "return [...document.querySelectorAll('#classes label')].map(one => [...one.children]"
    words = browser.execute_script(f"{script}.map(part => part.textContent).filter(Boolean).join(' '))")
    return [str(one) for one in words]


def test_boxes_masks_threshold_and_classes(browser: Any, client: Client, tmp_path: Path) -> None:
    """The left half is a cat of 0.9, the right half a dog of 0.8, both with masks; the image is dark red."""
    shows(browser, client, tmp_path, picture(480, 640, 204))
    assert classes(browser) == ["cat 1", "dog 1"] and text(browser, "#total") == "2 of 2"
    colours = {one["name"]: one["colour"] for one in client.ask("GET", "/v1/info").json()["classes"]}
    for (x, y), name in (((160, 240), "cat"), ((480, 240), "dog")):
        channels = [int(colours[name][i : i + 2], 16) for i in (1, 3, 5)]
        blended = [0.45 * c + 0.55 * p for c, p in zip(channels, (204, 0, 0))]
        assert browser.execute_script(PIXEL, x, y)[:3] == pytest.approx(blended, abs=3)
    move(browser, 0.85)
    assert classes(browser) == ["cat 1"] and text(browser, "#threshold-value") == "0.85"
    assert browser.execute_script(PIXEL, 480, 240) == [204, 0, 0, 255], "the dog is gone"
    move(browser, 0.5)
    browser.find_element("css selector", "#classes li:nth-child(2) input").click()
    assert browser.execute_script(PIXEL, 480, 240) == [204, 0, 0, 255]
    browser.find_element("css selector", "#all-classes").click()
    assert browser.execute_script(PIXEL, 480, 240) != [204, 0, 0, 255]
    browser.find_element("css selector", "#masks").click()
    assert browser.execute_script(PIXEL, 480, 240) == [204, 0, 0, 255]
    label = browser.find_element("css selector", "#canvas").get_attribute("aria-label")
    assert label == "photo.png with 2 detections: cat, dog"
    stages = [one.text.split("\n")[0] for one in browser.find_elements("css selector", "#stages li")]
    assert stages == ["decoding", "queue", "network", "transfer and the rest"]
    check_quiet(browser, client)


def test_masks_are_those_of_the_service(browser: Any, client: Client, tmp_path: Path) -> None:
    """The runs that the page decodes, against those of pycocotools."""
    from pycocotools import mask as coco_mask

    shows(browser, client, tmp_path, picture(97, 131))
    for found in client.detect(picture(97, 131)).json()[0]["objects"]:
        counts = browser.execute_script("return runsOf(arguments[0])", found["mask"]["counts"])
        expected = coco_mask.decode({**found["mask"], "counts": found["mask"]["counts"].encode()})
        flat = [index % 2 for index, run in enumerate(counts) for _ in range(run)]
        assert flat == expected.T.reshape(-1).tolist()


def test_a_dropped_photo(browser: Any, client: Client) -> None:
    open_page(browser, client)
    wait_until(lambda: text(browser, "#name") == "known")
    script = """
      const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0)), data = new DataTransfer();
      data.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
      const drop = new DragEvent('drop', {dataTransfer: data, bubbles: true});
      document.querySelector('#drop').dispatchEvent(drop)"""
    browser.execute_script(script, base64.b64encode(picture(48, 64)).decode())
    wait_until(lambda: classes(browser) == ["cat 1", "dog 1"])
    check_quiet(browser, client)


def test_refusals_are_shown(browser: Any, client: Client, tmp_path: Path) -> None:
    open_page(browser, client)
    wait_until(lambda: text(browser, "#name") == "known")
    (tmp_path / "bomb.png").write_bytes(png_bomb(9000, 9000))
    browser.find_element("css selector", "#file").send_keys(str(tmp_path / "bomb.png"))
    message = "bomb.png: 9000 x 9000 pixels; at most 40,000,000 are accepted"
    wait_until(lambda: text(browser, "#message") == message)


def test_webcam(browser: Any, client: Client) -> None:
    open_page(browser, client)
    wait_until(lambda: text(browser, "#name") == "known")
    browser.find_element("css selector", "#webcam").click()
    wait_until(lambda: any("cat" in one for one in classes(browser)))
    frames = "return document.querySelector('#latency').textContent"
    assert browser.execute_script(frames).endswith(" ms")
    browser.find_element("css selector", "#stop").click()
    assert browser.execute_script("return state.stream") is None
    assert browser.find_element("css selector", "#webcam-again").is_displayed()
    check_quiet(browser, client)


def test_token(browser: Any, tmp_path: Path) -> None:
    with service(KnownDetector(), token=TOKEN) as client:
        open_page(browser, client)
        wait_until(lambda: browser.find_element("css selector", "#token-form").is_displayed())
        browser.find_element("css selector", "#token").send_keys(TOKEN)
        browser.find_element("css selector", "#token-form button").click()
        wait_until(lambda: text(browser, "#name") == "known")
        (tmp_path / "photo.png").write_bytes(picture())
        browser.find_element("css selector", "#file").send_keys(str(tmp_path / "photo.png"))
        wait_until(lambda: classes(browser) == ["cat 1", "dog 1"])


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_no_page_is_wider_than_the_window(browser: Any, client: Client, tmp_path: Path, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    shows(browser, client, tmp_path, picture(480, 640))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    open_page(browser, client, "/docs")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_control_has_a_name(browser: Any, client: Client, tmp_path: Path) -> None:
    shows(browser, client, tmp_path, picture())
    unnamed = """return [...document.querySelectorAll('button, input, canvas')].filter(e =>
      !e.textContent.trim() && !e.getAttribute('aria-label') && !e.labels?.length).map(e => e.outerHTML)"""
    assert browser.execute_script(unnamed) == []
