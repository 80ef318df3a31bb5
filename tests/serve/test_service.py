"""Protects clients of a service and its machine: right answers, limits that say so, no path or URL opened."""

from __future__ import annotations

import base64
import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the service needs pip install 'ppdet[serve]'")
pytest.importorskip("uvicorn", reason="the service needs pip install 'ppdet[serve]'")

import http.client

from ppdet.serve.limits import ServeLimits
from tests.serve.support import Client, KnownDetector, form, picture, png_bomb, service, wait_until

SMALL = ServeLimits(body_bytes=200_000, pixels=10_000, images=3, requests=4, seconds=5.0)
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def detector() -> KnownDetector:
    return KnownDetector()


@pytest.fixture(scope="module")
def client(detector: KnownDetector) -> Iterator[Client]:
    with service(detector, SMALL) as found:
        yield found


def test_forms_and_json_give_the_rows_of_detections_json(client: Client) -> None:
    images = [picture(48, 64, 204), picture(32, 32, 153)]
    answer = client.detect(*images)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    rows = answer.json()
    assert [row["image"] for row in rows] == ["photo.png", "photo.png"]
    assert [[one["name"] for one in row["objects"]] for row in rows] == [["cat", "dog"], ["cat", "dog"]]
    assert rows[0]["objects"][1]["box"] == [32, 0, 64, 48]
    assert [row["objects"][1]["score"] for row in rows] == [0.8, 0.6]
    assert rows[0]["objects"][0]["mask"]["size"] == [48, 64]
    body = json.dumps({"images": [base64.b64encode(image).decode() for image in images]}).encode()
    other = client.ask("POST", "/v1/detect", body, JSON).json()
    assert [row["image"] for row in other] == ["image 0", "image 1"]
    assert [row["objects"] for row in other] == [row["objects"] for row in rows]
    assert set(rows[0]) == {"image", "drawn", "objects"}
    stages = [part.partition(";dur=")[0] for part in answer.headers["server-timing"].split(", ")]
    assert stages == ["decode", "queue", "network"]


def test_threshold_and_drawn_image(client: Client) -> None:
    assert len(client.detect(picture(red=204), query="?threshold=0.85").json()[0]["objects"]) == 1
    drawn = client.detect(picture(), query="?output=image")
    assert (drawn.status, drawn.headers["content-type"], drawn.body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    two = client.detect(picture(), picture(), query="?output=image")
    assert (two.status, two.code()) == (400, "one_image")


def test_info_says_what_is_accepted_and_no_path(client: Client) -> None:
    answer = client.ask("GET", "/v1/info")
    info = answer.json()
    assert info["name"] == "known" and b"secret" not in answer.body
    assert [one["name"] for one in info["classes"]] == ["cat", "dog", "bird"]
    assert info["limits"] == {
        "body_bytes": 200_000, "pixels": 10_000, "images": 3, "requests": 4, "seconds": 5.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("images", "status", "code", "words"),
    [
        ([picture(101, 100)], 413, "too_many_pixels", "100 x 101 pixels; at most 10,000"),
        ([png_bomb(60_000, 60_000)], 413, "too_many_pixels", "at most 10,000"),
        ([png_bomb(2_000, 2_000)], 413, "too_many_pixels", "2000 x 2000 pixels"),
        ([picture(), png_bomb(101, 100)], 413, "too_many_pixels", "101 x 100"),
        ([b"GIF89a" + bytes(50)], 415, "no_image", "56 bytes that are no image; accepted: JPEG, PNG"),
        ([b""], 415, "no_image", "photo.png: 0 bytes"),
        ([picture()[:80]], 422, "broken_image", "cut short"),
        ([picture()] * 4, 413, "too_many_images", "at most 3 images"),
        ([picture()] * 50, 413, "too_many_images", "at most 3 images"),
        ([bytes(200_001)], 413, "too_many_bytes", "more than 200,000 bytes"),
        ([], 400, "no_images", "has no images"),
    ],
)
def test_images_that_are_refused(
    client: Client, detector: KnownDetector, images: list[bytes], status: int, code: str, words: str
) -> None:
    before = len(detector.network.batches)
    answer = client.detect(*images)
    assert (answer.status, answer.code()) == (status, code)
    assert words in answer.json()["error"]["message"]
    assert ("limit" in answer.json()["error"]) == code.startswith("too_many")
    assert len(detector.network.batches) == before, "nothing was run"


def test_no_pixel_is_decoded_before_every_header_is_read(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ppdet.serve import images

    monkeypatch.setattr(images, "decode_image", lambda content: pytest.fail("decoded"))
    assert client.detect(picture(), png_bomb(50_000, 50_000)).status == 413


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed"),
        (b"[" * 100_000, "malformed"),
        (b'{"images": "a"}', "malformed"),
        (b'{"images": [1]}', "malformed"),
        (b'{"images": ["data:image/png;base64,AAAA"]}', "malformed"),
        (b'{"images": ["file:///etc/passwd"]}', "malformed"),
        (b'{"images": ["http://127.0.0.1/a.png"]}', "malformed"),
        (b'{"images": [], "url": "http://127.0.0.1/a.png"}', "malformed"),
        (b'{"images": []}', "no_images"),
        (b'{"images": ["AAAA", "AAAA", "AAAA", "AAAA"]}', "too_many_images"),
    ],
)
def test_json_that_is_refused(client: Client, body: bytes, code: str) -> None:
    answer = client.ask("POST", "/v1/detect", body, JSON)
    assert (answer.status // 100, answer.code()) == (4, code)


@pytest.mark.parametrize(
    "query",
    [
        "threshold=2",
        "threshold=nan",
        "threshold=",
        "output=png",
        "path=/etc/passwd",
        "threshold=0&threshold=1",
    ],
)
def test_queries_that_are_refused(client: Client, query: str) -> None:
    answer = client.detect(picture(), query=f"?{query}")
    assert (answer.status, answer.code()) == (400, "bad_query")


def test_a_name_is_shown_and_never_opened(client: Client, tmp_path: Path) -> None:
    """A file that exists, named in the form: the bytes of the form count."""
    target = tmp_path / "there.png"
    target.write_bytes(picture(red=255))
    body, kind = form(picture(red=204), filename=str(target))
    row = client.ask("POST", "/v1/detect", body, {"Content-Type": kind}).json()[0]
    assert row["image"] == "there.png" and row["objects"][1]["score"] == 0.8


def test_fields_and_types_that_are_not_known(client: Client) -> None:
    body, kind = form(picture(), field="url")
    assert client.ask("POST", "/v1/detect", body, {"Content-Type": kind}).code() == "unknown_field"
    plain = client.ask("POST", "/v1/detect", picture(), {"Content-Type": "image/png"})
    assert (plain.status, plain.code()) == (415, "unsupported_media_type")
    for path, status in (("/etc/passwd", 404), ("/assets/../app.py", 404), ("/assets/%2e%2e/app.py", 404)):
        assert client.ask("GET", path).status == status
    assert client.ask("GET", "/v1/detect").status == 405


def test_a_body_without_its_length_is_cut_off_at_the_limit(client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    parts = (b"x" * 50_000 for _ in range(100))
    _, kind = form()
    try:
        connection.request("POST", "/v1/detect", parts, {"Content-Type": kind}, encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):  # closed while it was still being sent
        status = 413
    connection.close()
    assert status in (413, 400)
    assert client.detect(picture()).status == 200


def test_garbage_is_answered_with_a_reason(client: Client) -> None:
    """Bodies cut, joined and changed at random: each has an answer below 500, and the service goes on."""
    draw = random.Random(0)
    good, kind = form(picture(), picture(suffix=".jpg"))
    for _ in range(300):
        body = bytearray(good)
        for _ in range(draw.choice((1, 3, 30))):
            body[draw.randrange(len(body))] = draw.randrange(256)
        if draw.random() < 0.4:
            del body[draw.randrange(len(body)) :]
        if draw.random() < 0.2:
            body += bytes(draw.randrange(256) for _ in range(200))
        headers = {"Content-Type": draw.choice((kind, "application/json"))}
        answer = client.ask("POST", "/v1/detect", bytes(body), headers)
        assert answer.status == 200 or (400 <= answer.status < 500 and answer.code()), answer
    assert client.detect(picture()).status == 200


def test_too_many_requests_and_too_much_time(detector: KnownDetector) -> None:
    limits = ServeLimits(requests=2, seconds=0.6)
    with service(detector, limits) as client, ThreadPoolExecutor(3) as pool:
        detector.network.gate.clear()
        waiting = [pool.submit(client.detect, picture()) for _ in range(2)]
        wait_until(lambda: b"ppdet_requests_under_way 2.0" in client.ask("GET", "/metrics").body)
        third = client.detect(picture())
        assert (third.status, third.code(), third.headers["retry-after"]) == (503, "busy", "1")
        assert third.json()["error"]["limit"] == 2
        late = [one.result() for one in waiting]
        detector.network.gate.set()
        assert [(one.status, one.json()["error"]["limit"]) for one in late] == [(503, 0.6)] * 2
        assert client.detect(picture()).status == 200


def test_a_slow_upload_is_ended(detector: KnownDetector) -> None:
    with service(detector, ServeLimits(seconds=0.3)) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        connection.putrequest("POST", "/v1/detect")
        for name, value in (("Content-Type", form()[1]), ("Content-Length", "1000")):
            connection.putheader(name, value)
        connection.endheaders(b"--edge")
        assert connection.getresponse().status == 408
        connection.close()


def test_a_fault_of_the_network_is_one_answer(detector: KnownDetector, client: Client) -> None:
    detector.network.error = MemoryError("of the device")
    answer = client.detect(picture())
    assert (answer.status, answer.code()) == (500, "fault")
    assert b"device" not in answer.body
    assert client.detect(picture()).status == 200


def test_token_host_and_origin(detector: KnownDetector, client: Client) -> None:
    other = client.detect(picture(), Origin="http://other.example")
    assert (other.status, other.code()) == (403, "other_origin")
    own = client.detect(picture(), Origin=f"http://127.0.0.1:{client.port}")
    assert own.status == 200
    token = "a-token-of-some-length"
    with service(detector, token=token, hosts=["127.0.0.1"]) as closed:
        assert closed.ask("GET", "/healthz").json() == {"status": "ok", "needs_token": True}
        for path in ("/v1/info", "/metrics"):
            assert closed.ask("GET", path).status == 401
            wrong = {"Authorization": "Bearer a-token-of-some-lengtH"}
            assert closed.ask("GET", path, None, wrong).headers["www-authenticate"] == "Bearer"
            assert closed.ask("GET", path, None, {"Authorization": f"bearer {token}"}).status == 200
        assert closed.detect(picture()).status == 401
        rebound = closed.ask("GET", "/healthz", None, {"Host": f"other.example:{closed.port}"})
        assert (rebound.status, rebound.code()) == (403, "unknown_host")


def test_what_is_counted(detector: KnownDetector) -> None:
    with service(detector) as client:
        client.detect(picture(), picture())
        client.ask("GET", "/no/such/page")
        client.ask("WILD", "/healthz")
        text = client.ask("GET", "/metrics").body.decode()
    assert 'ppdet_requests_total{method="POST",path="/v1/detect",status="200"} 1.0' in text
    assert 'ppdet_requests_total{method="GET",path="other",status="404"} 1.0' in text
    assert 'ppdet_requests_total{method="other",path="/healthz",status="405"} 1.0' in text
    assert "ppdet_images_total 2.0" in text and "process_resident_memory_bytes" in text


def test_every_answer_has_a_strict_policy(client: Client) -> None:
    for path in ("/", "/docs", "/v1/info", "/none", "/assets/page.js"):
        headers = client.ask("GET", path).headers
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_images_of_many_requests_share_batches(detector: KnownDetector) -> None:
    with service(detector, ServeLimits(batch_size=4)) as client, ThreadPoolExecutor(12) as pool:
        detector.network.gate.clear()
        detector.network.batches.clear()
        reds = [20 * i for i in range(12)]
        waiting = [pool.submit(client.detect, picture(red=red), query="?threshold=0") for red in reds]
        threading.Timer(1.0, detector.network.gate.set).start()
        rows = [one.result().json()[0]["objects"] for one in waiting]
    scores = [one["score"] for row in rows for one in row if one["name"] == "dog"]
    assert scores == pytest.approx([red / 255 for red in reds], abs=1e-5)
    assert sum(detector.network.batches) == 12 and max(detector.network.batches) == 4
