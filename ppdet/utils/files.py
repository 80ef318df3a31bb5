"""Paths as users write them, the cache folder, and files that are either whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional, Union

from ppdet.utils.errors import CheckpointError, FileError, UserError


def expanded(path: Union[str, os.PathLike[str]]) -> Path:
    """A path with ``~`` and ``$NAME`` replaced, as a shell would; what has no value stays as it is."""
    with_values = Path(os.path.expandvars(os.fspath(path)))
    try:
        return with_values.expanduser()
    except RuntimeError:  # there is no such user, or no home folder
        return with_values


def cache_folder() -> Path:
    """Where what can be made again is kept: ``PPDET_HOME``, or ``~/.cache/ppdet``.

    A user without a home folder (a container that runs under a bare user id) has it below the system's
    folder for temporary files.
    """
    named = os.environ.get("PPDET_HOME")
    if named:
        return expanded(named)
    try:
        return Path.home() / ".cache" / "ppdet"
    except RuntimeError:
        user = os.getuid() if hasattr(os, "getuid") else "user"
        return Path(tempfile.gettempdir()) / f"ppdet-{user}"


class _Hashed:
    """A file that is hashed while it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.hash.update(view)
        self.size += len(view)
        self._file.write(view)
        return len(view)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that `path` is at every instant the old one or the new one, whole.

    Gives the path of a temporary file beside it, which takes its place when the block ends without an error.
    The folder is made if it is not there.

    Raises:
        FileError: If it cannot be written (no space, no permission); the old file is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; errors as of `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: Path, content: Any, *, indent: Optional[int] = None) -> None:
    """Write a JSON file; errors as of `replacing`."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=indent))


def write_durably(path: Path, write: Callable[[Any], None]) -> dict[str, Any]:
    """Write a file that survives a power failure too, and hash it on the way; errors as of `replacing`.

    Args:
        path: The file.
        write: Gets an object with a ``write(bytes)`` method.

    Returns:
        ``{"bytes": size, "sha256": hex digest}``.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        hashed = _Hashed(file)
        write(hashed)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return {"bytes": hashed.size, "sha256": hashed.hash.hexdigest()}


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power failure, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_file(path: Path, record: dict[str, Any]) -> None:
    """Check a file against what `write_durably` said of it.

    Raises:
        CheckpointError: If it is missing or differs; names it.
    """
    try:
        size = path.stat().st_size
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(
            f"{path}: the checkpoint is not complete: {error.strerror}. Resume from another one of the folder"
        ) from error
    if size != record["bytes"] or digest.hexdigest() != record["sha256"]:
        raise CheckpointError(
            f"{path}: torn or changed since it was written ({size} bytes, {record['bytes']} expected"
            f"{'' if size != record['bytes'] else ', other content'}). "
            "Resume from another checkpoint of the folder"
        )


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of runs that were killed while writing."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def writable_folder(folder: Union[str, os.PathLike[str]]) -> Path:
    """A folder that files can be written to, made if it is not there.

    Raises:
        UserError: If it cannot be.
    """
    path = expanded(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"output folder {path} cannot be written: {error.strerror or error}. Choose another one "
            "(--output_dir, or save_dir for a training), or change its permissions"
        ) from None
    return path


def require_new_place(path: Path, inputs: Sequence[Path]) -> None:
    """Check that writing a file does not replace something that is read.

    Raises:
        FileError: If the file exists and is, or is below, one of `inputs`; through links too.
    """
    real = path.resolve()
    for source in (item.resolve() for item in inputs):
        if real.exists() and (real == source or source in real.parents):
            raise FileError(f"{path} would replace a file that is read from {source}; write to another place")
