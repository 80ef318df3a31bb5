"""The description of the interface as a page: plain HTML, made once, without a script."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

_EXAMPLES = {
    "/v1/detect": (
        "curl -F images=@photo.jpg 'http://HOST/v1/detect?threshold=0.5'\n"
        "curl -F images=@a.jpg -F images=@b.png http://HOST/v1/detect\n"
        "curl -F images=@photo.jpg -o drawn.jpg 'http://HOST/v1/detect?output=image'"
    ),
    "/v1/info": "curl http://HOST/v1/info",
    "/healthz": "curl --fail http://HOST/healthz",
    "/metrics": "curl http://HOST/metrics",
}
_TOKEN = "With a token, add:  -H 'Authorization: Bearer TOKEN'"


def docs_page(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    operations = [
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(info["title"])}: interface</title><link rel="icon" href="/assets/icon.svg">
<link rel="stylesheet" href="/assets/page.css"></head><body>
<header class="top"><h1>Interface of <code>{_text(info["title"])}</code> {_text(info["version"])}</h1>
<nav><a href="/">Try it</a> <a href="/openapi.json">openapi.json</a></nav></header>
<main class="docs"><p>{_text(info["description"])}</p>{"".join(operations)}</main></body></html>
"""


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    private = "security" in operation
    parts = [
        f"<h2><span class='method {method}'>{method.upper()}</span> <code>{_text(path)}</code></h2>",
        f"<p>{_text(operation['summary'])}. {_text(operation['description'])}</p>",
        f"<pre>{_text(_EXAMPLES[path])}{chr(10) + _text(_TOKEN) if private else ''}</pre>",
    ]
    if "parameters" in operation:
        rows = [_parameter(one) for one in operation["parameters"]]
        parts.append("<h3>Query</h3>" + _table(("name", "values", "default", "meaning"), rows))
    if "requestBody" in operation:
        parts.append("<h3>Body</h3>" + _schemas(operation["requestBody"]["content"]))
    answers = sorted(operation["responses"].items())
    meanings = [(status, _text(one["description"])) for status, one in answers]
    parts.append("<h3>Answers</h3>" + _table(("status", "meaning"), meanings))
    parts.append(_schemas(operation["responses"]["200"]["content"]))
    return f"<section class='operation'>{''.join(parts)}</section>"


def _parameter(one: dict[str, Any]) -> tuple[str, str, str, str]:
    schema = one["schema"]
    values = " | ".join(schema["enum"]) if "enum" in schema else f"{schema['minimum']} to {schema['maximum']}"
    default = _text(str(schema["default"]))
    return f"<code>{_text(one['name'])}</code>", _text(values), default, _text(one["description"])


def _schemas(content: dict[str, Any]) -> str:
    found = []
    for kind, one in content.items():
        schema = one.get("schema")
        shown = f"<pre>{_text(json.dumps(schema, indent=1))}</pre>" if schema else "<p>An image.</p>"
        found.append(f"<details><summary><code>{_text(kind)}</code></summary>{shown}</details>")
    return "".join(found)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{name}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def _text(value: str) -> str:
    return html.escape(value)
