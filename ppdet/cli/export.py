"""Export trained weights for Paddle Inference, ONNX Runtime and OpenVINO, and verify what the export detects.

ppdet export --weights output/x/best_model --output_dir exported
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ppdet.cli.common import (
    CommandError,
    add_classes_argument,
    add_config_arguments,
    add_device_argument,
    add_weights_argument,
    load_model,
)
from ppdet.utils.files import expanded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet export``."""
    add_config_arguments(parser, required=False)
    add_weights_argument(parser, "export")
    parser.add_argument(
        "--output_dir",
        type=expanded,
        metavar="DIR",
        help="where to (default: output_inference/<name of the config>)",
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=("paddle", "onnx", "openvino", "paddle2x"),
        help="what to write; paddle2x has the outputs of PaddleDetection 2.x "
        "(default: paddle, and onnx where its packages are installed)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="with --formats openvino: smaller weights, or a quantised network, with the AP before and after",
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        type=expanded,
        default=[],
        metavar="DIR|FILE",
        help="with int8: images like those that the detector will see",
    )
    parser.add_argument(
        "--max_ap_loss",
        type=float,
        default=1.0,
        metavar="AP",
        help="the most AP that less precision may cost, of 100 (%(default)s); more is refused",
    )
    add_classes_argument(parser)
    parser.add_argument(
        "--uint8",
        action="store_true",
        help="take [N, H, W, 3] uint8 RGB images and normalise them inside the graph",
    )
    parser.add_argument(
        "--verify_dir",
        type=expanded,
        metavar="DIR",
        help="compare on images of this folder; default: generated images",
    )
    parser.add_argument(
        "--verify_ap",
        action="store_true",
        help="also evaluate the model and its exports on the config's EvalDataset: AP within 0.1",
    )
    parser.add_argument(
        "--no-verify", action="store_true", help="do not compare the export with the model it was made from"
    )
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Export and compare."""
    from ppdet.experiment.verify_ap import verify_ap
    from ppdet.export.verify import table
    from ppdet.inference.images import samples_of

    if args.verify_ap and (args.no_verify or args.uint8):
        raise CommandError("--verify_ap goes neither with --no-verify nor with --uint8")
    if args.precision != "float32":
        return _reduced(args)
    if args.verify_dir:
        samples_of(args.verify_dir)  # a missing folder is reported before the weights are loaded
    detector = load_model(args)
    folder = args.output_dir or Path("output_inference") / detector.experiment.name
    result = detector.export(
        folder, formats=args.formats, uint8=args.uint8, verify=not args.no_verify, images=args.verify_dir
    )
    if result.comparisons:
        print(table(result.comparisons))
        if not sum(comparison.objects for comparison in result.comparisons):
            print("no objects were detected in these images; compare on real ones with --verify_dir DIR")
    if args.verify_ap:
        print(verify_ap(detector, folder, [comparison.runtime for comparison in result.comparisons]))
    for path in result.files:
        if path.suffix == ".onnx":
            print(f"TensorRT: {_tensorrt(path)}")
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in result.files)
    checked = "equal to the model within the limits" if result.comparisons else "NOT compared with the model"
    print(f"exported to {folder}: {sizes}; {checked}")
    return 0


def _tensorrt(path: Path) -> str:
    from ppdet.export import tensorrt

    found, version = tensorrt.obstacles(path), tensorrt.support().version
    if not found:
        return f"every operator of {path.name} is one that version {version} documents"
    return f"version {version} does not document all of {path.name}: {'; '.join(found)}"


def _reduced(args: argparse.Namespace) -> int:
    from ppdet.experiment.reduced import export_reduced

    if args.formats != ["openvino"] or args.uint8 or args.no_verify:
        raise CommandError(f"--precision {args.precision} is for --formats openvino, float images, verified")
    detector = load_model(args)
    folder = args.output_dir or Path("output_inference") / detector.experiment.name
    table = export_reduced(
        detector, folder, args.precision, calibration=args.calibration, max_ap_loss=args.max_ap_loss
    )
    print(table)
    print(f"exported to {folder} in {args.precision}")
    return 0
