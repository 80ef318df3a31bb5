"""Write docs/api.md, the reference of what `import ppdet` offers, from signatures and docstrings.

Usage: ``python tools/make_api_page.py [FILE]``. A test compares the page with the code.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ppdet

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
START = """# API reference

```bash
python -c "import ppdet; print(ppdet.__version__, ppdet.__all__)"
```

prints the version and the public names. This page is made from their docstrings by `tools/make_api_page.py`.

## What is stable

ppdet follows [semantic versioning](https://semver.org). The stable surface is

* every name in `ppdet.__all__`, with the parameters, attributes and methods on this page;
* the commands of `ppdet` and their options;
* the YAML keys, which follow PaddleDetection 2.x, and the keys of checkpoints;
* the inputs, outputs and `export.json` of exported models.

A change that breaks one of them needs a new major version (before 1.0: a new minor version), is listed in
the [changelog](../CHANGELOG.md), and gives a deprecation warning for at least one minor version before.
Modules below `ppdet` that this page and the pages on extending ppdet do not mention may change anytime.
"""
#: Sections of a docstring that become lists.
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")
#: Longest signature that stays on one line, in characters.
WIDTH = 96


def parameter_of(parameter: inspect.Parameter) -> str:
    """A parameter as it is written in a signature; annotations are strings here and have no quotes."""
    star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = f"{star}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        text += f": {getattr(parameter.annotation, '__forward_arg__', parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {default_of(parameter.default)}"
    return text


def default_of(value: Any) -> str:
    """A default as it could be written; ``...`` for an object that can not."""
    text = str(value) if isinstance(value, enum.Enum) else repr(value)
    return "..." if "<" in text else text


def signature_of(name: str, target: Any, *, method: bool = False) -> str:
    """A call as it is written, one parameter a line where it is long."""
    signature = inspect.signature(target)
    parts: list[str] = []
    for parameter in list(signature.parameters.values())[1 if method else 0 :]:
        if parameter.kind is parameter.KEYWORD_ONLY and not any(part.startswith("*") for part in parts):
            parts.append("*")
        parts.append(parameter_of(parameter))
    returned = signature.return_annotation
    end = "" if returned in (signature.empty, None, "None") else f" -> {returned}"
    text = f"{name}({', '.join(parts)}){end}"
    if len(text) <= WIDTH:
        return text
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){end}"])


def as_markdown(docstring: str) -> str:
    """A Google-style docstring as Markdown: sections become lists, literals become code."""
    lines: list[str] = []
    blocks = re.split(rf"^({'|'.join(SECTIONS)}):\n", docstring, flags=re.MULTILINE)
    lines += [blocks[0].strip(), ""]
    for title, body in zip(blocks[1::2], blocks[2::2]):
        indented = re.match(r"((?:    .*\n|\n)*(?:    .*)?)", body)
        assert indented is not None
        lines += [f"**{title}**", ""]
        lines += [f"* {item}" for item in items_of(textwrap.dedent(indented.group()), title)]
        lines += ["", body[indented.end() :].strip(), ""]
    text = "\n".join(lines).replace("``", "`")
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def items_of(body: str, title: str) -> list[str]:
    """Entries of a section, continuation lines joined."""
    if title in ("Returns", "Yields"):
        return [" ".join(body.split())]
    items: list[str] = []
    for line in body.splitlines():
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        elif line.strip():
            items.append(line.strip())
    return [re.sub(r"^(\*{0,2}[\w.]+):", r"`\1`:", item) for item in items]


def members_of(target: type) -> list[str]:
    """Documented public methods and properties of a class, each as a section."""
    sections = []
    for name, member in vars(target).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not inspect.isfunction(function) or not (text := inspect.getdoc(function)):
            continue
        if name.startswith("_") and name not in ("__call__", "__len__", "__iter__", "__getitem__"):
            continue
        if isinstance(member, property):
            heading = f"{name} -> {inspect.signature(function).return_annotation}"
        else:
            heading = signature_of(name, function, method=not isinstance(member, staticmethod))
        sections += ["", f"```python\n{heading}\n```", "", as_markdown(text)]
    return sections


def section_of(name: str) -> str:
    """What the page says about one public name."""
    target = getattr(ppdet, name)
    if not callable(target):
        return f"### `{name}`\n\nThe version, a string."
    text = as_markdown(inspect.getdoc(target) or "")
    # An exception is caught, not made.
    is_error = inspect.isclass(target) and issubclass(target, BaseException)
    call = name if is_error else signature_of(name, target)
    lines = [f"### `{name}`", "", f"```python\nppdet.{call}\n```", "", text]
    if inspect.isclass(target):
        lines += members_of(target)
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    names = [name for name in sorted(ppdet.__all__) if name != "__version__"]
    functions = [name for name in names if not inspect.isclass(getattr(ppdet, name))]
    classes = [name for name in names if inspect.isclass(getattr(ppdet, name))]
    parts = [START, "## Functions", *map(section_of, functions), "## Classes", *map(section_of, classes)]
    return "\n\n".join(part.strip() for part in [*parts, section_of("__version__")]) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(page(), "utf-8")
