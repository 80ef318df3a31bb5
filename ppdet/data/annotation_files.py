"""Reads the text, JSON and XML files of a dataset, with errors that say what is wrong and what to do."""

from __future__ import annotations

import codecs
import json
import re
import xml.etree.ElementTree as ElementTree
from io import BufferedReader
from pathlib import Path
from typing import Any

from ppdet.utils.errors import DataError

#: Byte order marks. UTF-32's begins with UTF-16's, so it comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
#: Characters that an XML file may not have.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def require_folder(path: Path, what: str) -> None:
    """Check that a folder is there.

    Raises:
        DataError: If it is not; says how far the path exists.
    """
    if path.is_dir():
        return
    there = next((p for p in path.absolute().parents if p.is_dir()), None)
    hint = f"; {there} exists" if there is not None else ""
    state = "is not a folder" if path.exists() else "does not exist"
    raise DataError(
        f"{what} {path} {state}{hint}. Put the dataset there, or correct the path (in a configuration "
        "dataset_dir, image_dir and anno_path of the block). Layouts: dataset/README.md"
    )


def open_bytes(path: Path) -> BufferedReader:
    """A file, open for reading.

    Raises:
        DataError: If it is missing or cannot be read.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(
            f"annotation file {path} does not exist. Check dataset_dir and anno_path; "
            "layouts: dataset/README.md"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_bytes(path: Path) -> bytes:
    """Content of a file. Raises `DataError` as `open_bytes` does."""
    with open_bytes(path) as file:
        return file.read()


def encoding_of(start: bytes) -> str:
    """The encoding of a text file by its first bytes: UTF-8, or what a byte order mark says."""
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def read_text(path: Path) -> str:
    """Content of a text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
        DataError: If it is missing, cannot be read, or is not text.
    """
    data = read_bytes(path)
    encoding = encoding_of(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not {encoding.upper()} text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, without line ends. Raises `DataError` as `read_text` does."""
    return read_text(path).splitlines()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file whose top level is an object.

    Raises:
        DataError: If it is missing, empty, no JSON, or something else than an object.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path}: the annotation file is empty. Was its download or export cut short?")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON: {error}. Was its download or export cut short?") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: a COCO annotation file is a JSON object, this is a {type(content).__name__}"
        )
    return content


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file, in the encoding that it declares.

    Raises:
        DataError: If it is missing, empty or no XML; or if it defines entities, which no annotation needs
            and which can grow without end.
    """
    data = read_bytes(path)
    declared = _DECLARED.match(data)
    try:
        if declared is None or any(data.startswith(mark) for mark, _ in _MARKS):
            text = data.replace(b"\0", b"").decode("latin-1")  # what is searched below, also in UTF-16
            source: Any = data
        else:  # Expat knows few encodings; Python knows them all.
            source = text = data.decode(declared.group(1).decode("ascii"))
        if "<!ENTITY" in text:
            raise DataError(f"{path}: it defines XML entities; remove its DOCTYPE")
        return ElementTree.fromstring(source)
    except ElementTree.ParseError as error:
        hint = '; a file that is not UTF-8 declares it: <?xml version="1.0" encoding="ISO-8859-1"?>'
        raise DataError(
            f"{path}: not valid XML: {error}{'' if data.isascii() or declared else hint}"
        ) from None
    except (LookupError, ValueError) as error:
        raise DataError(f"{path}: not text in the encoding that it declares: {error}") from None


def xml_text(root: ElementTree.Element) -> str:
    """The text of an XML file in UTF-8, indented; characters that XML cannot hold become question marks."""
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + _NOT_IN_XML.sub("?", text) + "\n"
