"""Published heads in small: decoder files in their authors' layout, the Hub's cache on disk, and a Hub of one's own."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dinoseg.backbone import build_backbone
from dinoseg.config import Config
from dinoseg.config.loading import load_config
from dinoseg.models.segmenter import build_segmenter

COMMIT = "0123456789abcdef0123456789abcdef01234567"
QUERIES, BLOCKS, FFN = 5, 1, 32
HEAD = [
    "decoder_head.type=pmt",
    f"decoder_head.num_queries={QUERIES}",
    f"decoder_head.decoder_layers={BLOCKS}",
    f"decoder_head.decoder_ffn_dim={FFN}",
]


def head_config(backbone: str, *more: str) -> Config:
    """Of a small pmt head."""
    return load_config([*HEAD, f"model.dino_hub={backbone}", "model.weights=none", *more])


def decoder_state(backbone: str, num_classes: int, seed: int = 0) -> dict[str, Tensor]:
    """The state dict of a small decoder, as its authors name it."""
    torch.manual_seed(seed)
    head = build_segmenter(head_config(backbone), num_classes).head
    return {f"network.{name}": tensor for name, tensor in head.state_dict().items()}


def write_decoder(path: Path, backbone: str, num_classes: int, seed: int = 0) -> Path:
    """A file of one: ``.safetensors``, or a pickle whose state dict has a wrapper and the statistics of an encoder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = decoder_state(backbone, num_classes, seed)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state | {"network.encoder.pixel_mean": torch.zeros(1, 3, 1, 1)}}, path)
    return path


def write_backbone(path: Path, seed: int = 1) -> Path:
    """Weights of a ``tiny_vit8``."""
    torch.manual_seed(seed)
    save_file(build_backbone("tiny_vit8", weights="none").model.state_dict(), path)
    return path


def tiny_head(folder: Path, num_classes: int = 3, seed: int = 0) -> Path:
    """A folder with a decoder and its backbone."""
    write_decoder(folder / "pytorch_model.bin", "tiny_vit8", num_classes, seed)
    write_backbone(folder / "backbone.safetensors")
    return folder


def write_hub_cache(cache: Path, repository: str, files: Mapping[str, Path], revision: str = "main") -> Path:
    """Files as the Hub's client leaves them: blobs, and links to them under a commit, which a revision names."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    for folder in (place / "blobs", place / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(COMMIT)
    for name, file in files.items():
        content = file.read_bytes()
        blob = place / "blobs" / sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def use_hub(monkeypatch: pytest.MonkeyPatch, cache: Path, *, offline: bool, endpoint: str | None = None) -> None:
    """Lets the Hub's client, which reads its environment once, look there."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    if endpoint is not None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@dataclass(frozen=True)
class FakeHub:
    """Answers as the Hub does, for one repository that has ``main`` alone.

    Attributes:
        asked: method and path of every request.
    """

    repository: str
    files: Mapping[str, bytes]
    asked: list[str]

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content."""
        known = [f"/api/models/{self.repository}", f"/{self.repository}/resolve/"]
        if path.startswith("/api/models/gated/"):
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if not path.startswith(tuple(known)):
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if path.startswith(known[0]):
            if not path.endswith((self.repository, "/revision/main")):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            listed = [{"rfilename": name} for name in self.files]
            return 200, {}, json.dumps({"id": self.repository, "sha": COMMIT, "siblings": listed}).encode()
        content = self.files[path.rpartition("/")[2]]
        return 200, {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, content


@contextmanager
def running_hub(repository: str, files: Mapping[str, bytes]) -> Iterator[tuple[str, FakeHub]]:
    """Address and answers of a Hub on this machine."""
    hub = FakeHub(repository, files, [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(body=True)

        def do_HEAD(self) -> None:
            self._reply(body=False)

        def _reply(self, body: bool) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            status, headers, content = hub.answer(self.path.partition("?")[0])
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
