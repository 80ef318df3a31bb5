"""Protects the top level: runtime keys of 2.x, frozenness, and that what is written out loads as the same."""

from __future__ import annotations

import ast
import copy
import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from ppdet.cli import main
from ppdet.config import ConfigError, Spec
from ppdet.config.compat import COMPONENT_KEYS, TOP_LEVEL_KEYS, Agrees, Only
from ppdet.config.components import COMPONENTS
from ppdet.config.registry import Table
from ppdet.config.schema import schema_of
from ppdet.engine.amp import AmpSettings
from ppdet.engine.ema import EmaSettings
from ppdet.engine.settings import TrainSettings
from ppdet.experiment.build import train_settings
from ppdet.experiment.config import Experiment, load_config
from tests.config.toys import load, write
from tests.support import ROOT
from tools.config_table import HEAD, page_with_table, table

RUNTIME = """
use_gpu: true
use_xpu: false
use_mlu: false
use_npu: false
use_gcu: false
log_iter: 50
save_dir: elsewhere
snapshot_epoch: 2
print_flops: false
print_params: false
export:
  post_process: true
  nms: true
  benchmark: false
  fuse_conv_bn: false
worker_num: 4
find_unused_parameters: true
norm_type: sync_bn
use_ema: true
ema_decay: 0.9998
ema_decay_type: exponential
filename: mine
metric: VOC
map_type: integral
epoch: 24
weights: output/x/model_final
pretrain_weights: https://a.b/c.pdparams
save_prediction_only: false
use_vdl: false
vdl_log_dir: vdl
amp: false
amp_level: O2
master_grad: true
sync_bn: false
profiler_options: null
load_static_weights: true
slice_infer: false
"""


def test_runtime_keys_of_2x(tmp_path: Path) -> None:
    exp = load(tmp_path, RUNTIME)
    assert (exp.log_iter, exp.save_dir, exp.snapshot_epoch, exp.worker_num) == (50, "elsewhere", 2, 4)
    assert (exp.epoch, exp.metric.name, exp.map_type, exp.amp_level) == (24, "VocMetric", "integral", "O2")
    assert exp.metric.arguments["map_type"] == "integral"
    assert (exp.use_ema, exp.ema_decay_type, exp.find_unused_parameters) == (True, "exponential", True)
    assert (exp.weights, exp.name, exp.norm_type) == ("output/x/model_final", "mine", "sync_bn")
    assert load(tmp_path, "").name == "x"


@pytest.mark.parametrize("key", ["use_xpu", "use_mlu", "use_npu", "use_gcu"])
def test_hardware_that_is_not_served(tmp_path: Path, key: str) -> None:
    load(tmp_path, f"{key}: false\n")
    with pytest.raises(
        ConfigError, match=rf"x.yml:2: {key}: expected false, got true: \w+ devices are not served"
    ):
        load(tmp_path, f"{key}: true\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epoch: twelve", "epoch: expected an integer of 1 or more, got the string 'twelve'"),
        ("metric: WiderFace", "metric: not provided: WiderFace (architecture Toy); Metrics here: COCO, VOC"),
        ("export: {nms: false}", "export.nms: expected true, got false: an export includes decoding and NMS"),
        ("export: {nsm: true}", "export.nsm: there is no key 'nsm'; did you mean 'nms'?"),
        ("export: true", "export: expected a mapping, got true"),
        ("use_gpu: 1", "use_gpu: expected true or false, got 1"),
        ("log_itr: 1", "log_itr: there is no key 'log_itr'; did you mean 'log_iter'?"),
        ("slim: {x: 1}", "slim: expected null, got a mapping (x): model compression is not provided"),
        ("TrainReader: ResNet", "TrainReader: ResNet is no TrainReader; there are: TrainReader"),
        (
            "LearningRate: {base_lt: 1}",
            "LearningRate.base_lt: LearningRate has no argument 'base_lt'; did you m",
        ),
        ("ResNet: 3", "ResNet: expected the arguments of ResNet, got 3"),
        ("ResNet: {data_format: NHWC}", "ResNet.data_format: expected 'NCHW', got the string 'NHWC'"),
        (
            "ResNet: {dcn_v2_stages: [3]}",
            "ResNet.dcn_v2_stages: expected [-1] or [] or null, got the list [3]: def",
        ),
    ],
)
def test_wrong_top_level_values(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"{line}\n")
    (problem,) = caught.value.problems
    assert re.search(rf"x.yml:2: {re.escape(message)}", str(problem)), problem


def test_rules_do_not_hide_arguments() -> None:
    """A key that a constructor takes, or a field of the experiment, needs no rule."""
    table = Table()
    for name, rules in COMPONENT_KEYS.items():
        if name in COMPONENTS:
            hidden = {key for key, rule in rules.items() if not isinstance(rule, Agrees)}
            assert not hidden & set(schema_of(table.get(name))), name
    assert not set(TOP_LEVEL_KEYS) & {f.name for f in dataclasses.fields(Experiment)}
    every = [
        *TOP_LEVEL_KEYS.values(),
        *(rule for rules in COMPONENT_KEYS.values() for rule in rules.values()),
    ]
    assert all(rule.values and rule.reason for rule in every if isinstance(rule, Only))


def test_frozen_and_apart(tmp_path: Path) -> None:
    exp = load(tmp_path, "Toy: {head: {weights: [1.0]}}\n")
    with pytest.raises(dataclasses.FrozenInstanceError):
        exp.epoch = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        exp.architecture.arguments["word"] = "x"  # type: ignore[index]
    other = load(tmp_path, "", "epoch=99")
    assert (exp.epoch, other.epoch) == (12, 99)
    assert other.architecture.arguments["head"].arguments["weights"] is None


def test_copies_and_pickles(tmp_path: Path) -> None:
    exp = load(tmp_path, "Toy: {word: a}\n")
    assert copy.deepcopy(exp) == exp
    again = pickle.loads(pickle.dumps(exp))
    assert again == exp
    assert str(again.architecture.origins["word"]).endswith("x.yml:2")


WRITTEN = """
Toy:
  steps: [ToyStep, {ToyFlip: {prob: 0.25}}]
  second: {num_classes: 4, weights: [1e-7, 2]}
  word: '1e3'
  free: {a: [~, yes, 'no']}
  pair: [3, 4]
ToyBackbone: {depth: 18}
use_xpu: false
save_dir: ordner/日本
"""


def test_written_out_loads_as_the_same(tmp_path: Path) -> None:
    exp = load(tmp_path, WRITTEN, "Toy.backbone.depth=34")
    for origins in (False, True):
        path = write(tmp_path, exp.to_yaml(origins=origins), "saved.yml")
        saved = load_config(path)
        assert saved == exp
        assert saved.to_yaml() == exp.to_yaml()
        assert load_config(path, ["ToyBackbone.depth=101"]).architecture.arguments["backbone"] == Spec.of(
            exp.architecture.arguments["backbone"].component, depth=101, norm_type="bn", widths=(1, 2)
        )


def test_origins_are_written(tmp_path: Path) -> None:
    lines = load(tmp_path, WRITTEN, "Toy.backbone.depth=34").to_yaml(origins=True).splitlines()
    origin = {
        line.split("  #")[0].split(":")[0].strip(): line.rpartition("# ")[2] for line in lines if "# " in line
    }
    assert origin["word"].endswith("x.yml:6")
    assert origin["num_classes"].endswith(("head.yml:3", "x.yml:5"))
    assert origin["depth"] == "override"
    assert origin["fg_thresh"] == "default"
    assert origin["prob"].endswith("x.yml:4")
    assert origin["- !ToyFlip"].endswith("x.yml:4")
    lines = load(tmp_path, WRITTEN, "Toy.free.a.1=2").to_yaml(origins=True).splitlines()
    (free,) = [line for line in lines if line.strip().startswith("free:")]
    assert re.search(r"# override, .*x.yml:7$", free)


def test_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "architecture: Toy\nnum_classes: 4\nToy: {backbone: ToyBackbone}\n", "x.yml")
    file = str(tmp_path / "x.yml")
    assert main(["config", file, "-o", "epoch=3", "Toy.word=a"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^epoch: 3 +# override$", out, re.M)
    assert re.search(r"^architecture: Toy +# .*x.yml:1$", out, re.M)
    assert main(["config", "-c", file, "--no-origins"]) == 0
    assert "#" not in capsys.readouterr().out
    assert main(["config", file, "-o", "Toy.wrod=1"]) == 2
    assert capsys.readouterr().err == (
        "error: override: Toy.wrod: Toy has no argument 'wrod'; did you mean 'word'?\n"
    )
    assert main(["config"]) == 2


def test_saved_file(tmp_path: Path) -> None:
    exp = load(tmp_path, WRITTEN)
    exp.save(tmp_path / "new" / "folder" / "config.yml")
    assert load_config(tmp_path / "new" / "folder" / "config.yml") == exp
    with pytest.raises(ConfigError, match=r"cannot be written: .*choose another save_dir"):
        exp.save(tmp_path / "x.yml" / "config.yml")


def test_saved_file_finds_its_plugins(tmp_path: Path) -> None:
    source = "from ppdet import register\nfrom tests.config.toys import ToyBackbone\n"
    source += "@register\nclass Saved(ToyBackbone):\n    pass\n"
    write(tmp_path, source, "net.py")
    exp = load(tmp_path, "plugins: [net.py]\nToy: {backbone: Saved}\n")
    exp.save(tmp_path / "out" / "config.yml")
    assert load_config(tmp_path / "out" / "config.yml") == exp


def test_override_without_effect_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(tmp_path, "ResNet: {depth: 18}\n")
    assert not caplog.records
    load(tmp_path, "", "ResNet.depth=18")
    assert [r.getMessage() for r in caplog.records] == [
        "override ResNet...: nothing in this configuration uses ResNet"
    ]


def test_the_page_has_the_table_of_the_code() -> None:
    """If this fails: python tools/config_table.py"""
    page = (ROOT / "docs" / "config.md").read_text("utf-8")
    assert page == page_with_table(page)
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == [
        f.name for f in dataclasses.fields(Experiment) if f.init
    ]
    assert page_with_table("x\n" + HEAD + "| `old` | | |\nend\n") == "x\n" + table() + "end\n"


class Recorder:
    """An experiment that remembers which of its fields were read."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.experiment, name)
        self.read.add(name)
        return value


def readers_of(source: str, fields: set[str]) -> set[str]:
    """Fields of an experiment that a module reads: ``experiment.NAME``, or a name in a call of `require`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).rpartition(".")[2].strip("_").lower()
            found |= {node.attr} if owner == "experiment" else set()
        elif isinstance(node, ast.Call):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found & fields


def test_every_field_has_a_reader(tmp_path: Path) -> None:
    """A key that does nothing is a trap: code reads it, or a component as a shared fact."""
    fields = {f.name for f in dataclasses.fields(Experiment) if f.init}
    recorder = Recorder(load(tmp_path, "amp: true\nuse_ema: true\n"))
    train_settings(recorder)  # type: ignore[arg-type]  # stands in for an experiment
    schemas = [schema_of(Table().get(component)).values() for component in COMPONENTS]
    read = recorder.read | {argument.name for schema in schemas for argument in schema if argument.shared}
    for path in (ROOT / "ppdet").rglob("*.py"):
        if path.name != "config.py":
            read |= readers_of(path.read_text("utf-8"), fields)
    # Read in config.py itself: by `Experiment.name`, and while the YAML is loaded.
    assert fields - read <= {"filename", "plugins"}
    assert readers_of("experiment.lost\nself._experiment.seed\nother.epoch", fields) == {"seed"}


def test_defaults_of_a_training_agree(tmp_path: Path) -> None:
    settings = train_settings(load(tmp_path, "amp: true\nuse_ema: true\n"))
    assert settings == TrainSettings(amp=AmpSettings(), ema=EmaSettings())
