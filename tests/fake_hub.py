"""A stand-in for the Hugging Face Hub on 127.0.0.1: repositories in memory behind a part of its interface.

The part is what its client uses to list, download and commit files.

Large files travel as on the hub: announced to the LFS batch address by their SHA-256, put where it says, and
named in the commit; downloads of them carry that checksum as their ETag.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional
from urllib.parse import unquote, urlsplit

#: Who may write, and read private repositories.
TOKEN = "hf_of_the_tests"
#: Files that the hub keeps by checksum.
_LARGE = (".safetensors", ".pdparams", ".weights", ".bin")


@dataclass
class Repository:
    """Files by path, and the number of commits."""

    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0
    private: bool = False
    gated: bool = False

    @property
    def commit(self) -> str:
        return hashlib.sha1(str(self.commits).encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What the server holds, and what it was asked.

    Attributes:
        repositories: By ``owner/name``.
        uploaded: Content of large files by SHA-256, before a commit names them.
        requests: Method and path of each request.
        damage: Change one byte of what is downloaded.
        status: Answer everything with this status; None as it should be.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    damage: bool = False
    status: Optional[int] = None
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), Content_Type="application/json")

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self._answer(status, body, X_Error_Code=code, X_Error_Message=message)

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.hub.status is not None:
            self._refuse(self.hub.status, "", "the server is not well")
            return
        for pattern, answer in _ADDRESSES:
            match = re.fullmatch(pattern, f"{self.command} {path}")
            if match is not None:
                answer(self, body, *match.groups())
                return
        self._refuse(404, "", f"this stand-in has no {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815  (names of http.server)

    @property
    def known(self) -> bool:
        """Whether the request carries the token."""
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repository(self, name: str) -> Optional[Repository]:
        """A repository that the request may read; None after the answer that it may not."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self.known):
            # The hub does not tell strangers which private repositories there are.
            self._refuse(404 if self.known else 401, "RepoNotFound", "Repository not found")
            return None
        if found.gated:
            self._refuse(403, "GatedRepo", "Access to this model is restricted")
            return None
        return found

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        """Content of a file, or with HEAD its size and checksum."""
        found = self.repository(name)
        if found is None:
            return
        if revision not in ("main", found.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif path not in found.files:
            self._refuse(404, "EntryNotFound", "Entry not found")
        else:
            content = found.files[path]
            kind = hashlib.sha256 if path.endswith(_LARGE) else hashlib.sha1
            etag = f'"{kind(content).hexdigest()}"'
            if self.hub.damage:
                content = bytes([content[0] ^ 1]) + content[1:]
            self._answer(200, content, ETag=etag, X_Repo_Commit=found.commit)

    def tree(self, body: bytes, name: str, revision: str) -> None:
        """List of files."""
        found = self.repository(name)
        if found is not None:
            self._json(
                [
                    {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                    for path, content in found.files.items()
                ]
            )

    def info(self, body: bytes, name: str, revision: Optional[str] = None) -> None:
        """Facts about a repository."""
        found = self.repository(name)
        if found is not None:
            siblings = [{"rfilename": path} for path in found.files]
            self._json({"id": name, "sha": found.commit, "private": found.private, "siblings": siblings})

    def create(self, body: bytes) -> None:
        """Make a repository."""
        if not self.known:
            self._refuse(401, "", "Invalid username or password.")
            return
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        url = {"url": f"{self.hub.url}/{name}", "name": name, "id": name}
        if name in self.hub.repositories:
            self._json({**url, "error": "You already created this model repo"}, status=409)
            return
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private=bool(private))
        self._json(url)

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        """Say which files are large."""
        if not self.known:
            self._refuse(403, "", "You have read access but not the required permissions")
            return
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(_LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._json({"files": files})

    def batch(self, body: bytes, name: str) -> None:
        """Say where large files go."""
        objects = [
            {
                **one,
                "actions": {"upload": {"href": f"{self.hub.url}/storage/{one['oid']}", "header": {}}},
            }
            for one in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        """Take a large file."""
        if hashlib.sha256(body).hexdigest() != oid:
            self._refuse(400, "", "checksum")
            return
        self.hub.uploaded[oid] = body
        self._answer(200)

    def commit(self, body: bytes, name: str, revision: str) -> None:
        """Take a commit."""
        found = self.hub.repositories[name]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                found.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                found.files[value["path"]] = self.hub.uploaded[value["oid"]]
        found.commits += 1
        url = f"{self.hub.url}/{name}/commit/{found.commit}"
        self._json({"success": True, "commitOid": found.commit, "commitUrl": url})

    def validate(self, body: bytes) -> None:
        """Check the head of a model card: a stranger's YAML must at least be a mapping with a licence."""
        import yaml

        head = json.loads(body)["content"].split("---")[1]
        good = isinstance(yaml.safe_load(head), dict) and "license" in yaml.safe_load(head)
        self._json(
            {"errors": [] if good else [{"message": "no licence"}], "warnings": []}, 200 if good else 400
        )


_NAME = r"([\w.-]+/[\w.-]+)"
_ADDRESSES: tuple[tuple[str, Any], ...] = (
    (rf"(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
    (rf"GET /api/models/{_NAME}/tree/([^/]+)", Handler.tree),
    (rf"GET /api/models/{_NAME}(?:/revision/([^/]+))?", Handler.info),
    (r"POST /api/repos/create", Handler.create),
    (rf"POST /api/models/{_NAME}/preupload/([^/]+)", Handler.preupload),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /storage/(\w+)", Handler.store),
    (rf"POST /api/models/{_NAME}/commit/([^/]+)", Handler.commit),
    (r"POST /api/validate-yaml", Handler.validate),
)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub that runs while the block does."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def hub_of_tests(monkeypatch: Any, cache: Any) -> Iterator[Hub]:
    """A hub that the client of this process talks to, logged in, with an empty cache."""
    from huggingface_hub import constants

    with serve_hub() as hub:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", template.replace(constants.ENDPOINT, hub.url)
        )
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
