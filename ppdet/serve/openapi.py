"""The description of the interface (OpenAPI 3.1), with the limits of the service."""

from __future__ import annotations

from typing import Any

from ppdet import __version__
from ppdet.serve.limits import ServeLimits
from ppdet.serve.requests import OUTPUTS, THRESHOLD

_NUMBERS = {"type": "array", "items": {"type": "number"}}
_DETECTION = {
    "type": "object",
    "required": ["name", "label", "score", "box"],
    "properties": {
        "name": {"type": "string", "description": "Class name"},
        "label": {"type": "integer", "minimum": 0},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "box": {**_NUMBERS, "minItems": 4, "maxItems": 4, "description": "x1, y1, x2, y2 in pixels"},
        "mask": {
            "type": "object",
            "description": "Run lengths of COCO, where the detector has masks",
            "required": ["size", "counts"],
            "properties": {"size": _NUMBERS, "counts": {"type": "string"}},
        },
    },
}
_ROWS = {
    "type": "array",
    "description": "A row per image in the order of the request, as in detections.json",
    "items": {
        "type": "object",
        "required": ["image", "drawn", "objects"],
        "properties": {
            "image": {
                "type": "string",
                "description": "Name of the file in the form, or image 0, image 1, ...",
            },
            "drawn": {"type": "string", "const": ""},
            "objects": {"type": "array", "items": _DETECTION},
        },
    },
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "limit": {"type": "number", "description": "The limit that was exceeded"},
            },
        }
    },
}
_INFO = {
    "type": "object",
    "required": ["name", "classes", "has_masks", "runtime", "version", "limits", "batching"],
    "properties": {
        "name": {"type": "string"},
        "classes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "name", "colour"],
                "properties": {
                    "label": {"type": "integer"},
                    "name": {"type": "string"},
                    "colour": {"type": "string", "pattern": "^#[0-9a-f]{6}$"},
                },
            },
        },
        "has_masks": {"type": "boolean"},
        "runtime": {"type": "string"},
        "version": {"type": "string"},
        "limits": {"type": "object", "additionalProperties": {"type": "number"}},
        "batching": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}


def document(limits: ServeLimits) -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, Any] = {
        "/v1/detect": {"post": _detect(limits)},
        "/v1/info": {
            "get": _get(
                "What runs here", "Classes, runtime and limits.", "application/json", _INFO, private=True
            )
        },
        "/healthz": {
            "get": _get(
                "Whether the service answers",
                "Open without a token. During a shutdown the port is closed.",
                "application/json",
                {
                    "type": "object",
                    "required": ["status", "needs_token"],
                    "properties": {"status": {"const": "ok"}, "needs_token": {"type": "boolean"}},
                },
            )
        },
        "/metrics": {
            "get": _get(
                "Counters for Prometheus",
                "Requests, times, sizes of batches, memory and processor time.",
                "text/plain",
                {"type": "string"},
                private=True,
            )
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ppdet serve",
            "version": __version__,
            "description": "Detects objects in images. Nothing in a request is opened as a path or a URL.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where the service has a token: Authorization: Bearer TOKEN",
                }
            }
        },
    }


def _detect(limits: ServeLimits) -> dict[str, Any]:
    count = {"minItems": 1, "maxItems": limits.images}
    binary = {"type": "array", **count, "items": {"type": "string", "format": "binary"}}
    encoded = {
        "type": "array",
        **count,
        "items": {"type": "string", "contentEncoding": "base64", "format": "base64-image"},
    }
    statuses = {
        "400": "The request is not well formed; the message says where",
        "401": "The token is missing or wrong",
        "403": "The page or the host name that it comes from may not use this service",
        "408": f"The upload took more than {limits.seconds:g} s",
        "413": f"More than {limits.body_bytes:,} bytes, {limits.images} images, or {limits.pixels:,} pixels",
        "415": "A body or an image of another type; images are JPEG, PNG, WebP or BMP",
        "422": "An image is cut short or broken",
        "503": f"{limits.requests} requests are under way, or no result within {limits.seconds:g} s",
    }
    return {
        "summary": "Detect objects in images",
        "description": f"Up to {limits.images} images and {limits.body_bytes:,} bytes per request. "
        "Times by stage are in the header Server-Timing.",
        "operationId": "detect",
        "security": [{}, {"token": []}],
        "parameters": [
            _query("threshold", "Lowest score", {"type": "number", "minimum": 0, "maximum": 1}, THRESHOLD),
            _query(
                "output",
                "json, or the drawn image as JPEG (of one image per request)",
                {"type": "string", "enum": list(OUTPUTS)},
                OUTPUTS[0],
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": _only("images", binary, "Files named images")},
                "application/json": {"schema": _only("images", encoded, "The content of files in base64")},
            },
        },
        "responses": {
            "200": {
                "description": "Detections",
                "content": {"application/json": {"schema": _ROWS}, "image/jpeg": {}},
            },
            **{status: _refusal(text) for status, text in statuses.items()},
        },
    }


def _only(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """An object with one property and no other."""
    return {
        "type": "object",
        "description": description,
        "required": [name],
        "properties": {name: schema},
        "additionalProperties": False,
    }


def _query(name: str, description: str, schema: dict[str, Any], default: object) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {**schema, "default": default}}


def _refusal(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ERROR}}}


def _get(
    summary: str, description: str, kind: str, schema: dict[str, Any], *, private: bool = False
) -> dict[str, Any]:
    responses = {"200": {"description": summary, "content": {kind: {"schema": schema}}}}
    responses["403"] = _refusal("The page or the host name that it comes from may not use this service")
    if private:
        responses["401"] = _refusal("The token is missing or wrong")
    found = {"summary": summary, "description": description, "responses": responses}
    return {**found, "security": [{}, {"token": []}]} if private else found
