"""A Hugging Face hub of the tests' own: a real HTTP server that serves folders as models.

Large files (those in ``lfs``) are sent from a second address, as the hub's storage does.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")

#: A token that nobody was given.
INVALID_TOKEN = "hf_invalid"

LARGE = (".safetensors", ".bin", ".pth", ".gguf", ".png", ".onnx")


@dataclass(frozen=True)
class Request:
    """What was asked, where (hub or storage), and how many bytes were sent."""

    place: str
    method: str
    path: str
    headers: dict[str, str]
    sent: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass
class Model:
    """A repository with one commit."""

    folder: Path
    tokens: tuple[str, ...] = ()  # who may read it; everyone by default
    gated: bool = False

    @property
    def commit(self) -> str:
        listing = "".join(f"{name} {key(path)}\n" for name, path in self.files().items())
        return hashlib.sha1(listing.encode()).hexdigest()

    def files(self) -> dict[str, Path]:
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in paths}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git_sha1(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def key(path: Path) -> str:
    """The checksum the hub uses as the file's ETag."""
    return sha256(path) if path.suffix in LARGE else git_sha1(path)


@dataclass
class Hub:
    """The server; ``models`` and the faults may be changed while it runs.

    ``cut`` maps a file's name to the bytes after which every answer about it breaks off, when
    ``on_cut`` returns; ``change`` gets name and content of what is sent; ``status`` is the answer
    to everything, unless it is 0.
    """

    models: dict[str, Model] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)
    on_cut: Callable[[], object] = field(default=lambda: None)
    change: Callable[[str, bytes], bytes] = field(default=lambda _, content: content)
    status: int = 0
    ranges: bool = True

    def __post_init__(self) -> None:
        self.servers = {place: Server(self, place) for place in ("hub", "storage")}

    @property
    def endpoint(self) -> str:
        return self.address("hub")

    def address(self, place: str) -> str:
        host = "127.0.0.1" if place == "hub" else "localhost"  # storage is another host
        return f"http://{host}:{self.servers[place].server_port}"

    def close(self) -> None:
        for server in self.servers.values():
            server.shutdown()
            server.server_close()

    def asked(self, name: str) -> list[Request]:
        """Requests for one file that brought content."""
        return [each for each in self.requests if each.name == name and each.sent]

    def sent(self, name: str) -> int:
        return sum(request.sent for request in self.asked(name))


def use(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``hub`` the one that is asked, here and by processes that are started."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    url = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    # For processes of their own; huggingface_hub reads these when it is imported.
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_HOME", str(cache))
    monkeypatch.setattr("edge_llama_convert.hub.download._WAIT", 0.01)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


class Server(ThreadingHTTPServer):
    """One of the hub's two addresses, serving in threads of its own."""

    daemon_threads = True

    def __init__(self, hub: Hub, place: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.place = hub, place
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Clients that went away are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        if hub.status:
            self.send(hub.status)
        elif self.token == INVALID_TOKEN:
            message = "Invalid credentials in Authorization header"
            self.send(401, {"X-Error-Message": message})
        elif self.server.place == "storage":
            repo, name = path[1:].split("//")
            self.send_file(hub.models[repo].folder / name, {})
        elif match := _API.fullmatch(path):
            self.describe(match[1], match[2])
        elif match := _RESOLVE.fullmatch(path):
            self.resolve(match[1], match[2], match[3])
        else:
            self.send(404)

    @property
    def token(self) -> str:
        return (self.headers["authorization"] or "").removeprefix("Bearer ")

    def model(self, repo: str, revision: str | None) -> Model | None:
        """The model, or None after an error was sent."""
        model = self.server.hub.models.get(repo)
        if model is None or (model.tokens and not model.gated and self.token not in model.tokens):
            self.send(404 if self.token else 401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in {None, "main", model.commit}:
            self.send(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return model
        return None

    def describe(self, repo: str, revision: str | None) -> None:
        model = self.model(repo, revision)
        if model is None:
            return
        siblings = []
        for name, path in model.files().items():
            size = path.stat().st_size
            entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": git_sha1(path)}
            if path.suffix in LARGE:
                entry["lfs"] = {"sha256": sha256(path), "size": size, "pointerSize": 134}
            siblings.append(entry)
        answer = {"_id": "1", "id": repo, "modelId": repo, "sha": model.commit}
        content = json.dumps({**answer, "siblings": siblings}).encode()
        self.send(200, {}, self.server.hub.change("api", content))

    def resolve(self, repo: str, revision: str, name: str) -> None:
        model = self.model(repo, revision)
        if model is None:
            return
        path = model.files().get(name)
        if model.gated and self.token not in model.tokens:
            self.send(403 if self.token else 401, {"X-Error-Code": "GatedRepo"})
        elif path is None:
            self.send(404, {"X-Error-Code": "EntryNotFound"})
        else:
            headers = {"X-Repo-Commit": model.commit, "ETag": f'"{key(path)}"'}
            if path.suffix not in LARGE:
                self.send_file(path, headers)
                return
            headers["X-Linked-ETag"] = headers["ETag"]
            headers["X-Linked-Size"] = str(path.stat().st_size)
            headers["Location"] = f"{self.server.hub.address('storage')}/{repo}//{name}"
            self.send(302, headers)

    def send_file(self, path: Path, headers: dict[str, str]) -> None:
        hub = self.server.hub
        content = hub.change(path.name, path.read_bytes())
        headers = {**headers, "Accept-Ranges": "bytes"}
        match = _RANGE.fullmatch(self.headers["Range"] or "") if hub.ranges else None
        if match is None:
            self.send(200, headers, content, hub.cut.get(path.name))
            return
        begin, end = int(match[1]), int(match[2] or len(content) - 1) + 1
        if begin >= len(content):
            self.send(416)
            return
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        self.send(206, headers, content[begin:end], hub.cut.get(path.name))

    def send(
        self,
        status: int,
        headers: dict[str, str] | None = None,
        content: bytes = b"",
        cut: int | None = None,
    ) -> None:
        hub = self.server.hub
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        part = b"" if self.command == "HEAD" else content[:cut]
        path = urlsplit(self.path).path
        hub.requests.append(
            Request(self.server.place, self.command, path, dict(self.headers), len(part))
        )
        self.wfile.write(part)
        self.wfile.flush()
        if part and len(part) < len(content):
            hub.on_cut()
            self.close_connection = True
