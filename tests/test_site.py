"""Protects the documentation site: it builds without a warning, links lead somewhere, nothing comes from
other hosts, and what scripts draw from the code is up to date.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import ROOT


def script(name: str) -> ModuleType:
    """A module of `tools/`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    pytest.importorskip("material", reason="the documentation site needs pip install 'ppdet[docs]'")
    pytest.importorskip("mkdocstrings", reason="the documentation site needs pip install 'ppdet[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_in_the_navigation(site: Path) -> None:
    # MkDocs refuses pages outside of it; this one refuses a rule that excuses them.
    index = (site / "index.html").read_text("utf-8")
    navigation = set(re.findall(r'href="([\w/-]+\.html)" class="md-nav__link', index))
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    pages -= {page for page in pages if page.startswith("repository/")}
    assert pages - navigation == {"404.html"}
    assert len(pages) >= 20


def test_nothing_is_loaded_from_other_hosts(site: Path) -> None:
    loads = re.compile(r'<(?:script|img|iframe)[^>]*src="(https?:)?//|<link[^>]*href="(https?:)?//')
    faults = [path.name for path in site.rglob("*.html") if loads.search(path.read_text("utf-8"))]
    assert not faults
    styles = [
        path for path in site.rglob("*.css") if re.search(r"url\((https?:)?//", path.read_text("utf-8"))
    ]
    assert not styles
    assert loads.search('<script src="https://unpkg.com/x"></script>')


@pytest.mark.slow
def test_search_index_holds_every_page_but_the_table_of_parity(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text("utf-8")
    assert '"architecture.html"' in index
    assert '"parity.html"' not in index


def test_links_are_adapted_to_the_site() -> None:
    tools = script("docs_site")
    page = "[a](docs/config.md) [b](configs/README.md#c) [d](LICENSE) [e](https://x.y)\n```\n[h](i.md)\n```\n"
    adapted = tools.for_site(page, "README.md")
    assert adapted == page.replace("docs/config.md", "config.md").replace(
        "configs/README.md", "configs.md"
    ).replace("LICENSE", "repository/LICENSE")
    assert tools.for_site("[a](../configs/README.md)", "docs/data.md") == "[a](configs.md)"
    with pytest.raises(FileNotFoundError, match=r"README\.md: the link to docs/nothing\.md leads to no file"):
        tools.for_site("[a](docs/nothing.md)", "README.md")


def test_notebook_becomes_a_page_with_its_outputs() -> None:
    notebook = """{"cells": [
      {"cell_type": "markdown", "source": ["# Title"]},
      {"cell_type": "code", "source": ["1 + 1"], "outputs": [
        {"output_type": "execute_result", "data": {"text/plain": ["2"]}},
        {"output_type": "stream", "text": ["said\\n"]},
        {"output_type": "display_data", "data": {"image/png": "QUJD\\n", "text/plain": ["<Image>"]}}]}]}"""
    page = script("docs_site").notebook_page(notebook)
    assert page.startswith("# Title\n\n```python\n1 + 1\n```\n")
    assert "```text\n2\n```" in page
    assert "```text\nsaid\n```" in page
    assert "](data:image/png;base64,QUJD)" in page


def test_picture_of_the_architecture_is_up_to_date() -> None:
    tools = script("draw_architecture")
    assert tools.PICTURE.read_text("utf-8") == tools.drawing(), "run: python tools/draw_architecture.py"


def test_table_of_detectors_is_up_to_date() -> None:
    tools = script("choosing_table")
    page = tools.PAGE.read_text("utf-8")
    assert page == tools.page_with_table(page), "run: python tools/choosing_table.py"
    assert len(re.findall(r"^\| \[\w+@?\w*\]\(\.\./configs/", page, re.M)) >= 40


def test_picture_leaves_out_what_follows_from_other_arrows() -> None:
    edges = script("draw_architecture").without_shortcuts({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    assert edges == [("a", "b"), ("b", "c")]


def test_every_page_is_linked_from_both_readmes() -> None:
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").iterdir() if path.suffix in {".md", ".ipynb"}}
    assert len(pages) >= 15
    for name in ("README.md", "README_cn.md"):
        linked = {
            link.partition("#")[0]
            for link in re.findall(r"\]\((docs/[^)]+)\)", (ROOT / name).read_text("utf-8"))
        }
        assert pages - linked == set(), name


def test_every_picture_has_its_source_and_licence() -> None:
    folder = ROOT / "docs" / "images"
    listed = (folder / "README.md").read_text("utf-8")
    pictures = [path for path in folder.iterdir() if path.suffix != ".md"]
    assert len(pictures) >= 3
    # Those of a folder are from one source.
    rows = {path.name: f"`{path.name}/*.jpg`" if path.is_dir() else f"({path.name})" for path in pictures}
    assert [name for name, row in rows.items() if row not in listed] == []


def test_pages_name_modules_that_exist() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    named = {
        (page.name, name)
        for page in pages
        for name in re.findall(r"`(ppdet/[\w/.]+)`", page.read_text("utf-8"))
    }
    assert len(named) >= 30
    assert [(page, name) for page, name in sorted(named) if not (ROOT / name).exists()] == []
