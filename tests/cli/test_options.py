"""Protects the command line from growth: a new option is a decision made here; new knobs go in the config."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ppdet import cli

LOOKS = {"--tta", "--slice_infer", "--slice_size", "--overlap_ratio", "--combine_method", "--match_threshold"}
CONFIG = {"-h --help", "-c --config", "-o --opt", "--device", "--debug"}
OPTIONS = {
    "train": CONFIG
    | {"-r --resume", "--eval", "--amp", "--dry-run", "--classes-from", "--allow-partial"}
    | {"--deterministic", "--profile", "--replay", "--epochs", "--batch", "--lr"},
    "eval": CONFIG
    | LOOKS
    | {"--weights", "--json", "--save_results", "--classwise", "--allow-partial", "--runtime", "--classes"}
    | {"--report"},
    "report": {
        "-h --help",
        "--debug",
        "--anno_path",
        "--image_dir",
        "--masks",
        "--output",
        "--json",
        "--csv",
    },
    "compare": {"-h --help", "--debug", "--anno_path", "--output"},
    "watch": {"-h --help", "--debug", "--once", "--interval"},
    "infer": CONFIG
    | LOOKS
    | {
        "--video_file",
        "--anno_path",
        "--formats",
        "--save_threshold",
        "--weights",
        "--infer_img",
        "--infer_dir",
        "--output_dir",
        "--draw_threshold",
        "--no_draw",
        "--visualize",
        "--save_results",
        "--classes",
        "--runtime",
    },
    "export": CONFIG
    | {
        "--weights",
        "--output_dir",
        "--formats",
        "--classes",
        # Neither is a property of the model that a config describes, but of one file made from it.
        "--precision",
        "--calibration",
        "--max_ap_loss",
        "--uint8",
        "--verify_dir",
        "--verify_ap",
        "--no-verify",
    },
}


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Every spelling of every option."""
    return {" ".join(action.option_strings) for action in parser._actions if action.option_strings}


@pytest.mark.parametrize("verb", OPTIONS)
def test_options_are_frozen(verb: str) -> None:
    assert options_of(cli.make_parser(verb)) == OPTIONS[verb]


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_option_says_what_it_does(verb: str) -> None:
    assert all(action.help for action in cli.make_parser(verb)._actions)


def test_spellings_of_2x_are_understood() -> None:
    parser = cli.make_parser("infer")
    args = parser.parse_args(
        ["-c", "a.yml", "-o", "weights=b", "use_gpu=false", "--infer_img=c.jpg", "--draw_threshold=0.3"]
    )
    assert (args.opt, args.infer_img, args.draw_threshold) == (
        ["weights=b", "use_gpu=false"],
        Path("c.jpg"),
        0.3,
    )


@pytest.mark.parametrize(
    ("words", "resume"),
    [([], None), (["-r"], "auto"), (["-r", "auto"], "auto"), (["--resume", "output/x"], "output/x")],
)
def test_resume_takes_a_folder_or_finds_it(words: list[str], resume: object) -> None:
    assert cli.make_parser("train").parse_args(["-c", "a.yml", *words]).resume == resume


def test_overrides_add_up() -> None:
    args = cli.make_parser("train").parse_args(["-c", "a.yml", "-o", "a=1", "b=2", "--eval", "-o", "c=3"])
    assert args.opt == ["a=1", "b=2", "c=3"]
