"""The command line: parses options, calls the functions below, prints.

One verb is one module with `add_arguments(parser)` and `run(args) -> int`; a verb with a table `ACTIONS` is a
folder with one such module for each action. Exit status: 0 done, 1 a fault of
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
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Optional

from ppdet.utils.cpu import settings_in_force
from ppdet.utils.errors import UserError
from ppdet.utils.packages import missing_package, require_packages

logger = logging.getLogger(__name__)

#: Verb -> what it does, in the words of `ppdet --help`. Its module is `ppdet.cli.<verb>`.
VERBS = {
    "new": "write a config for your own data, with numbers that fit it",
    "train": "train a detector from a config",
    "eval": "measure AP and speed of trained weights on a dataset",
    "infer": "detect objects in images and draw them",
    "export": "write a model for Paddle Inference and ONNX Runtime, and compare them with it",
    "serve": "answer over HTTP with detections, and show a page to try it",
    "launch": "start one training on many machines, or in several processes",
    "report": "write a page that shows a training or explains detections",
    "compare": "compare trainings or detections: better, or noise?",
    "watch": "show a training in the terminal while it runs",
    "config": "print a resolved config with the origin of every value",
    "configs": "list, show and copy the configs that come with ppdet",
    "data": "make, check, count and convert datasets",
    "doctor": "check that this machine trains and detects as it should",
    "weights": "list, download, convert, check and share weights",
}

#: Verbs that need neither PaddlePaddle nor OpenCV.
WITHOUT_PADDLE = {"configs"}

USAGE, FAULT, STOPPED = 2, 1, 130


def make_parser(verb: Optional[str] = None, action: Optional[str] = None) -> argparse.ArgumentParser:
    """The parser of one verb or of one of its actions, or one that only knows their names.

    Only the module in question is imported.
    """
    if verb is None:
        return _parser_of_names("ppdet", "Object-detection training on PaddlePaddle.", "verb", VERBS)
    module = import_module(f"ppdet.cli.{verb}")
    actions = getattr(module, "ACTIONS", None)
    if actions and action is None:
        return _parser_of_names(f"ppdet {verb}", VERBS[verb].capitalize() + ".", "action", actions)
    if action is not None:
        module = import_module(f"ppdet.cli.{verb}.{action.replace('-', '_')}")
    prog = " ".join(["ppdet", verb, *([action] if action else [])])
    parser = argparse.ArgumentParser(prog=prog, description=module.__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    return parser


def _parser_of_names(
    prog: str, description: str, what: str, names: Mapping[str, str]
) -> argparse.ArgumentParser:
    width = max(map(len, names)) + 1
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"{what}s:\n" + "\n".join(f"  {name:<{width}} {text}" for name, text in names.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        what,
        choices=names,
        metavar=what.upper(),
        help=f"what to do; `{prog} {what.upper()} --help` describes it",
    )
    return parser


def _name_of(
    words: Sequence[str], what: str, names: Mapping[str, str], parser: argparse.ArgumentParser
) -> str:
    """The verb or action that the first word names.

    Raises:
        SystemExit: If it names none, after an explanation; or for ``--help``.
    """
    if words and words[0] not in names and not words[0].startswith("-"):
        near = difflib.get_close_matches(words[0], names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        parser.error(f"there is no {what} {words[0]!r}{hint} ({', '.join(names)})")
    return str(getattr(parser.parse_args(words[:1]), what))


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
    verb = _name_of(words, "verb", VERBS, make_parser())
    debug = "--debug" in words
    _set_up_process(debug=debug)  # before a verb's module may import Paddle
    try:
        action, module = None, import_module(f"ppdet.cli.{verb}")
        if hasattr(module, "ACTIONS"):
            action = _name_of(words[1:], "action", module.ACTIONS, make_parser(verb))
            module = import_module(f"ppdet.cli.{verb}.{action.replace('-', '_')}")
        args = make_parser(verb, action).parse_args(words[1 if action is None else 2 :])
        if verb not in WITHOUT_PADDLE:
            require_packages()
        status = module.run(args)
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
