"""A Hub on 127.0.0.1 that takes pushes: repositories in memory, one user, the calls that the Hub's client makes."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

USER, TOKEN = "user", "hf_of_the_user"
LICENCES = ("apache-2.0", "other", None)
# Programs that the client may be run by.
_HARNESSES = "/api/agent-harnesses"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Repository:
    """One model; a version a commit, the newest last."""

    private: bool = False
    versions: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        """Of the newest version."""
        return next(reversed(self.versions.values()), {})

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a revision; ``main`` is the newest."""
        commit = next(reversed(self.versions), "0" * 40) if revision == "main" else revision
        return (commit, self.versions.get(commit, {})) if commit in self.versions or revision == "main" else None

    def commit(self, files: dict[str, bytes]) -> str:
        """A new version with these files."""
        name = sha1(repr((len(self.versions), sorted(files.items()))).encode()).hexdigest()
        self.versions[name] = files
        return name


@dataclass
class HubDouble:
    """Repositories of ``USER`` and others.

    Attributes:
        asked: method and path of every request but those that the client makes for itself, once a day.
    """

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, token: str, body: bytes) -> Answer:
        """Status, headers and content."""
        if token not in ("", TOKEN):
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        if path == _HARNESSES:
            return _json({"standardEnvVars": [], "harnesses": {}})
        if path == "/api/validate-yaml":
            said = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            wrong = [{"message": '"license" must be one of those known'}] if said.get("license") not in LICENCES else []
            return (400, {}, json.dumps({"errors": wrong}).encode()) if wrong else _json({})
        if path == "/api/repos/create":
            return self._create(json.loads(body), token)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._of_model("/".join(parts[2:4]), parts[4:], token, body)
        name, revision, file = "/".join(parts[:2]), unquote(parts[3]), "/".join(parts[4:])
        found = self._visible(name, token).at(revision) if self._visible(name, token) else None
        if found is None or file not in found[1]:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        content = found[1][file]
        return 200, {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": found[0]}, content

    def _visible(self, name: str, token: str) -> Any:
        repository = self.repositories.get(name)
        return repository if repository is not None and (token or not repository.private) else None

    def _create(self, asked: dict[str, Any], token: str) -> Answer:
        name = f"{asked['organization']}/{asked['name']}"
        if not token or asked["organization"] != USER:
            status = 403 if token else 401
            return status, {"X-Error-Message": "You don't have the rights to create a model under this namespace"}, b""
        if name in self.repositories:
            return 409, {}, b"{}"
        self.repositories[name] = Repository(asked.get("visibility") == "private")
        return _json({"url": f"{self.endpoint}/{name}"})

    def _of_model(self, name: str, call: list[str], token: str, body: bytes) -> Answer:
        repository = self._visible(name, token)
        if repository is None:
            return 404 if token else 401, {"X-Error-Code": "RepoNotFound"}, b""
        if call[:1] == ["preupload"]:
            if not name.startswith(f"{USER}/"):
                return 403, {"X-Error-Message": "Forbidden: pass `create_pr=1`"}, b""
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return _json({"files": [{"path": file["path"], **modes} for file in json.loads(body)["files"]]})
        if call[:1] == ["commit"]:
            commit = repository.commit(_changed(repository.files, body))
            return _json({"commitUrl": f"{self.endpoint}/{name}/commit/{commit}", "commitOid": commit})
        found = repository.at(unquote(call[1]) if call else "main")
        if found is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        siblings = [{"rfilename": file, "size": len(content)} for file, content in found[1].items()]
        info = {"id": name, "sha": found[0], "private": repository.private, "siblings": siblings}
        return _json(info | _library(found[1].get("README.md", b"")))


def _changed(files: dict[str, bytes], body: bytes) -> dict[str, bytes]:
    files = dict(files)
    for line in body.splitlines():
        entry = json.loads(line)
        if entry["key"] == "file":
            files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        elif entry["key"] == "deletedFile":
            del files[entry["value"]["path"]]
    return files


def _library(card: bytes) -> dict[str, str]:
    """As the Hub reads it off the card."""
    parts = card.decode().split("---\n")
    said = yaml.safe_load(parts[1]) if len(parts) > 2 else {}
    return {"library_name": said["library_name"]} if "library_name" in said else {}


def _json(contents: dict[str, Any]) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(contents).encode()


@contextmanager
def running_hub_double() -> Iterator[HubDouble]:
    """The Hub, which answers at its ``endpoint`` until the block ends."""
    hub = HubDouble()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            if self.path != _HARNESSES:
                hub.asked.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, headers, content = hub.answer(self.command, self.path.partition("?")[0], token, body)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = _reply

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def log_in(patch: pytest.MonkeyPatch, folder: Path, token: str | None = TOKEN) -> None:
    """Lets the Hub's client find this token, or none, whatever this machine has."""
    from huggingface_hub import constants

    patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(variable, raising=False)
    if token is not None:
        patch.setenv("HF_TOKEN", token)
