"""Files of published heads: taken from the Hub's cache, fetched from a Hub, or said to be missing, and why."""

import errno
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.published import COMMIT, FakeHub, running_hub, use_hub, write_hub_cache

import dinoseg
from dinoseg.zoo.address import Address
from dinoseg.zoo.asking import UnreachedError, asking_hub
from dinoseg.zoo.files import backbone_file, head_file

SMALL = "tue-mps/coco_panoptic_pmt_small_640_dinov3"
BACKBONE = "timm/vit_small_patch16_dinov3_qkvb.lvd1689m"


@pytest.fixture
def some_file(tmp_path: Path) -> Path:
    path = tmp_path / "some"
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("revision", ["main", "v2"])
def test_a_cached_file_needs_no_network(
    name: str, revision: str, some_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    snapshot = write_hub_cache(tmp_path / "hub", SMALL, {name: some_file}, revision)
    pinned = "" if revision == "main" else f"@{revision}"
    assert head_file(Address.parse(f"hf:{SMALL}{pinned}")) == snapshot / name
    assert head_file(Address.parse(f"hf:{SMALL}@{COMMIT}")) == snapshot / name
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        head_file(Address.parse(f"hf:{SMALL}@other"))


def test_offline_the_files_and_their_places_are_named(
    some_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, tmp_path / "hub", offline=True)
    with pytest.raises(ValueError) as met:
        head_file(Address.parse(f"hf:{SMALL}@v2"))
    folder = SMALL.partition("/")[2]
    assert str(met.value) == (
        f"hf:{SMALL}@v2: cannot be fetched: HF_HUB_OFFLINE is set, and it is not in the Hub's cache. Fetch elsewhere:\n"
        f"  https://huggingface.co/{SMALL}/resolve/v2/pytorch_model.bin\n"
        f"    as {folder}/pytorch_model.bin\n"
        f"  https://huggingface.co/{BACKBONE}/resolve/main/model.safetensors\n"
        f"    as {folder}/backbone.safetensors\n"
        f"and give that folder, hf:{folder}, in its place; or copy the Hub's cache of a machine that has them to "
        f"{tmp_path / 'hub'}"
    )
    write_hub_cache(tmp_path / "hub", BACKBONE, {"model.safetensors": some_file})
    with pytest.raises(ValueError) as met:
        head_file(Address.parse(f"hf:{SMALL}"))
    assert BACKBONE not in str(met.value)


def test_without_network_it_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A port that nothing listens on.
    use_hub(monkeypatch, tmp_path / "hub", offline=False, endpoint="http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"the Hub was not reached \(.*\)\. Fetch elsewhere:\n  https") as met:
        head_file(Address.parse(f"hf:{SMALL}"))
    assert f"{BACKBONE}/resolve/main/model.safetensors" in str(met.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub(SMALL, {"README.md": b"", "pytorch_model.bin": b"weights"}) as (endpoint, answers):
        use_hub(monkeypatch, tmp_path / "hub", offline=False, endpoint=endpoint)
        yield answers


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            "tue-mps/coco_panoptic_pmt_small_512_dinov3",
            f"the Hub has no such repository, or a private one; did you mean hf:{SMALL}? `dinoseg zoo` lists",
        ),
        ("gated/head", "the Hub gives this to those whom its owner let in; ask on https://huggingface.co/gated/head"),
        (f"{SMALL}@v9", f"{SMALL} has no revision 'v9'; give a branch, a tag or a commit of"),
    ],
)
def test_what_the_hub_does_not_have(place: str, said: str, hub: FakeHub) -> None:
    with pytest.raises(ValueError) as met:
        head_file(Address.parse(f"hf:{place}"))
    assert str(met.value).startswith(f"hf:{place}: {said}")
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("met", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "{cache}: No space left on device; free space on that disk"),
        (PermissionError(errno.EACCES, "Permission denied", "/cache/x"), "/cache/x: Permission denied; give a path"),
    ],
)
def test_a_disk_that_takes_no_file_is_not_told_as_a_hub_that_is_not_reached(
    met: OSError, said: str, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> str:
        raise met

    monkeypatch.setattr("dinoseg.zoo.files.hf_hub_download", refuse)
    with pytest.raises(ValueError) as told:
        head_file(Address.parse(f"hf:{SMALL}"))
    assert str(told.value).startswith(f"hf:{SMALL}: not fetched: {said.format(cache=tmp_path / 'hub')}")
    assert "HF_HUB_CACHE names another folder for it" in str(told.value) and "reached" not in str(told.value)


def test_a_connection_that_is_refused_is_a_hub_that_is_not_reached() -> None:
    # A number that is also that of a file, as TLS has it.
    for met in (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), ssl.SSLError(1, "no certificate")):
        with pytest.raises(UnreachedError, match="the Hub was not reached"), asking_hub(Address.parse(f"hf:{SMALL}")):
            raise met


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (401, "Invalid credentials in Authorization header", "not fetched: the Hub does not know the token (Invalid"),
        (403, "token lacks a right", "not fetched: the token may not read it (token lacks a right); log in with one"),
        (403, "", "cannot be fetched: the Hub was not reached ("),
    ],
)
def test_a_token_that_is_refused_is_told_from_a_hub_that_is_not_reached(
    status: int, words: str, said: str, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"X-Error-Message": words} if words else {}
    monkeypatch.setattr(FakeHub, "answer", lambda hub, path: (status, headers, b""))
    with pytest.raises(ValueError) as told:
        head_file(Address.parse(f"hf:{SMALL}"))
    assert str(told.value).startswith(f"hf:{SMALL}: {said}")


def test_a_repository_without_a_head_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub("some/thing", {"README.md": b"", "weights.gguf": b""}) as (endpoint, _):
        use_hub(monkeypatch, tmp_path / "hub", offline=False, endpoint=endpoint)
        with pytest.raises(ValueError, match=r"neither model.safetensors nor .* but README.md, weights.gguf; give"):
            head_file(Address.parse("hf:some/thing"))


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom dinoseg.zoo.files import head_file\nfrom dinoseg.zoo.address import Address\n"
        "for _ in range(2): print(head_file(Address.parse(sys.argv[1])))"
    )
    with running_hub(SMALL, {"README.md": b"", "pytorch_model.bin": b"weights"}) as (endpoint, hub):
        # The client reads these once, when it is imported.
        environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", code, f"hf:{SMALL}@main"],
            env={"PYTHONPATH": ":".join(sys.path), "PATH": "", **environment},
            capture_output=True,
            text=True,
            check=True,
        )
    first, second = (Path(line) for line in done.stdout.split())
    assert first == second and first.read_bytes() == b"weights"
    assert first.is_relative_to(tmp_path / "hub") and first.name == "pytorch_model.bin"
    assert sum(request.startswith("GET") and "resolve" in request for request in hub.asked) == 1


def test_files_of_a_folder(some_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").touch()
    address = Address.parse(f"hf:{folder}")
    with pytest.raises(ValueError, match=r"neither model.safetensors nor pytorch_model.bin in this folder, but notes"):
        head_file(address)
    # Not what it was trained on, which would not help.
    with pytest.raises(ValueError, match=r"in this folder, but notes.*; a pushed run has a config.json beside it"):
        dinoseg.load(address.text)
    for name in ("pytorch_model.bin", "model.safetensors"):
        (folder / name).write_bytes(b"")
        assert head_file(address) == folder / name
    assert head_file(Address.parse(f"hf:{some_file}")) == some_file
    assert backbone_file(address) is None
    (folder / "backbone.pth").touch()
    assert backbone_file(address) == folder / "backbone.pth"
