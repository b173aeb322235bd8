"""State dicts from files: whatever the file holds, tensors come out or one message."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dinoseg.system.state_dicts import named_tensors, read_state

TENSOR = torch.arange(3.0)


def _read(file: Path) -> dict[str, torch.Tensor]:
    source = f"load_from={file}"
    return named_tensors(read_state(file, source, "give another"), source, "give another")


def _endless() -> dict[str, Any]:
    state: dict[str, Any] = {"weight": TENSOR}
    state["model"] = state
    return state


def _nested(levels: int) -> dict[str, Any]:
    state: dict[str, Any] = {"weight": TENSOR}
    for _ in range(levels):
        state = {"model": state}
    return state


@pytest.mark.parametrize(
    "state",
    [
        {"weight": TENSOR},
        {"model": {"state_dict": {"module._orig_mod.weight": TENSOR}}},
        {"state_dict": {"teacher": {"_orig_mod.module.weight": TENSOR, "epoch": 3, 7: TENSOR, None: TENSOR}}},
        {"model": {"weight": TENSOR}, 3: "odd"},
        _nested(100),
    ],
)
def test_tensors_come_out_of_any_wrappers(state: dict[Any, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "state.pth")
    tensors = _read(tmp_path / "state.pth")
    assert list(tensors) == ["weight"] and torch.equal(tensors["weight"], TENSOR)


def test_a_dict_that_holds_itself_ends(tmp_path: Path) -> None:
    torch.save(_endless(), tmp_path / "state.pth")
    assert list(_read(tmp_path / "state.pth")) == ["weight"]
    first: dict[str, Any] = {}
    first["model"] = {"teacher": first}
    torch.save(first, tmp_path / "state.pth")
    with pytest.raises(ValueError, match=r"holds no tensors of a model \(its keys: model\); give another"):
        _read(tmp_path / "state.pth")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80", b"PK\x03\x04", b"\xff" * 64, b"(" * 20_000 + b"."])
def test_what_is_no_state_dict_is_one_message(content: bytes, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"state{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError) as met:
        _read(file)
    message = str(met.value)
    assert message.startswith(f"load_from={file}: ") and message.endswith("; give another") and "\n" not in message


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_an_exported_graph_is_told_from_weights(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x08\x0a")
    with pytest.raises(ValueError, match=f"load_from={name}: a graph for other engines.*; give a run$"):
        read_state(tmp_path / name, f"load_from={name}", "give a run")


def test_endings_may_be_in_capitals(tmp_path: Path) -> None:
    save_file({"weight": TENSOR}, tmp_path / "STATE.SAFETENSORS")
    assert torch.equal(_read(tmp_path / "STATE.SAFETENSORS")["weight"], TENSOR)
    (tmp_path / "CUT.SAFETENSORS").write_bytes((tmp_path / "STATE.SAFETENSORS").read_bytes()[:20])
    with pytest.raises(ValueError, match="not a readable safetensors file, perhaps cut short"):
        _read(tmp_path / "CUT.SAFETENSORS")


def test_headers_of_safetensors_that_ask_for_too_much_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"
    for content in (b"\xff" * 8 + b"{}", (20_000).to_bytes(8, "little") + b"[" * 20_000):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a readable safetensors file, perhaps cut short .*; give another"):
            _read(file)


def test_deep_nesting_and_folders_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "deep.pth").write_bytes(b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b".")
    (tmp_path / "folder.pth").mkdir()
    for name in ("deep.pth", "folder.pth", "none.pth"):
        with pytest.raises(ValueError, match=rf"load_from=.*{name}: .*; give another"):
            _read(tmp_path / name)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.eye(3).to_sparse(), r"tensor weight is torch\.float32, torch\.sparse_coo, where plain numbers"),
        (torch.empty(3, device="meta"), "tensor weight has no values"),
        (torch.zeros(3, dtype=torch.complex64), r"tensor weight is torch\.complex64"),
    ],
)
def test_tensors_without_plain_numbers_are_refused(tensor: torch.Tensor, reason: str, tmp_path: Path) -> None:
    torch.save({"weight": tensor}, tmp_path / "state.pth")
    with pytest.raises(ValueError, match=reason):
        _read(tmp_path / "state.pth")


@pytest.mark.parametrize("held", [[TENSOR], 3, "text", None, TENSOR])
def test_what_is_no_mapping_is_refused(held: Any, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "state.pth")
    with pytest.raises(ValueError, match=r"holds a \w+, not named tensors; give another"):
        _read(tmp_path / "state.pth")


class _Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("open('trapped', 'w').close()",)


def test_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state.pth").write_bytes(pickle.dumps({"model": _Trap()}, protocol=2))
    with pytest.raises(ValueError, match=r"refused, it holds more than tensors .*, and code in it is not run"):
        _read(tmp_path / "state.pth")
    assert not (tmp_path / "trapped").exists()
