"""Hooks of MkDocs (see mkdocs.yml) that put pages from outside of `docs/` on the site and adapt their links.

A page reads well in the repository and on the site alike. Links in the repository are relative paths, so a
link that leaves `docs/` is rewritten to the page of the site, or to a copy of the file under `repository/`. A
link to a file that does not exist stops the build. Notebooks become pages with their outputs.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Pages that stand outside of `docs/` -> their place on the site.
PAGES = {
    "README.md": "index.md",
    "README_cn.md": "readme_cn.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "configs/README.md": "configs.md",
    "dataset/README.md": "dataset.md",
    "benchmarks/README.md": "benchmarks.md",
}
#: `[text](target)` and `![text](target "title")`; targets with a scheme and anchors of the same page stay.
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")
#: Start of the page `reference.md`.
REFERENCE = """# Reference of what your own parts build on

Signatures and docstrings from the code. What `import ppdet` offers directly is in the
[API reference](api.md); how the parts fit together is in [extending ppdet](extending.md).
"""
#: What that page describes: objects that a user's own parts build on or receive.
REFERENCE_OBJECTS = {
    "Parts of a detector": [
        "ppdet.modeling.interfaces.Detector",
        "ppdet.modeling.interfaces.Backbone",
        "ppdet.modeling.interfaces.Neck",
        "ppdet.modeling.interfaces.DenseHead",
    ],
    "Data": ["ppdet.data.transforms.base.Transform", "ppdet.data.datasets.base.Dataset"],
    "What parts hand to each other": [
        "ppdet.structures.sample",
        "ppdet.structures.batch",
        "ppdet.structures.feature_shape",
        "ppdet.structures.ground_truth",
    ],
    "Training": ["ppdet.engine.hooks", "ppdet.metrics.base.Metric"],
    "Config": ["ppdet.config.spec", "ppdet.config.registry.register"],
    "Operations": ["ppdet.ops.boxes", "ppdet.ops.nms", "ppdet.ops.losses"],
}
CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def place_on_site(source: str) -> str:
    """Path on the site of a file of the repository, given as a path from the repository's root."""
    if source in PAGES:
        return PAGES[source]
    if source.endswith(".ipynb"):
        source = source[: -len(".ipynb")] + ".md"
    return source[len("docs/") :] if source.startswith("docs/") else f"repository/{source}"


def linked_files(markdown: str, source: str) -> dict[str, str]:
    """Targets of a page's relative links -> files of the repository; a folder stands for its README.

    Raises:
        FileNotFoundError: A link leads to no file of the repository.
    """
    linked = {}
    for _, target in LINK.findall(CODE.sub("", markdown)):
        path = Path(os.path.normpath((ROOT / source).parent / target))
        if path.is_dir():
            path /= "README.md"
        if not path.is_file() or not path.is_relative_to(ROOT):
            raise FileNotFoundError(f"{source}: the link to {target} leads to no file of the repository")
        linked[target] = path.relative_to(ROOT).as_posix()
    return linked


def for_site(markdown: str, source: str) -> str:
    """Text of a page with the links that it has on the site."""
    linked = linked_files(markdown, source)
    folder = Path(place_on_site(source)).parent

    def rewrite(match: re.Match[str]) -> str:
        start, target = match.groups()
        if target not in linked:  # inside a block of code
            return match.group()
        return start + os.path.relpath(place_on_site(linked[target]), folder).replace(os.sep, "/")

    return LINK.sub(rewrite, markdown)


def notebook_page(notebook: str) -> str:
    """A notebook (its JSON text) as Markdown, with the pictures of its outputs inside."""
    lines: list[str] = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        lines += [text, ""] if cell["cell_type"] == "markdown" else ["```python", text, "```", ""]
        for output in cell.get("outputs", []):
            data: dict[str, Any] = output.get("data", {})
            picture = next((kind for kind in data if kind.startswith("image/")), None)
            if picture is not None:
                content = "".join(data[picture]).replace("\n", "")
                lines += [f"![Output of the cell above](data:{picture};base64,{content})", ""]
            elif "text/html" in data:
                lines += ["<div>", "".join(data["text/html"]).strip(), "</div>", ""]
            else:
                printed = "".join(output.get("text", data.get("text/plain", "")))
                lines += ["```text", printed.rstrip("\n"), "```", ""]
    return "\n".join(lines)


def text_of(source: str) -> str:
    """Markdown of a page of the repository."""
    text = (ROOT / source).read_text("utf-8")
    return notebook_page(text) if source.endswith(".ipynb") else text


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put every page in its place, with the files it links to, and those that they link to."""
    from mkdocs.structure.files import File

    pages = [f"docs/{file.src_path}" for file in files.documentation_pages()]
    pages += [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.ipynb")]
    waiting, done = {*pages, *PAGES}, set[str]()
    while waiting:
        source = waiting.pop()
        done.add(source)
        place = place_on_site(source)
        if (existing := files.get_file_from_path(place)) is not None:
            files.remove(existing)
        if source.endswith((".md", ".ipynb")):
            text = text_of(source)
            files.append(File.generated(config, place, content=for_site(text, source)))
            waiting |= set(linked_files(text, source).values()) - done
        else:
            files.append(File.generated(config, place, content=(ROOT / source).read_bytes()))
    lines = [REFERENCE]
    for title, objects in REFERENCE_OBJECTS.items():
        lines += [f"## {title}", *(f"\n::: {name}\n" for name in objects)]
    files.append(File.generated(config, "reference.md", content="\n".join(lines)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Keep the long table of measurements out of the search, where it would come before other pages."""
    if page.file.src_uri == "parity.md":
        page.meta["search"] = {"exclude": True}
    return markdown
