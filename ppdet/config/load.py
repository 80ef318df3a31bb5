"""Files to one tree: ``_BASE_`` inheritance and ``-o`` overrides, with the origin of every value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union

from ppdet.config.errors import ConfigError, Place, Problem, suggestion
from ppdet.config.overrides import Overrides, apply_overrides
from ppdet.config.packaged import base_of, config_path
from ppdet.config.parse import MAX_NODES, parse
from ppdet.config.tree import Block, Leaf, Listing, Node, leaves, merge, with_paths

BASE_KEY = "_BASE_"


def load_tree(path: Union[str, Path], overrides: Overrides, problems: list[Problem]) -> Block:
    """Read a configuration and everything it builds on.

    Args:
        path: The YAML file, or the name of a packaged one.
        overrides: ``a.b.c=value`` items, or a mapping of dotted keys to values, applied in their order on
            top of the files.
        problems: Receives what is wrong but does not stop the reading.

    Returns:
        The merged tree.

    Raises:
        ConfigError: If a file cannot be read or parsed at all.
    """
    root = _read(config_path(path), (), problems, Place(str(path)))
    return _changed(root, overrides, problems)


def load_text(text: str, name: str, overrides: Overrides, problems: list[Problem]) -> Block:
    """Read a configuration from a string, which builds on no file. Arguments and errors as `load_tree`.

    Args:
        text: The YAML.
        name: Stands for the file in messages.
        overrides: As in `load_tree`.
        problems: As in `load_tree`.
    """
    tree = parse(text, name, problems)
    if not isinstance(tree, Block) or tree.tag or BASE_KEY in tree.items:
        raise ConfigError([*problems, Problem(Place(name), "expected one mapping of keys without _BASE_")])
    return _changed(tree, overrides, problems)


def _changed(root: Block, overrides: Overrides, problems: list[Problem]) -> Block:
    root = apply_overrides(root, overrides, problems)
    if sum(1 for _ in leaves(root)) > MAX_NODES:
        raise ConfigError([Problem(root.place, f"more than {MAX_NODES} values; aliases of aliases?")])
    tree = with_paths(root)
    assert isinstance(tree, Block)
    return tree


def display_name(path: Path) -> str:
    """A path as the user would write it: relative to the current folder where it lies inside."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _read(path: Path, chain: tuple[Path, ...], problems: list[Problem], named_at: Place) -> Block:
    path = path.expanduser()
    resolved = path.resolve()
    if resolved in chain:
        loop = " -> ".join(display_name(p) for p in (*chain[chain.index(resolved) :], resolved))
        raise ConfigError([*problems, Problem(named_at, f"{BASE_KEY} goes round in a circle: {loop}")])
    tree = parse(_text(path, problems, named_at), display_name(path), problems)
    if not isinstance(tree, Block) or tree.tag:
        raise ConfigError([*problems, Problem(tree.place, "a configuration file must be a mapping of keys")])
    merged: Node = Block({}, tree.place)
    for base in _bases(tree.items.get(BASE_KEY), problems):
        base_path = base_of(path, base.value)
        merged = merge(merged, _read(base_path, (*chain, resolved), problems, base.place))
    own = Block({key: node for key, node in tree.items.items() if key != BASE_KEY}, tree.place)
    merged = merge(merged, own)
    assert isinstance(merged, Block)
    return merged


def _bases(node: Union[Node, None], problems: list[Problem]) -> list[Leaf]:
    if node is None:
        return []
    found = []
    for item in node.items if isinstance(node, Listing) else [node]:
        if isinstance(item, Leaf) and isinstance(item.value, str):
            found.append(item)
        else:
            problems.append(Problem(item.place, f"{BASE_KEY} takes a path or a list of paths"))
    return found


def _text(path: Path, problems: list[Problem], named_at: Place) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = f"no such file: {path}" + _near(path)
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or error}"
    except UnicodeDecodeError as error:
        problem = f"{path} is not UTF-8 text (byte {error.start})"
    raise ConfigError([*problems, Problem(named_at, problem)])


def _near(path: Path) -> str:
    """The file beside it that was probably meant."""
    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix in (".yml", ".yaml")]
    except OSError:
        return f"; there is no folder {path.parent}"
    return suggestion(path.name, names, "there are")
