"""Protects the shape of the code: who may import whom, how long things get, and what never appears.

Everything is read from the syntax trees; only two tests run anything (a bare `import ppdet`, and vermin).
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "ppdet"
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

#: Parts of the package from the bottom up: a part imports parts of lower rows only, and itself. A part is
#: `ppdet/<part>/` or `ppdet/<part>.py`; `data/tools` is one of its own, since it stands above experiments.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("utils",),
    ("ops", "structures", "config"),
    ("engine", "modeling", "data", "metrics"),
    ("zoo",),
    ("inference",),
    ("export",),
    ("report",),
    ("experiment",),
    ("serve", "data/tools", "launch"),
    ("doctor",),
    ("cli",),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
#: What a row may not import although it is lower: tensor operations are the business of models.
NOT_FOR = {
    "ops": {
        "engine",
        "data",
        "metrics",
        "zoo",
        "export",
        "experiment",
        "serve",
        "report",
        "data/tools",
        "cli",
    }
}
#: Free to import anything: the package's own front door.
TOP = {"__init__", "__main__"}

#: Inside `modeling`, lower may not import higher, and families of one rank not each other.
MODELING_RANK = {
    "detectors": 3,
    "heads": 2,
    "necks": 2,
    "backbones": 2,
    "transformers": 2,
    "assign": 1,
    "losses": 1,
    "layers": 1,
}


def tracked(pattern: str = "*") -> list[Path]:
    """Files of the checkout that git knows, or all of them where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    paths = [ROOT / name for name in names] or [p for p in ROOT.rglob(pattern) if ".venv" not in p.parts]
    return [path for path in paths if path.is_file()]


def python_files() -> list[Path]:
    """All Python files of the checkout."""
    return sorted(tracked("*.py"))


def tree_of(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    """Path inside the checkout, for messages."""
    return path.relative_to(ROOT).as_posix()


def part_of(path: Path) -> str:
    """Part of the package that a file belongs to."""
    return part_named(path.relative_to(PACKAGE).with_suffix("").parts)


def part_named(pieces: Sequence[str]) -> str:
    """Part that a module belongs to, from the pieces of its name below `ppdet`."""
    if not pieces:
        return "__init__"
    return "data/tools" if tuple(pieces[:2]) == ("data", "tools") else pieces[0]


def imports_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, inside functions and TYPE_CHECKING blocks too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def direction_faults(part: str, tree: ast.Module) -> list[str]:
    """Imports of a file in `part` that point up or sideways."""
    if part in TOP:
        return []
    faults = []
    for line, module in imports_of(tree):
        pieces = module.split(".")
        if pieces[0] != "ppdet" or pieces[1:] == ["__version__"] or (part == "cli" and len(pieces) == 1):
            continue
        target = part_named(pieces[1:])
        down = target in RANK and RANK[target] < RANK[part] and part not in NOT_FOR.get(target, ())
        if target != part and not down:
            faults.append(f"{line}: {part} imports {module}")
    return faults


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def module_graph() -> dict[str, set[str]]:
    """Which module of the package imports which, type-only and late imports included."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        pieces = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(pieces[:-1] if pieces[-1] == "__init__" else pieces)] = path
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        graph[name] = set()
        if name == "ppdet":  # its names load on first use: the front door, not a dependency
            continue
        for _, module in imports_of(tree_of(path)):
            target = module if module in names else module.rpartition(".")[0]
            if target in names and target != name and target != "ppdet":
                graph[name].add(target)
    return graph


def modeling_faults(family: str, tree: ast.Module) -> list[str]:
    """Imports between the families of `modeling` that point up or sideways."""
    faults = []
    for line, module in imports_of(tree):
        target = [*module.split("."), "", ""][2] if module.startswith("ppdet.modeling.") else ""
        if target not in MODELING_RANK or target == family:
            continue
        if MODELING_RANK.get(family, 0) < MODELING_RANK[target] or (
            MODELING_RANK[target] == MODELING_RANK.get(family) == 2
        ):
            faults.append(f"{line}: {family} imports {module}")
    return faults


def test_imports_point_down() -> None:
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")}
    assert parts - set(RANK) - TOP == set(), "a new part of the package needs a place in LAYERS"
    faults = [
        f"{name_of(path)}:{fault}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for fault in direction_faults(part_of(path), tree_of(path))
    ]
    assert not faults, "imports against DESIGN:\n" + "\n".join(faults)


def test_no_module_imports_itself_through_others() -> None:
    assert circles(module_graph()) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_imports_inside_modeling_point_down() -> None:
    root = PACKAGE / "modeling"
    faults = [
        f"{name_of(path)}:{fault}"
        for path in sorted(root.rglob("*.py"))
        for fault in modeling_faults(path.relative_to(root).parts[0], tree_of(path))
    ]
    assert not faults, "imports against the order of modeling:\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("part", "source", "count"),
    [
        ("ops", "from ppdet.structures import Batch", 1),
        ("ops", "import numpy", 0),
        ("config", "from ppdet.utils.errors import UserError", 0),
        ("engine", "def f():\n    import ppdet.modeling.heads", 1),
        ("engine", "from ppdet import engine, data", 1),
        ("metrics", "from ppdet.structures.batch import Detections", 0),
        ("experiment", "from ppdet.cli import main", 1),
        ("cli", "from ppdet import experiment", 0),
        ("data", "from ppdet.data.tools import check", 1),
        ("data/tools", "from ppdet.data.readers import Reader", 0),
        ("data", "from ppdet.ops.boxes import iou", 1),
        ("zoo", "from ppdet.export.info import ExportInfo", 1),
        ("engine", "from ppdet import __version__", 0),
        ("engine", "import ppdet", 1),
    ],
)
def test_direction_rule_sees_faults(part: str, source: str, count: int) -> None:
    assert len(direction_faults(part, ast.parse(source))) == count


@pytest.mark.parametrize(
    ("family", "source", "count"),
    [
        ("heads", "from ppdet.modeling.detectors.faster_rcnn import FasterRCNN", 1),
        ("heads", "from ppdet.modeling.backbones import resnet", 1),
        ("heads", "from ppdet.modeling.assign.matchers import Matcher", 0),
        ("layers", "from ppdet.modeling.heads import bbox_head", 1),
        ("interfaces.py", "from ppdet.modeling.layers import norm", 1),
        ("detectors", "from ppdet.modeling.heads.bbox_head import BBoxHead", 0),
        ("heads", "from ppdet.modeling.interfaces import Neck", 0),
    ],
)
def test_modeling_rule_sees_faults(family: str, source: str, count: int) -> None:
    assert len(modeling_faults(family, ast.parse(source))) == count


def test_files_and_functions_stay_short() -> None:
    faults = []
    for path in python_files():
        if path.is_relative_to(ROOT / "tests"):
            continue
        lines = path.read_text("utf-8").count("\n")
        if lines > MAX_FILE_LINES:
            faults.append(f"{name_of(path)}: {lines} lines, at most {MAX_FILE_LINES}")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    faults.append(
                        f"{name_of(path)}:{node.lineno}: {node.name} has {length} lines, "
                        f"at most {MAX_FUNCTION_LINES}"
                    )
    assert not faults, "too long:\n" + "\n".join(faults)


def constructors(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Class name and `__init__` of every class of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    yield node.name, item


def parameters_of(function: ast.FunctionDef) -> list[str]:
    """Names of all parameters but self."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    extra = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [a.arg for a in [*every, *extra]][1:]


def stored_as(parameter: str, function: ast.FunctionDef) -> Optional[str]:
    """Attribute that a parameter is stored in, if plainly storing it is all that is done with it.

    Returns:
        The attribute; "" if the parameter is not read at all; None if more is done with it.
    """
    reads = [
        n
        for n in ast.walk(ast.Module(body=function.body, type_ignores=[]))
        if isinstance(n, ast.Name) and n.id == parameter and isinstance(n.ctx, ast.Load)
    ]
    if not reads:
        return ""
    for node in ast.walk(function):
        if (
            len(reads) == 1
            and isinstance(node, (ast.Assign, ast.AnnAssign))
            and node.value is reads[0]
            and isinstance(
                target := node.targets[0] if isinstance(node, ast.Assign) else node.target, ast.Attribute
            )
        ):
            return target.attr
    return None


def attributes_read() -> set[str]:
    """Every attribute name that is read anywhere in the package or its tools."""
    return {
        node.attr
        for path in python_files()
        if not path.is_relative_to(ROOT / "tests")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def test_every_constructor_parameter_is_read() -> None:
    read = attributes_read()
    faults = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for owner, function in constructors(tree_of(path)):
            for parameter in parameters_of(function):
                attribute = stored_as(parameter, function)
                if attribute == "":
                    faults.append(f"{name_of(path)}:{function.lineno}: {owner}({parameter}) is never read")
                elif attribute is not None and attribute not in read:
                    faults.append(
                        f"{name_of(path)}:{function.lineno}: {owner}({parameter}) is stored, never used"
                    )
    assert not faults, "parameters without effect:\n" + "\n".join(faults)


def test_parameter_rule_sees_faults() -> None:
    source = (
        "class A:\n  def __init__(self, a, *, b, c, d):\n    self.b = b\n    self.c = c + 1\n    self.x = d"
    )
    ((_, function),) = constructors(ast.parse(source))
    assert {p: stored_as(p, function) for p in parameters_of(function)} == {
        "a": "",
        "b": "b",
        "c": None,
        "d": "x",
    }


def test_no_bare_except() -> None:
    faults = [
        f"{name_of(path)}:{node.lineno}"
        for path in python_files()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not faults, "name the exceptions:\n" + "\n".join(faults)


def test_only_the_command_line_prints_and_exits() -> None:
    faults = []
    for path in sorted(PACKAGE.rglob("*.py")):
        # The second is a program of its own, which is copied beside exports.
        if part_of(path) in {"cli", "__main__"} or path.name == "standalone.py":
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in {"print", "sys.exit", "exit", "quit", "os._exit"}:
                    faults.append(f"{name_of(path)}:{node.lineno}: {called}()")
            if isinstance(node, ast.Name) and node.id == "SystemExit":
                faults.append(f"{name_of(path)}:{node.lineno}: SystemExit")
    assert not faults, "raise an error or use logging instead:\n" + "\n".join(faults)


def test_public_names_are_documented() -> None:
    faults = []
    for path in [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "tools").glob("*.py"))]:
        tree = tree_of(path)
        if tree.body and ast.get_docstring(tree) is None:
            faults.append(f"{name_of(path)}: no module docstring")
        for node in tree.body:
            if (
                isinstance(node, (ast.ClassDef, ast.FunctionDef))
                and not node.name.startswith("_")
                and ast.get_docstring(node) is None
            ):
                faults.append(f"{name_of(path)}:{node.lineno}: {node.name}")
    assert not faults, "without docstring:\n" + "\n".join(faults)


def test_no_path_of_one_machine() -> None:
    machine = re.compile(r"(?<![\w.~\]*-])/(?:work|root|home|Users|mnt|data\d*)/[\w.]+")
    faults = []
    for path in tracked():
        if path.suffix in {".jpg", ".jpeg", ".png", ".npz", ".gz", ".pdparams"} or path.name == "LICENSE":
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if machine.search(line):
                faults.append(f"{name_of(path)}:{number}: {line.strip()[:80]}")
    assert not faults, "absolute paths:\n" + "\n".join(faults)


def test_import_is_light() -> None:
    code = "import ppdet, sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"paddle", "cv2", "pycocotools", "PIL", "matplotlib", "numpy", "tqdm", "scipy"}
    assert heavy & set(json.loads(run.stdout)) == set(), (
        "`import ppdet` must stay quick; import inside functions"
    )


def test_an_export_runs_apart_without_paddle() -> None:
    # Each verification starts such a process, which would spend most of its time on importing Paddle.
    code = "import sys, ppdet.export.worker; assert 'paddle' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_runs_on_the_oldest_python() -> None:
    vermin = [
        sys.executable,
        "-c",
        "from vermin import main; main()",
        "--target=3.9-",
        "--violations",
        "--no-tips",
    ]
    run = subprocess.run(
        [*vermin, str(PACKAGE), str(ROOT / "tools"), str(ROOT / "setup.py")], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout
