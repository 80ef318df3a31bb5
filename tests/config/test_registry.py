"""Protects plugins: a user's file joins, tells what is wrong with it, and stays in its own experiment."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent
from typing import Optional

import pytest

import ppdet
from ppdet.config import ConfigError
from ppdet.config.components import COMPONENTS
from ppdet.config.registry import Table, yaml_name
from ppdet.config.schema import schema_of
from ppdet.config.spec import Derived, Shared
from tests.config.toys import load, toy, write

PLUGIN = """
from ppdet import register
from ppdet.modeling.interfaces import Backbone

@register
class {name}(Backbone):
    def __init__(self, *, width: int = {width}) -> None:
        super().__init__()
        self.width = width
"""


def plugin(folder: Path, file: str, name: str = "MyNet", width: int = 1) -> Path:
    return write(folder, PLUGIN.format(name=name, width=width), file)


def test_plugin_beside_the_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    plugin(tmp_path / "sub", "net.py", width=3)
    monkeypatch.chdir("/")
    exp = load(tmp_path, "plugins: [sub/net.py]\nToy: {backbone: MyNet}\n")
    assert exp.architecture.build().backbone.width == 3  # type: ignore[attr-defined]
    assert exp.plugins == (str((tmp_path / "sub" / "net.py").resolve()),)


def test_module_plugin_other_name_and_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    from ppdet import register
    from tests.config.toys import ToyBackbone

    @register(name="Deep")
    def make_deep(*, factor: int = 2) -> ToyBackbone:
        return ToyBackbone(depth=10 * factor)
    """
    write(tmp_path, text, "my_plugin_module.py")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):  # the second time it is imported already
        exp = load(tmp_path, "plugins: [my_plugin_module]\nToy: {backbone: {name: Deep, factor: 3}}\n")
        assert exp.architecture.build().backbone.depth == 30  # type: ignore[attr-defined]
        assert "backbone: Deep" in exp.to_yaml()
    del sys.modules["my_plugin_module"]


def test_two_experiments_do_not_see_each_other(tmp_path: Path) -> None:
    for name, width in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        plugin(tmp_path / name, "net.py", width=width)
    text = "plugins: [net.py]\nToy: {backbone: MyNet}\nlog_iter: %d\n"
    first = load(tmp_path / "a", text % 5)
    second = load(tmp_path / "b", text % 6, "MyNet.width=7")
    again = load(tmp_path / "a", text % 5)
    widths = [e.architecture.build().backbone.width for e in (first, second, again)]  # type: ignore[attr-defined]
    assert widths == [1, 7, 1]
    assert (first.log_iter, second.log_iter) == (5, 6)
    assert first == again
    with pytest.raises(ConfigError, match="MyNet"):
        load(tmp_path, "Toy: {backbone: MyNet}\n")


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    for width in (1, 2):
        plugin(tmp_path, "net.py", width=width)
        assert (
            toy(tmp_path, "plugins: [net.py]\nToy: {backbone: MyNet}\n")["backbone"].arguments["width"]
            == width
        )


def failure(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import ppdet\nx = 1 / 0\n",
            r"x.yml:2: plugins.0: plugin net.py failed: .*net.py:2: ZeroDivisionError",
        ),
        ("def f(:\n", r"plugin net.py failed: .*net.py:1: SyntaxError"),
        ("import no_such_module\n", r"net.py:1: ModuleNotFoundError: No module named 'no_such_module'"),
        (
            PLUGIN.format(name="ResNet", width=1),
            r"net.py: @register: ResNet is a component of ppdet \(ppdet.mod",
        ),
        (
            PLUGIN.format(name="A", width="1, depth") + "\n",
            r"net.py:\d+: A: argument 'depth' has no annotation|Syntax",
        ),
        (
            "import ppdet\n@ppdet.register\nclass A:\n    def __init__(self, *, x) -> None: ...\n",
            r"net.py:4: A: argument 'x' has no annotation",
        ),
        (
            "import ppdet\n@ppdet.register\nclass A:\n    def __init__(self, **rest: int) -> None: ...\n",
            r"net.py:4: A: argument \*\*rest: int cannot come from a YAML",
        ),
        (
            "import ppdet\n@ppdet.register\nclass A:\n    def __init__(self, *, x: object) -> None: ...\n",
            r"net.py:4: A: argument 'x': no YAML can give <class 'object'>",
        ),
    ],
)
def test_faulty_plugins_name_file_and_line(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "net.py").write_text(source)
    message = failure(tmp_path, "plugins: [net.py]\n")
    assert re.search(words, message), message


def test_missing_plugin(tmp_path: Path) -> None:
    plugin(tmp_path, "net.py")
    assert re.search(
        r"x.yml:2: .*no such plugin: .*nte.py; did you mean 'net.py'", failure(tmp_path, "plugins: [nte.py]")
    )
    assert "plugins: expected a list" in failure(tmp_path, "plugins: net.py\n")


def test_two_plugins_of_one_name(tmp_path: Path) -> None:
    plugin(tmp_path, "a.py", width=1)
    plugin(tmp_path, "b.py", width=2)
    assert "two plugins register MyNet" in failure(tmp_path, "plugins: [a.py, b.py]\n")


def test_registering_twice_in_one_process() -> None:
    source = dedent(
        """
        class ToyTwice:
            def __init__(self, *, x: int = 0) -> None: ...
        """
    )

    def make(module: str) -> object:
        scope: dict[str, object] = {"__name__": module}
        exec(source, scope)
        return scope["ToyTwice"]

    ppdet.register(make("one"))
    ppdet.register(make("one"))  # a notebook cell that was run again
    with pytest.raises(ConfigError, match="ToyTwice is registered already, by one"):
        ppdet.register(make("two"))


def test_every_component_of_ours_can_be_described() -> None:
    table = Table()
    for name in COMPONENTS:
        component = table.get(name)
        schema_of(component)
        assert yaml_name(component) == name
        assert component.__doc__, name


def test_markers_are_seen_inside_of_optional() -> None:
    # What Python 3.9 and 3.10 make of `Derived[Optional[int]] = None` by themselves.
    class Part:
        def __init__(
            self, *, size: Optional[Derived[Optional[int]]] = None, norm: Optional[Shared[str]] = None
        ) -> None: ...

    size, norm = schema_of(Part).values()
    assert (size.annotation, size.derived, size.shared) == (Optional[int], True, False)
    assert (norm.annotation, norm.derived, norm.shared) == (Optional[str], False, True)


def test_public_names() -> None:
    from ppdet.experiment.config import load_config

    assert ppdet.load_config is load_config
    assert ppdet.register is not None
