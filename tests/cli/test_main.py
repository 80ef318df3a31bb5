"""Protects how every verb ends: exit status, one screen of text, no traceback unless it was asked for."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import types
from importlib import import_module

import pytest

import ppdet
from ppdet import cli
from ppdet.cli.data import ACTIONS
from ppdet.utils.errors import UserError
from tests.support import ROOT


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A verb `fake` whose `run` a test sets."""
    module = types.ModuleType("ppdet.cli.fake", doc="A fake.")
    module.add_arguments = lambda parser: parser.add_argument("--size", type=int)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ppdet.cli.fake", module)
    monkeypatch.setitem(cli.VERBS, "fake", "nothing")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return module


def ending_with(error: BaseException) -> object:
    """A `run` that raises."""

    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def test_arguments_and_status_pass_through(verb: types.ModuleType) -> None:
    verb.run = lambda args: args.size
    assert cli.main(["fake", "--size", "0"]) == 0
    assert cli.main(["fake", "--size", "5"]) == 5


def test_user_error_is_its_message_and_status_2(
    verb: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.run = ending_with(UserError("x.yml:3: no such key"))
    assert cli.main(["fake"]) == 2
    assert capsys.readouterr().err == "error: x.yml:3: no such key\n"


def test_debug_shows_the_traceback(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    verb.run = ending_with(UserError("no such key"))
    assert cli.main(["fake", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error: no such key\n")


def test_fault_is_named_with_its_place_and_status_1(
    verb: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    verb.run = ending_with(ZeroDivisionError("division by zero\nsecond line"))
    assert cli.main(["fake"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("unexpected ZeroDivisionError: division by zero (in ")
    assert "test_main.py:" in err
    assert "--debug" in err
    assert "Traceback" not in err
    assert "second line" not in err


def test_interrupt_is_status_130(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    verb.run = ending_with(KeyboardInterrupt())
    assert cli.main(["fake"]) == 130
    assert capsys.readouterr().err == "\nstopped\n"


@pytest.mark.parametrize(
    "words", [[], ["trian"], ["fake", "--sise", "3"], ["fake", "--siz", "3"], ["fake", "--size", "a"]]
)
def test_wrong_words_are_status_2(verb: types.ModuleType, words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2


def test_debug_names_the_settings_of_the_processor(
    verb: types.ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    verb.run = lambda args: 0
    monkeypatch.setitem(os.environ, "MKL_DEBUG_CPU_TYPE", "5")
    with caplog.at_level("DEBUG", logger="ppdet"):
        assert cli.main(["fake", "--debug"]) == 0
    assert "MKL_DEBUG_CPU_TYPE=5" in caplog.text


def test_every_verb_has_a_module_and_help() -> None:
    for name in cli.VERBS:
        module = import_module(f"ppdet.cli.{name}")
        assert module.__doc__, name
        assert f"ppdet {name}" in cli.make_parser(name).format_help()
        assert hasattr(module, "ACTIONS") or callable(module.run)


def test_every_action_has_a_module_and_help_with_an_example() -> None:
    assert "  synth " in cli.make_parser("data").format_help()
    for name in ACTIONS:
        module = import_module(f"ppdet.cli.data.{name.replace('-', '_')}")
        assert callable(module.run)
        assert f"\nppdet data {name} " in cli.make_parser("data", name).format_help()


def test_misspelt_action_is_named_with_the_one_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["data", "chek"])
    assert caught.value.code == 2
    assert "there is no action 'chek'; did you mean check?" in capsys.readouterr().err


def test_help_imports_no_paddle() -> None:
    code = (
        "import sys, ppdet.cli\n"
        "for name in ('train', 'eval', 'infer', 'config'): ppdet.cli.make_parser(name)\n"
        "assert 'paddle' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_version() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ppdet", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (0, f"ppdet {ppdet.__version__}\n")


def test_top_help_lists_the_verbs() -> None:
    text = cli.make_parser().format_help()
    assert all(f"  {name} " in text for name in cli.VERBS)
