"""The model card of shared weights: what the hub shows of them, from what the checkpoint says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from ppdet import __version__
from ppdet.experiment.config import Experiment
from ppdet.utils.metadata import CheckpointMetadata

#: Last line of a card that is ours to replace; a card without it was written by hand.
MARK = "<!-- Written by `ppdet weights push`, which replaces this file while this line is here. -->"
#: Classes that a card lists.
_LISTED = 100
_TASKS = {"bbox": "box", "segm": "mask"}


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Attributes:
        repository: ``owner/name`` on the hub.
        licence: The hub's identifier of the licence, e.g. ``apache-2.0``, as the owner states it.
        dataset: What the numbers were measured on, in words.
        metrics: Task -> number -> value from 0 to 1, e.g. ``{"bbox": {"AP": 0.37}}``.
        metadata: Of the checkpoint.
        experiment: Its configuration.
        parameters: Values in all tensors.
        megabytes: Size of the weight file.
        files: Other files of the repository -> what they are.
    """

    repository: str
    licence: str
    dataset: str
    metrics: Mapping[str, Mapping[str, float]]
    metadata: CheckpointMetadata
    experiment: Experiment
    parameters: int
    megabytes: float
    files: Mapping[str, str]


def dataset_of(experiment: Experiment) -> str:
    """What to call the evaluation dataset of a configuration: its annotation file, or its class."""
    dataset = experiment.EvalDataset
    if dataset is None:
        return ""
    path = dataset.arguments.get("anno_path")
    return PurePosixPath(path).stem if isinstance(path, str) and path else dataset.name


def model_card(facts: CardFacts) -> str:
    """The text of ``README.md``: YAML for the hub, then a page for people."""
    name = facts.repository.partition("/")[2]
    architecture = facts.experiment.architecture.name
    names = facts.metadata.class_names
    masks = "segm" in facts.metrics or "Mask" in architecture
    what = "objects and their masks" if masks else "objects"
    head = yaml.safe_dump(_for_the_hub(facts, name, masks=masks), sort_keys=False, allow_unicode=True)
    sections = [
        f"---\n{head}---",
        f"# {name}",
        f"{architecture} that detects {what} of {len(names)} classes, trained with ppdet.",
        "## Use",
        "```bash\npip install 'ppdet[cpu,hub]'\n"
        f"ppdet infer --weights hf://{facts.repository} --infer_dir photos\n```",
        "```python\nimport ppdet\n\n"
        f'detector = ppdet.load_detector("hf://{facts.repository}")\n'
        'found = detector("photo.jpg")\n```',
        *_results(facts),
        "## Model",
        _facts_table(facts, architecture),
        "## Classes",
        _class_list(names),
        MARK,
    ]
    return "\n\n".join(sections) + "\n"


def _for_the_hub(facts: CardFacts, name: str, *, masks: bool) -> dict[str, Any]:
    """What the hub reads: licence, tags, and the results for its search."""
    results = [
        {
            "task": {"type": "object-detection"},
            "dataset": {
                "name": facts.dataset,
                "type": re.sub(r"\W+", "-", facts.dataset.lower()).strip("-") or "own",
            },
            "metrics": [
                {"type": "mAP", "name": f"{_TASKS.get(task, task)} {number}", "value": round(value, 4)}
                for task, values in facts.metrics.items()
                for number, value in values.items()
                if value >= 0
            ],
        }
    ]
    architecture = facts.experiment.architecture.name
    index = [{"name": name, "results": results}] if facts.metrics else None
    return {
        "license": facts.licence,
        "library_name": "ppdet",
        "pipeline_tag": "image-segmentation" if masks else "object-detection",
        "tags": ["ppdet", "paddlepaddle", "object-detection", architecture],
        **({"model-index": index} if index else {}),
    }


def _results(facts: CardFacts) -> list[str]:
    if not facts.metrics:
        return []
    numbers = list(dict.fromkeys(number for values in facts.metrics.values() for number in values))
    rows = [
        [_TASKS.get(task, task), *(_hundredths(values.get(number, -1.0)) for number in numbers)]
        for task, values in facts.metrics.items()
    ]
    return ["## Results", f"On {_plain(facts.dataset)}, in hundredths:", _table(["", *numbers], rows)]


def _hundredths(value: float) -> str:
    return f"{100 * value:.1f}" if value >= 0 else "-"


def _facts_table(facts: CardFacts, architecture: str) -> str:
    metadata = facts.metadata
    rows = [
        ["network", architecture],
        ["configuration", _plain(facts.experiment.name)],
        ["parameters", f"{facts.parameters / 1e6:.2f} million"],
        ["file", f"{facts.megabytes:.1f} MB"],
    ]
    if metadata.epoch is not None:
        rows.append(["trained", f"{metadata.epoch} epochs, {metadata.step} steps"])
    if metadata.conventions:
        rows.append(["box conventions", metadata.conventions])
    rows += [
        ["written by", f"ppdet {metadata.version or __version__}"],
        ["licence", _plain(facts.licence)],
        *([f"[{name}]({name})", words] for name, words in facts.files.items()),
    ]
    return _table(["", ""], rows)


def _class_list(names: Sequence[str]) -> str:
    shown = ", ".join(_plain(name) for name in names[:_LISTED])
    return shown + (f", and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _plain(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    one_line = re.sub(r"\s+", " ", text)
    return re.sub(r"([\\`*_{}\[\]<>#|&!])", r"\\\1", one_line).replace("\\<", "&lt;").replace("\\&", "&amp;")
