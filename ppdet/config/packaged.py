"""The configurations that come with ppdet, found by name from any folder.

In a checkout they are the folder ``configs`` beside the package; in an installed wheel they are inside it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Union

from ppdet.config.errors import ConfigError, Place, Problem, suggestion

_PACKAGE = Path(__file__).resolve().parents[1]
SUFFIXES = (".yml", ".yaml")


@lru_cache(maxsize=1)
def packaged_folder() -> Path:
    """Folder of the configurations that come with ppdet."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def packaged_configs() -> dict[str, Path]:
    """The experiments that come with ppdet: name (the file's, without ending) -> file."""
    files = sorted(path for path in packaged_folder().glob("*.yml") if path.stem != "runtime")
    return {path.stem: path for path in files}


def config_path(config: Union[str, os.PathLike[str]]) -> Path:
    """The file of a configuration: a path, or the name of a packaged one.

    A file in the current folder comes before a packaged name. What is neither and looks like a path is
    returned as it is, so that whoever opens it says that it is missing.

    Raises:
        ConfigError: If it is a bare name that no packaged configuration has.
    """
    path = Path(os.path.expandvars(os.fspath(config))).expanduser()
    if path.is_file() or (path.suffix in SUFFIXES and path.parent != Path()):
        return path
    packaged = packaged_configs()
    if path.parent == Path() and (path.stem if path.suffix in SUFFIXES else path.name) in packaged:
        return packaged[path.stem if path.suffix in SUFFIXES else path.name]
    if path.suffix in SUFFIXES or path.parent != Path():
        return path
    near = suggestion(path.name, list(packaged))
    message = f"neither a file nor a packaged configuration{near}; `ppdet configs list` shows them"
    raise ConfigError([Problem(Place(str(config)), message)])


def base_of(path: Path, base: str) -> Path:
    """File of a ``_BASE_`` entry: relative to the file that names it, else among the packaged ones.

    Args:
        path: The file that names it.
        base: The entry as written.
    """
    beside = path.parent / Path(os.path.expandvars(base)).expanduser()
    if beside.exists():
        return beside
    packaged = packaged_folder() / base
    inside = packaged.resolve().is_relative_to(packaged_folder().resolve())
    return packaged if inside and packaged.is_file() else beside
