"""Weights on the Hugging Face Hub: their addresses, and files that its own client downloads into its cache.

The client is the package huggingface_hub (``ppdet[hub]``). It knows its variables: ``HF_ENDPOINT`` (another
server), ``HF_TOKEN``, ``HF_HOME`` (its cache), ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import unquote

from ppdet.utils.errors import WeightsError
from ppdet.utils.packages import require_packages
from ppdet.zoo.download import sha256_of

PREFIX = "hf://"
#: The file that `ppdet weights push` writes, and the first that is looked for.
WEIGHTS = "model.safetensors"
#: What else may be the weights of a repository that holds one such file.
_SUFFIXES = (".safetensors", ".pdparams", ".weights")
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^/@]+))?(?:/(.+?))?/?")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_LOG_IN = "log in (`hf auth login`, or the variable HF_TOKEN)"


class HubAddress(NamedTuple):
    """What ``hf://owner/name@revision/file`` says.

    Attributes:
        repository: ``owner/name``.
        revision: Branch, tag or commit; None for the main branch.
        file: Path inside the repository; empty for its weights, whatever they are called.
    """

    repository: str
    revision: Optional[str]
    file: str


def parse_address(text: str) -> HubAddress:
    """Read an address.

    Raises:
        WeightsError: If it is not of the form.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise WeightsError(
            f"{text}: not of the form hf://owner/name, hf://owner/name/file or hf://owner/name@revision/file"
        )
    repository, revision, file = match.groups()
    return HubAddress(repository, revision and unquote(revision), file or "")


def require_repository(name: str) -> str:
    """The ``owner/name`` of a repository, with or without ``hf://``.

    Raises:
        WeightsError: If it is not of the form.
    """
    plain = name[len(PREFIX) :] if name.startswith(PREFIX) else name
    if _REPOSITORY.fullmatch(plain) is None:
        raise WeightsError(f"{name}: a repository of the hub is named owner/name")
    return plain


def fetch_from_hub(text: str, *, download: bool = True) -> Path:
    """The weights that an address names, in the hub's cache; downloaded if need be.

    A file that the hub keeps by checksum (all large ones) is compared with it.

    Args:
        text: ``hf://owner/name``, maybe with ``@revision`` and a file.
        download: Whether the network may be used.

    Raises:
        WeightsError: If there is no such repository or file, it may not be read, it cannot be reached, or the
            file is not what the hub says.
        MissingPackageError: If huggingface_hub is not installed.
    """
    address = parse_address(text)
    require_packages("huggingface_hub")
    from huggingface_hub import errors

    try:
        path = _fetch(address, download=download)
    except errors.LocalEntryNotFoundError as error:
        if not download:
            raise WeightsError(
                f"{text} is not in the hub's cache; `ppdet weights download {text}` fetches it"
            ) from error
        raise hub_error(error, text, address.repository) from error
    except (OSError, ValueError, errors.EntryNotFoundError, errors.HTTPError) as error:
        raise hub_error(error, text, address.repository) from error
    # The hub's cache names the content of such files by their SHA-256.
    expected = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", expected) and sha256_of(path) != expected:
        raise WeightsError(
            f"{text}: the content of {path} has not the checksum that the hub says; remove {path.resolve()} "
            "and load it again"
        )
    return path


def _fetch(address: HubAddress, *, download: bool) -> Path:
    from huggingface_hub import HfApi, errors

    hub = HfApi()

    def file(name: str) -> Path:
        found = hub.hf_hub_download(
            address.repository, name, revision=address.revision, local_files_only=not download
        )
        return Path(found)

    if address.file:
        return file(address.file)
    try:
        return file(WEIGHTS)
    except errors.LocalEntryNotFoundError:
        raise
    except errors.EntryNotFoundError:
        listed = hub.list_repo_files(address.repository, revision=address.revision)
    weights = [name for name in listed if name.endswith(_SUFFIXES)]
    if len(weights) == 1:
        return file(weights[0])
    place = f"{PREFIX}{address.repository}"
    if weights:
        shown = ", ".join(f"{place}/{name}" for name in weights[:5])
        raise WeightsError(f"{place}: holds {len(weights)} weight files; name one: {shown}")
    raise WeightsError(f"{place}: holds no weights ({', '.join(_SUFFIXES)}); it has {', '.join(listed[:8])}")


def hub_error(error: Exception, text: str, repository: str) -> WeightsError:
    """The hub's errors in our words: what is wrong with an address, and what to do.

    Args:
        error: From the package.
        text: The address as the user wrote it.
        repository: Its ``owner/name``.
    """
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, errors.GatedRepoError):
        reason = f"access to it is granted on request: ask for it at {page}, then {_LOG_IN}"
    elif isinstance(error, errors.RepositoryNotFoundError):
        reason = f"there is no {page}, or it is private: check the name, or {_LOG_IN}"
    elif isinstance(error, errors.RevisionNotFoundError):
        reason = f"{page} has no such revision"
    elif isinstance(error, errors.LocalEntryNotFoundError):
        reason = (
            f"{constants.ENDPOINT} cannot be reached, and the file is not in its cache "
            f"({constants.HF_HUB_CACHE}); check the connection (and HF_HUB_OFFLINE), or download it by hand "
            "and name its path"
        )
    elif isinstance(error, errors.EntryNotFoundError):
        reason = f"{page} has no such file"
    elif status in (401, 403):
        reason = f"{page} refuses it (HTTP status {status}); {_LOG_IN} with a token that may do this"
    else:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = first if status is None else f"{constants.ENDPOINT} answers: {first}"
    return WeightsError(f"{text}: {reason}")
