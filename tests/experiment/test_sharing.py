"""Protects what leaves the machine when weights are shared: a true card, weights that load, no private path.

The hub is a stand-in on this machine; its client is the real one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

import ppdet
from ppdet.experiment.model_card import MARK, CardFacts, dataset_of, model_card
from ppdet.experiment.sharing import portable
from ppdet.experiment.trained import CheckpointDetector, SourceError
from ppdet.utils.errors import UserError, WeightsError
from ppdet.utils.metadata import CheckpointMetadata
from tests.cli.small import NAMES, assert_told, command, make_project, save_weights
from tests.fake_hub import Hub, Repository, hub_of_tests

METRICS = {
    "bbox": {"AP": 0.3456, "AP50": 0.5, "APs": -1.0},
    "fps": {"images_per_second": 9.0},
    "classwise": {},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("sharing"))
    config = ppdet.load_config(
        folder / "small.yml", {"EvalDataset.dataset_dir": "/srv/ann/secret/data", "save_dir": "~/runs"}
    )
    save_weights(folder, "best.pdparams", config={"yaml": config.to_yaml()})
    save_weights(folder, "foreign.pdparams", class_names=())
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_of_tests(monkeypatch, tmp_path / "cache") as hub:
        yield hub


def head_of(card: str) -> dict:
    """What the hub reads of a card."""
    return yaml.safe_load(card.split("---\n")[1])


def test_what_is_pushed_loads_from_the_hub_as_the_same_detector(hub: Hub, project: Path) -> None:
    result = ppdet.push_weights(
        project / "best.pdparams",
        "hf://me/fruit",
        ppdet.PushOptions("apache-2.0", dataset="Fruit val", metrics=project / "metrics.json", private=True),
    )
    repository = hub.repositories["me/fruit"]
    assert (result.url, repository.private, repository.commits) == (f"{hub.url}/me/fruit", True, 1)
    assert set(repository.files) == set(result.files) == {"README.md", "config.yml", "model.safetensors"}
    assert result.files == {name: len(content) for name, content in repository.files.items()}
    assert repository.files["README.md"].decode() == result.card

    shared, own = (ppdet.load_detector(s) for s in ("hf://me/fruit", project / "best.pdparams"))
    assert isinstance(shared, CheckpointDetector)
    assert shared.class_names == NAMES
    for key, value in own.model.state_dict().items():
        assert np.array_equal(value.numpy(), shared.model.state_dict()[key].numpy()), key


def test_nothing_that_is_sent_names_a_folder_of_the_machine(hub: Hub, project: Path) -> None:
    ppdet.push_weights(project / "best.pdparams", "me/fruit", ppdet.PushOptions("mit"))
    for name, content in hub.repositories["me/fruit"].files.items():
        for private in (b"/srv/ann", b"secret", b"~/runs", str(project).encode()):
            assert private not in content, name
    experiment = ppdet.load_detector("hf://me/fruit").experiment
    assert experiment is not None
    assert experiment.EvalDataset is not None
    assert experiment.EvalDataset.arguments["dataset_dir"] == "data"
    assert experiment.save_dir == "runs"
    assert experiment.name == "small"


def test_paths_of_every_kind_become_their_last_part(project: Path) -> None:
    for given, shared in (
        ("/a/b c/d", "d"),
        ("~/x/y", "y"),
        ("C:\\Homes\\ann\\data", "data"),
        ("D:/sets/ann/data", "data"),
        ("\\\\server\\share\\data", "data"),
        ("../relative/data", "../relative/data"),
        ("ppdet://models/x.pdparams", "ppdet://models/x.pdparams"),
    ):
        config = ppdet.load_config(project / "small.yml", {"pretrain_weights": given})
        assert portable(config).pretrain_weights == shared


def test_a_card_says_what_the_checkpoint_and_the_evaluation_say(hub: Hub, project: Path) -> None:
    options = ppdet.PushOptions("cc-by-4.0", dataset="Fruit | val", metrics=project / "metrics.json")
    card = ppdet.push_weights(project / "best.pdparams", "me/fruit", options, dry_run=True).card
    assert hub.repositories == {}
    head = head_of(card)
    assert head["license"] == "cc-by-4.0"
    assert head["pipeline_tag"] == "object-detection"
    assert "FasterRCNN" in head["tags"]
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"] == {"name": "Fruit | val", "type": "fruit-val"}
    assert [(m["name"], m["value"]) for m in result["metrics"]] == [("box AP", 0.3456), ("box AP50", 0.5)]
    parameters = sum(
        v.size for v in ppdet.load_detector(project / "best.pdparams").model.state_dict().values()
    )
    for line in (
        "FasterRCNN that detects objects of 3 classes, trained with ppdet.",
        'detector = ppdet.load_detector("hf://me/fruit")',
        "On Fruit \\| val, in hundredths:",
        "|  | AP | AP50 | APs |",
        "| box | 34.6 | 50.0 | - |",
        f"| parameters | {parameters / 1e6:.2f} million |",
        "| configuration | small |",
        "| licence | cc-by-4.0 |",
        "cat, dog, bird",
    ):
        assert line in card.splitlines(), line


def facts(project: Path, **changes) -> CardFacts:
    given = {
        "repository": "me/fruit",
        "licence": "mit",
        "dataset": "val",
        "metrics": {},
        "metadata": CheckpointMetadata(class_names=NAMES, epoch=12, step=3400),
        "experiment": ppdet.load_config(project / "small.yml"),
        "parameters": 1,
        "megabytes": 1.0,
        "files": {},
    }
    return CardFacts(**{**given, **changes})


def test_a_card_without_numbers_claims_none(project: Path) -> None:
    card = model_card(facts(project))
    assert "model-index" not in head_of(card)
    assert "## Results" not in card
    assert "| trained | 12 epochs, 3400 steps |" in card


def test_names_cannot_change_the_page(project: Path) -> None:
    names = ("<script>", "a|b", "x\n# y", "`c`", "](http://z)", "&lt;")
    metadata = CheckpointMetadata(class_names=names)
    card = model_card(facts(project, metadata=metadata, dataset="<b>"))
    assert "<script>" not in card
    assert "\n# y" not in card
    assert "\\](http://z)" in card
    assert "&amp;lt;" in card
    with pytest.raises(UserError, match="licence"):
        ppdet.PushOptions("mit\n---\nevil: 1")


def test_masks_and_many_classes(project: Path) -> None:
    metrics = {"bbox": {"AP": 0.5}, "segm": {"AP": 0.25, "APm": 0.1}}
    names = tuple(f"c{i}" for i in range(130))
    card = model_card(facts(project, metrics=metrics, metadata=CheckpointMetadata(class_names=names)))
    assert head_of(card)["pipeline_tag"] == "image-segmentation"
    assert "| box | 50.0 | - |\n| mask | 25.0 | 10.0 |" in card
    assert "c99, and 30 more" in card


def test_the_dataset_is_named_by_its_annotation_file(project: Path) -> None:
    assert dataset_of(ppdet.load_config(project / "small.yml")) == "instances_val2017"
    assert dataset_of(ppdet.load_config(project / "small.yml", {"EvalDataset": None})) == ""


def test_a_card_written_by_hand_stays(hub: Hub, project: Path) -> None:
    by_hand = Repository({"README.md": b"# mine"})
    ours = Repository({"README.md": f"# old\n{MARK}\n".encode()})
    hub.repositories.update({"me/hand": by_hand, "me/ours": ours})
    options = ppdet.PushOptions("mit")
    assert ppdet.push_weights(project / "best.pdparams", "me/hand", options).card_kept
    assert by_hand.files["README.md"] == b"# mine"
    assert "model.safetensors" in by_hand.files
    assert not ppdet.push_weights(project / "best.pdparams", "me/ours", options).card_kept
    assert ours.files["README.md"].startswith(b"---\nlicense: mit")


def test_the_report_is_shared_when_it_is_named(hub: Hub, project: Path) -> None:
    (project / "page.html").write_text("<p>report")
    options = ppdet.PushOptions("mit", report=project / "page.html")
    card = ppdet.push_weights(project / "best.pdparams", "me/fruit", options).card
    assert hub.repositories["me/fruit"].files["evaluation.html"] == b"<p>report"
    assert "[evaluation.html](evaluation.html)" in card


def test_what_cannot_be_shared_is_refused_before_anything_is_sent(
    hub: Hub, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mit = ppdet.PushOptions("mit")
    best = project / "best.pdparams"
    (project / "other.json").write_text('{"fps": {"x": 1}}')
    for error, words, call in (
        (UserError, "licence ' ': state", lambda: ppdet.PushOptions(" ")),
        (UserError, "there is no such file", lambda: ppdet.PushOptions("mit", metrics=Path("gone.json"))),
        (WeightsError, "owner/name", lambda: ppdet.push_weights(best, "fruit", mit)),
        (
            SourceError,
            "no configuration",
            lambda: ppdet.push_weights(project / "foreign.pdparams", "me/x", mit),
        ),
        (
            UserError,
            "no numbers",
            lambda: ppdet.push_weights(
                best, "me/x", ppdet.PushOptions("mit", metrics=project / "other.json")
            ),
        ),
    ):
        with pytest.raises(error, match=words):
            call()
    assert hub.requests == []
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_stranger")
    with pytest.raises(WeightsError, match=r"hf://me/x: .*HTTP status 401.*HF_TOKEN"):
        ppdet.push_weights(best, "me/x", mit)
    assert hub.repositories == {}


def test_the_command(hub: Hub, project: Path) -> None:
    words = ("weights", "push", "best", "me/fruit", "--licence", "mit", "--metrics", "metrics.json")
    dry = command(*words, "--dry-run", cwd=project)
    assert dry.returncode == 0, dry.stderr
    assert "| box | 34.6 | 50.0 | - |" in dry.stdout
    assert "dry run: nothing was sent" in dry.stdout
    assert hub.requests == []
    assert "states no AP" not in dry.stdout
    assert "states no AP" in command(*words[:6], "--dry-run", cwd=project).stdout
    done = command(*words, cwd=project)
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/me/fruit: others load it as hf://me/fruit" in done.stdout
    foreign = ("weights", "push", "foreign", "me/foreign", "--license", "mit")
    assert_told(command(*foreign, cwd=project), "foreign.pdparams: carries no configuration", "-c")
    assert_told(command(*foreign, "-c", "small.yml", cwd=project), "has no class names", "--classes")
    done = command(*foreign, "-c", "small.yml", "--classes", "a,b,c", cwd=project)
    assert done.returncode == 0, done.stderr
    assert ppdet.load_detector("hf://me/foreign").class_names == ("a", "b", "c")
    assert_told(command("weights", "push", "best", "fruit", "--licence", "mit", cwd=project), "owner/name")
