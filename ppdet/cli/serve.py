"""Serve a detector over HTTP: an interface for programs, and a page to try it in a browser.

ppdet serve output/x/best_model              then open http://127.0.0.1:8000
curl -F images=@photo.jpg http://127.0.0.1:8000/v1/detect
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.cli.common import (
    CommandError,
    add_classes_argument,
    add_config_arguments,
    add_device_argument,
    add_runtime_argument,
    load_trained,
)
from ppdet.utils.files import expanded

if TYPE_CHECKING:
    from ppdet.serve.limits import ServeLimits

#: Environment variable that holds the token.
TOKEN = "PPDET_SERVE_TOKEN"
#: Options of `ServeLimits`, with its defaults (a test compares them).
LIMITS = {
    "max_mb": (20.0, "megabytes of a request"),
    "max_megapixels": (40.0, "megapixels of an image"),
    "max_images": (16, "images of a request"),
    "max_requests": (64, "requests at a time"),
    "timeout": (30.0, "seconds of a request, its upload included"),
    "batch_size": (4, "most images that the network runs at once; 1 for no batches"),
    "max_delay_ms": (5.0, "milliseconds that an image waits at most for others to share a batch"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet serve``."""
    parser.add_argument(
        "weights",
        nargs="?",
        metavar="WEIGHTS|EXPORT",
        help="a checkpoint, the folder of an export, a zoo name or a URL; default: the `weights` of -c",
    )
    add_config_arguments(parser, required=False)
    add_classes_argument(parser)
    add_runtime_argument(parser)
    add_device_argument(parser)
    where = parser.add_argument_group("where, and for whom")
    where.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, for programs of this machine alone)",
    )
    where.add_argument("--port", type=int, default=8000, help="port (default: 8000); 0 for any that is free")
    where.add_argument(
        "--token_file",
        type=expanded,
        metavar="FILE",
        help=f"file with the token that clients must send; default: the environment variable {TOKEN}",
    )
    where.add_argument("--open_to_all", action="store_true", help="let other machines in without a token")
    limits = parser.add_argument_group("limits")
    for name, (default, text) in LIMITS.items():
        help_text = f"{text} (default: {default:g})"
        limits.add_argument(f"--{name}", type=type(default), default=default, metavar="N", help=help_text)


def run(args: argparse.Namespace) -> int:
    """Load, serve until told to stop."""
    from ppdet.serve.server import ServeOptions, serve_detector

    if not args.weights and not args.config:
        raise CommandError("give WEIGHTS (a checkpoint, an export, a zoo name or a URL), or -c")
    limits, token = limits_from(args), token_from(args.token_file)
    options = ServeOptions(args.host, args.port, token, args.open_to_all, limits)
    serve_detector(load_trained(args), options)
    return 0


def limits_from(args: argparse.Namespace) -> ServeLimits:
    """The limits that the options describe."""
    from ppdet.serve.limits import ServeLimits

    for option in ("max_mb", "max_megapixels"):
        if not 0 < getattr(args, option) < float("inf"):
            raise CommandError(f"--{option} {getattr(args, option)}: expected a number greater than 0")
    return ServeLimits(
        body_bytes=round(args.max_mb * 1e6),
        pixels=round(args.max_megapixels * 1e6),
        images=args.max_images,
        requests=args.max_requests,
        seconds=args.timeout,
        batch_size=args.batch_size,
        delay=args.max_delay_ms / 1000,
    )


def token_from(path: Path | None) -> str:
    """The token in a file, or of the environment; empty for none.

    Raises:
        CommandError: If the file cannot be read or is empty.
    """
    if path is None:
        return os.environ.get(TOKEN, "").strip()
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--token_file {path}: cannot be read: {error}") from None
    if not token:
        raise CommandError(f"--token_file {path}: is empty")
    return token
