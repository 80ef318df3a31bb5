"""Start one training on many machines, or in several processes of one.

ppdet launch --nproc 4 -- train -c faster_rcnn_r50_fpn_1x_coco --eval
ppdet launch --nnodes 2 --master 10.0.0.1 -- train -c faster_rcnn_r50_fpn_1x_coco --eval     on every machine
ppdet launch --hosts node-a,node-b -- train -c faster_rcnn_r50_fpn_1x_coco --eval            by ssh, on one
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from ppdet.cli.common import CommandError, load_experiment
from ppdet.utils.files import expanded

if TYPE_CHECKING:
    from ppdet.experiment.config import Experiment

#: Verbs that several processes can share.
_SHARED = ("train", "eval", "infer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet launch``."""
    parser.add_argument(
        "--nproc",
        default="auto",
        metavar="auto|N",
        help="processes of this machine; auto (default): one for each GPU, or one without GPUs",
    )
    nodes = parser.add_argument_group("many machines")
    nodes.add_argument("--nnodes", type=int, default=1, metavar="N", help="machines (default: 1)")
    nodes.add_argument(
        "--master",
        metavar="IP[:PORT]",
        help="address of the first machine, as the others reach it (port: 29400); the same on every machine",
    )
    nodes.add_argument(
        "--wait",
        type=float,
        default=25.0,
        metavar="SECONDS",
        help="how long to wait for all machines (default: 25)",
    )
    nodes.add_argument(
        "--hosts", metavar="A,B,C", help="start all of these by ssh, from here, in this folder of each"
    )
    nodes.add_argument("--print", action="store_true", help="with --hosts: print the commands instead")
    parser.add_argument(
        "--log_dir",
        type=expanded,
        metavar="DIR",
        help="output of every process; default: the folder `log` of the training",
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- VERB ...", help=f"one of {', '.join(_SHARED)}"
    )


def run(args: argparse.Namespace) -> int:
    """Start the processes, and wait for them."""
    from ppdet.launch.facts import NodeFacts, data_digests, host_name, versions
    from ppdet.launch.network import parse_master
    from ppdet.launch.node import LaunchOptions, run_alone, run_node

    if sys.platform == "win32":
        raise CommandError("ppdet launch needs Linux or macOS; Paddle has no gloo or NCCL for Windows")
    command = [word for i, word in enumerate(args.command) if (i, word) != (0, "--")]
    experiment = _experiment_of(command)
    if args.hosts is not None:
        return _start_hosts(args, command)
    if args.print:
        raise CommandError("--print goes with --hosts")
    if args.nnodes < 1 or not 0 < args.wait < float("inf"):
        raise CommandError(f"--nnodes {args.nnodes} --wait {args.wait:g}: both must be greater than 0")
    if (args.nnodes > 1) != (args.master is not None):
        raise CommandError("--nnodes N and --master IP:PORT go together, the same on every machine")
    options = LaunchOptions(
        command,
        _processes(args.nproc),
        _log_folder(args.log_dir, experiment),
        _show,
        args.nnodes,
        args.wait,
    )
    if args.master is None:
        return run_alone(options)
    facts = NodeFacts(
        name=host_name(),
        address="",
        probe_port=0,
        processes=options.processes,
        versions=versions(),
        config="" if experiment is None else experiment.to_yaml(),
        data={} if experiment is None else data_digests(experiment),
        command=" ".join(command),
    )
    return run_node(parse_master(args.master, wait=args.wait), facts, options)


def _experiment_of(command: list[str]) -> Optional[Experiment]:
    """The experiment that a command names with ``-c``; its options are checked on the way."""
    from ppdet.cli import make_parser

    if not command or command[0] not in _SHARED:
        given = f"not {command[0]!r}" if command else "after --"
        raise CommandError(f"give a verb that several processes can share, {given}: {', '.join(_SHARED)}")
    args = make_parser(command[0]).parse_args(command[1:])
    return load_experiment(args) if args.config else None


def _processes(given: str) -> int:
    if given == "auto":
        from ppdet.utils.machine import this_machine

        return max(1, this_machine().gpus)
    if not given.isdigit() or int(given) < 1:
        raise CommandError(f"--nproc {given}: expected auto, or a number of processes from 1")
    return int(given)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _log_folder(given: Union[Path, None], experiment: Optional[Experiment]) -> Path:
    if given is not None:
        return given
    return Path("log") if experiment is None else expanded(experiment.save_dir) / experiment.name / "log"


def _start_hosts(args: argparse.Namespace, command: list[str]) -> int:
    from ppdet.launch.hosts import commands_for, run_by_ssh
    from ppdet.launch.network import DEFAULT_PORT

    if args.nnodes != 1 or args.master is not None:
        raise CommandError("--hosts says which machines there are; leave out --nnodes and --master")
    options = ["--nproc", args.nproc, "--wait", f"{args.wait:g}"]
    if args.log_dir is not None:
        options += ["--log_dir", str(args.log_dir)]
    commands = commands_for(args.hosts.split(","), options, command, DEFAULT_PORT)
    if args.print:
        print("\n".join(f"# {item.host}\n{item.line}" for item in commands))
        return 0
    return run_by_ssh(commands, lambda line: print(line, flush=True))
