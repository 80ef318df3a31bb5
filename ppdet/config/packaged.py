"""The configurations that come with ppdet, found by name from any folder.

In a checkout they are the folder ``configs`` beside the package; in an installed wheel they are inside it.
"""

from __future__ import annotations

import os
import re
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
    message = f"neither a file nor a packaged configuration (`ppdet configs list` shows them){near}"
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


def title_of(path: Path) -> str:
    """What a configuration is: its first comment line, up to a colon or full stop; empty without one."""
    first = path.read_text("utf-8").partition("\n")[0]
    return re.split(r"[:.](?:\s|$)", first.lstrip("# "))[0].strip() if first.startswith("#") else ""


def copy_config(name: str, target: Path) -> Path:
    """Copy a packaged configuration, to change it; the files that it builds on are still found.

    Args:
        name: Of a packaged configuration.
        target: File, or existing folder, to write.

    Returns:
        The file that was written.

    Raises:
        ConfigError: If there is no such configuration, or the file exists already or cannot be written.
    """
    source = config_path(name)
    path = target / source.name if target.is_dir() else target
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(source.read_text("utf-8"))
    except FileExistsError:
        raise ConfigError([Problem(Place(str(path)), "exists already; name another file")]) from None
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}"
        raise ConfigError([Problem(Place(str(path)), reason)]) from None
    return path
