"""Protects the description of the interface: what schemathesis draws from it is answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the service needs pip install 'ppdet[serve]'")
pytest.importorskip("uvicorn", reason="the service needs pip install 'ppdet[serve]'")
schemathesis = pytest.importorskip("schemathesis", minversion="4", reason="schemathesis 4 draws the requests")

import base64  # noqa: E402

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis.checks import CHECKS, load_all_checks  # noqa: E402

from tests.serve.support import Client, KnownDetector, picture, service  # noqa: E402

FILES = [picture(), picture(20, 30, 10, ".jpg"), b"", b"no image", picture()[:60]]
schemathesis.openapi.format("binary", st.sampled_from(FILES))
schemathesis.openapi.format(
    "base64-image", st.sampled_from([base64.b64encode(one).decode() for one in FILES])
)
#: The schema cannot say that a string has to be an image, so a body that follows it may well be refused.
UNFIT = {"positive_data_acceptance"}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with service(KnownDetector()) as found:
        yield found


def checks() -> list[Any]:
    load_all_checks()
    names = set(CHECKS.get_all_names()) - UNFIT
    return [CHECKS.get_one(name) for name in sorted(names)]


@pytest.mark.slow
def test_answers_are_those_of_the_description(client: Client) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{client.port}/openapi.json")
    seen: set[tuple[str, int]] = set()
    every = checks()
    assert {one.__name__ for one in every} >= {
        "not_a_server_error",
        "status_code_conformance",
        "response_schema_conformance",
        "content_type_conformance",
        "negative_data_rejection",
    }
    operations = [one.ok() for one in schema.get_all_operations()]
    assert len(operations) == 4
    for operation in operations:
        # There is nothing to get wrong in a request without parameters.
        positive, negative = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
        for mode in [positive, negative] if operation.body else [positive]:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=60,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def draw(case: Any) -> None:
                response = case.call()
                # schemathesis does not know 413, for more images than the limit, as a refusal.
                refused = {"negative_data_rejection"} if response.status_code == 413 else set()
                used = [one for one in every if one.__name__ not in refused]
                case.validate_response(response, checks=used)
                seen.add((case.path, response.status_code))

            draw()
    assert {status for path, status in seen if path == "/v1/detect"} >= {200, 400, 415}
    assert {path for path, status in seen if status == 200} == {
        "/v1/detect", "/v1/info", "/healthz", "/metrics",
    }  # fmt: skip


def test_the_page_of_the_interface_has_every_path_and_status(client: Client) -> None:
    page = client.ask("GET", "/docs").body.decode()
    document = client.ask("GET", "/openapi.json").json()
    assert "<script" not in page
    for path, methods in document["paths"].items():
        assert f"<code>{path}</code>" in page
        for operation in methods.values():
            assert all(f"<td>{status}</td>" in page for status in operation["responses"])
