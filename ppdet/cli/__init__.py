"""The command line: parses options, calls the functions below, prints.

One verb is one module with `add_arguments(parser)` and `run(args) -> int`. Exit status: 0 done, 1 a fault of
the program, 2 something the user can put right (also argparse's own), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import difflib
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Optional

from ppdet.utils.cpu import settings_in_force
from ppdet.utils.errors import UserError
from ppdet.utils.packages import missing_package, require_packages

logger = logging.getLogger(__name__)

#: Verb -> what it does, in the words of `ppdet --help`. Its module is `ppdet.cli.<verb>`.
VERBS = {
    "train": "train a detector from a config",
    "eval": "measure AP and speed of trained weights on a dataset",
    "infer": "detect objects in images and draw them",
    "export": "write a model for Paddle Inference and ONNX Runtime, and compare them with it",
    "report": "write a page that shows a training or explains detections",
    "compare": "compare trainings or detections: better, or noise?",
    "watch": "show a training in the terminal while it runs",
    "config": "print a resolved config with the origin of every value",
    "configs": "list, show and copy the configs that come with ppdet",
    "data": "make, check, count and convert datasets",
    "weights": "list, download, convert and check weights",
}

#: Verbs that need neither PaddlePaddle nor OpenCV.
WITHOUT_PADDLE = {"configs"}

USAGE, FAULT, STOPPED = 2, 1, 130


def make_parser(verb: Optional[str] = None) -> argparse.ArgumentParser:
    """The parser of one verb, or the top one that only knows the verbs' names.

    Only the module of the verb in question is imported.
    """
    if verb is None:
        parser = argparse.ArgumentParser(
            prog="ppdet",
            description="Object-detection training on PaddlePaddle.",
            epilog="verbs:\n" + "\n".join(f"  {name:<9} {text}" for name, text in VERBS.items()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "verb", choices=VERBS, metavar="VERB", help="what to do; `ppdet VERB --help` describes it"
        )
        return parser
    module = import_module(f"ppdet.cli.{verb}")
    parser = argparse.ArgumentParser(prog=f"ppdet {verb}", description=module.__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one verb.

    Args:
        argv: Arguments without the program's name; ``sys.argv[1:]`` if None.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        import ppdet

        print(f"ppdet {ppdet.__version__}")
        return 0
    if words and words[0] not in VERBS and not words[0].startswith("-"):
        near = difflib.get_close_matches(words[0], VERBS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        make_parser().error(f"there is no verb {words[0]!r}{hint} ({', '.join(VERBS)})")
    verb = make_parser().parse_args(words[:1]).verb
    debug = "--debug" in words
    _set_up_process(debug=debug)  # before a verb's module may import Paddle
    try:
        args = make_parser(verb).parse_args(words[1:])
        if verb not in WITHOUT_PADDLE:
            require_packages()
        status = import_module(f"ppdet.cli.{verb}").run(args)
        sys.stdout.flush()
        return int(status)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has gone; Python would complain once more while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        return _report(error, debug=debug)
    except ModuleNotFoundError as error:
        named = missing_package(error)
        if isinstance(named, UserError):
            return _report(named, debug=debug)
        _report_fault(error, debug=debug)
        return FAULT
    except Exception as error:
        _report_fault(error, debug=debug)
        return FAULT


def _report(error: UserError, *, debug: bool) -> int:
    """Print what the user can put right."""
    if debug:
        traceback.print_exc()
    print(f"error: {error}", file=sys.stderr)
    return USAGE


def _set_up_process(*, debug: bool) -> None:
    """Logging to the screen, and Paddle's settings, which it reads while it is imported."""
    for stream in (sys.stdout, sys.stderr):
        # A class name in Chinese on a console of another alphabet is shown with escapes; it ends nothing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[_LinesAboveBars(sys.stderr)])
    logging.getLogger("ppdet").setLevel(logging.DEBUG if debug else logging.INFO)
    logger.debug(settings_in_force())
    # Paddle's INFO lines about its own start-up say nothing to a user of this program.
    os.environ.setdefault("GLOG_minloglevel", "0" if debug else "2")
    if not debug:
        for message in ("No ccache found", "When training, we now always track global mean"):
            warnings.filterwarnings("ignore", message=message)


class _LinesAboveBars(logging.StreamHandler):
    """Writes log lines above the progress bars of a terminal, which would leave their remains in them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Clear the bars, write the line, draw them again."""
        tqdm = sys.modules.get("tqdm")  # without it there is no bar
        if tqdm is None:
            super().emit(record)
        else:
            with tqdm.tqdm.external_write_mode(file=self.stream):
                super().emit(record)


def _report_fault(error: Exception, *, debug: bool) -> None:
    """Print an unexpected exception in a few lines, with `--debug` in full."""
    if debug:
        traceback.print_exc()
        return
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (in {frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    first_line = (str(error).strip().splitlines() or [""])[0]
    print(f"unexpected {type(error).__name__}: {first_line}{where}", file=sys.stderr)
    print("This may be a fault of ppdet. Run again with --debug for the whole traceback.", file=sys.stderr)
