"""Backbone weights from a local file or folder: read without running code, matched in full or refused."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from dinoseg.backbone.catalogue import BackboneSpec, list_backbones
from dinoseg.backbone.dialects import Dialect, State, detect_dialect, to_timm
from dinoseg.backbone.eomt_dialect import are_differences, split_eomt
from dinoseg.backbone.patch_size import resize_patches, with_positions_of
from dinoseg.system.files import file_sha256, special_kind
from dinoseg.system.json_files import Record, read_json
from dinoseg.system.messages import list_names, printable
from dinoseg.system.state_dicts import named_tensors, read_state, refuse_not_finite, show_name

_PICKLE_SUFFIXES = (".pth", ".pt", ".bin")
_INDEX_SUFFIX = ".safetensors.index.json"
_PREFIX = re.compile(r"(?:model\.)?backbone\.(?:model\.)?")
# Of trainers that keep the backbone as ``self.model``.
_INNER = "model."
_NAMES_SHOWN = 4
_REMEDY = "give a file with the tensors alone, best as safetensors"
# Of timm's DINOv3, which has parameters of their own for the biases of queries and values.
_ATTENTION_BIAS = re.compile(r"\.attn\.[qv]_bias$")


class _IndexRecord(Record):
    """model.safetensors.index.json: which file holds which tensor."""

    weight_map: dict[str, str]


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded: ``matched`` of ``total`` tensors of the model, from ``path``.

    ``sha256``: of the file's bytes (of a folder: of its weight files one after the other); None for a download.
    """

    matched: int
    total: int
    dialect: Dialect
    path: str
    sha256: str | None

    def __str__(self) -> str:
        return f"matched {self.matched} / {self.total} tensors ({self.dialect} dialect) from {self.path}"


def load_weights(model: nn.Module, path: str | Path, name: str, patch_size: int | None = None) -> WeightsReport:
    """Load a file or folder of any dialect into a timm model; 16-bit tensors become float32.

    ``name``: of the backbone, for messages. ``patch_size``: that the model will be given; a file of a whole EoMT may
    have patches of it already, and the model gets them at once.

    Raises:
        ValueError: nothing there, unreadable, a pickle that wants to run code, no known dialect, or tensors that
            are missing, unexpected or of another shape. The model is unchanged then.
    """
    files = weight_files(Path(path))
    source = f"model.weights={path}"
    tensors = _read(files)
    whole = split_eomt(tensors)
    if whole is not None and patch_size is not None and whole.patch_size == patch_size:
        resize_patches(model, patch_size)
    target = model.state_dict()
    if whole is None:
        state, dialect = fitted_state(tensors, target, source, name)
    else:
        state, dialect = fitted_state(whole.backbone, target, source, name, any_grid=True)
    if whole is not None and are_differences(state, target):
        raise ValueError(
            f"{source}: holds the differences of an EoMT from the weights of its backbone, not weights; give it as "
            "load_from, and those weights as model.weights"
        )
    model.load_state_dict(state)
    return WeightsReport(len(state), len(target), dialect, str(path), file_sha256(*files))


def fitted_state(
    state: State, target: Mapping[str, Tensor], source: str, name: str, *, remedy: str = _REMEDY, any_grid: bool = False
) -> tuple[State, Dialect]:
    """Tensors of any dialect under the names of a timm model, all that it has and of its shapes; and the dialect.

    Args:
        target: the model's own.
        source: names the file in messages, with the key it was given under.
        name: of the backbone, for messages.
        remedy: what to do about values that are not finite.
        any_grid: positions of another grid of patches are resampled, not refused.

    Raises:
        ValueError: no known dialect, or tensors that are missing, unexpected, of another shape or not finite.
    """
    dialect = detect_dialect(state)
    if dialect is None:
        raise ValueError(
            f"{source}: no backbone weights in any known dialect (Meta's, transformers', timm's); "
            f"its first tensors are {list_names([show_name(key) for key in state], _NAMES_SHOWN)}; give the weights "
            f"of {name}"
        )
    translated = _fit_optional(_translate(state, dialect, source, name), target)
    if any_grid:
        translated = with_positions_of(translated, target)
    _refuse_partial(translated, target, source, name, dialect)
    # Of what is loaded alone: the rest of a checkpoint may hold placeholders.
    refuse_not_finite(translated, source, remedy)
    return translated, dialect


def _translate(state: State, dialect: Dialect, source: str, name: str) -> State:
    try:
        return to_timm(state, dialect)
    except ValueError as error:
        raise ValueError(f"{source}: {error}; give the weights of {name}") from error
    except (KeyError, IndexError, RuntimeError, TypeError) as error:  # a tensor is missing, or of an odd shape
        raise ValueError(
            f"{source}: its tensors have names of the {dialect} dialect, but not its shapes "
            f"({(str(error).splitlines() or [type(error).__name__])[0]}); give the weights of {name}"
        ) from None


def weight_files(path: Path) -> tuple[Path, ...]:
    """The files that hold the tensors: ``path`` itself, the shards that it is the index of, or in a folder
    model.safetensors, the shards named by model.safetensors.index.json, or its only file of a known suffix.

    Raises:
        ValueError: nothing there, or a folder in which no file or more than one would do.
    """
    if path.is_file():
        return _shards(path.parent, path) if path.name.endswith(_INDEX_SUFFIX) else (path,)
    if not path.is_dir():
        if kind := special_kind(path):
            raise ValueError(f"model.weights={path}: {kind}; {_REMEDY}")
        raise ValueError(f"model.weights={path}: no such file or folder (beside a path, give 'hub' or 'none')")
    if (path / "model.safetensors").is_file():
        return (path / "model.safetensors",)
    index = path / "model.safetensors.index.json"
    if index.is_file():
        return _shards(path, index)
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in (".safetensors", *_PICKLE_SUFFIXES))
    if len(found) == 1:
        return (found[0],)
    names = ", ".join(file.name for file in found) or "none"
    raise ValueError(f"model.weights={path}: one weight file is needed in the folder, found: {names}; name the file")


def _shards(folder: Path, index: Path) -> tuple[Path, ...]:
    remedy = "download the folder again, or give another as model.weights=PATH"
    shards = sorted(set(read_json(index, _IndexRecord, remedy).weight_map.values()))
    if not shards:
        raise ValueError(f"model.weights={folder}: {index.name}: weight_map is empty; {remedy}")
    for shard in shards:
        if Path(shard).name != shard or "\\" in shard:
            raise ValueError(
                f"model.weights={folder}: {index.name} names {printable(shard)!r}, which is no file of this folder: "
                f"files outside it are not read; {remedy}"
            )
        if not (folder / shard).is_file():
            raise ValueError(
                f"model.weights={folder}: {index.name} names {printable(shard)}, which is not there; {remedy}"
            )
    return tuple(folder / shard for shard in shards)


def _read(files: Sequence[Path]) -> State:
    """The tensors of the backbone alone: training checkpoints nest them and prefix their names."""
    source = f"model.weights={files[0]}"
    state = {key: value for file in files for key, value in read_state(file, f"model.weights={file}", _REMEDY).items()}
    tensors = named_tensors(state, source, _REMEDY)
    # The backbone may have been wrapped by itself, and a run's own checkpoints call its model ``model``.
    tensors = {_PREFIX.sub("", name): tensor for name, tensor in tensors.items() if _PREFIX.match(name)} or tensors
    if detect_dialect(tensors) is None and all(name.startswith(_INNER) for name in tensors):
        return {name.removeprefix(_INNER): tensor for name, tensor in tensors.items()}
    return tensors


def _fit_optional(state: State, target: Mapping[str, Tensor]) -> State:
    """Drop a classifier, and give or take biases of zero: timm has DINOv3 with them and without ("_qkvb" or not)."""
    out = {name: tensor for name, tensor in state.items() if name in target or not _is_optional(name, tensor)}
    if not any(_ATTENTION_BIAS.search(name) for name in out):
        for name, tensor in target.items():
            if _ATTENTION_BIAS.search(name) and _ATTENTION_BIAS.sub(".attn.qkv.weight", name) in out:
                out[name] = torch.zeros_like(tensor)
    return out


def _is_optional(name: str, tensor: Tensor) -> bool:
    return name.startswith("head.") or (bool(_ATTENTION_BIAS.search(name)) and not bool(tensor.any()))


def _is_number_of(tensor: Tensor, target: Tensor) -> bool:
    return tensor.is_floating_point() or not target.is_floating_point()


def _refuse_partial(state: State, target: Mapping[str, Tensor], source: str, name: str, dialect: Dialect) -> None:
    missing = [key for key in target if key not in state]
    unexpected = [show_name(key) for key in state if key not in target]
    misshapen = [key for key in target if key in state and state[key].shape != target[key].shape]
    # Integers in the place of weights are quantised ones, which mean nothing without their scales.
    whole = [key for key in target if key in state and not _is_number_of(state[key], target[key])]
    if not (missing or unexpected or misshapen or whole):
        return
    shapes = [f"{key} {tuple(state[key].shape)} in place of {tuple(target[key].shape)}" for key in misshapen]
    found = [
        f"{label}: {list_names(entries, _NAMES_SHOWN)}"
        for label, entries in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("other shape", shapes),
            ("whole numbers in place of weights", whole),
        )
        if entries
    ]
    matched = len(target) - len(missing) - len({*misshapen, *whole})
    raise ValueError(
        f"{source}: matched {matched} / {len(target)} tensors of {name}, nothing loaded. "
        f"Likely reason: {likely_reason(state, target)}. "
        f"In timm's names (the file is in the {dialect} dialect), {'; '.join(found)}. Give the weights of {name}, or "
        "the backbone of the file as model.dino_hub."
    )


@dataclass(frozen=True)
class _Anatomy:
    family: str
    width: int
    blocks: int
    patch_size: int
    registers: int
    position_grid: int  # side, in patches; 0 with rotary positions and for a ConvNeXt


def likely_reason(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    """The likely reason for a mismatch between a file's tensors and a model's, both under timm's names."""
    theirs, ours = _anatomy(state), _anatomy(target)
    aspects = [field.name for field in fields(_Anatomy) if getattr(theirs, field.name) != getattr(ours, field.name)]
    if "family" in aspects:  # of which the rest follows
        aspects = ["family"]
    differences = [
        f"{aspect.replace('_', ' ')} {getattr(theirs, aspect)} in the file, {getattr(ours, aspect)} in the model"
        for aspect in aspects
    ]
    if not differences:
        return "the file is incomplete or altered"
    fitting = [spec.name for spec in list_backbones() if _fits(spec, theirs)]
    return "; ".join(differences) + (f" (the file looks like {' or '.join(fitting)})" if fitting else "")


def _anatomy(state: Mapping[str, Tensor]) -> _Anatomy:
    if "stem.0.weight" in state:
        norm, stem = _with_axes(state.get("head.norm.weight"), 1), _with_axes(state["stem.0.weight"], 4)
        blocks = sum(1 for name in state if re.fullmatch(r"stages\.\d+\.blocks\.\d+\.conv_dw\.weight", name))
        return _Anatomy(
            "ConvNeXt", 0 if norm is None else len(norm), blocks, 0 if stem is None else stem.shape[-1], 0, 0
        )
    patch = _with_axes(state.get("patch_embed.proj.weight"), 4)
    registers, positions = (_with_axes(state.get(key), 3) for key in ("reg_token", "pos_embed"))
    return _Anatomy(
        family="ViT with rotary positions (DINOv3)" if positions is None else "ViT with learned positions (DINOv2)",
        width=0 if patch is None else patch.shape[0],
        blocks=_count_blocks(state),
        patch_size=0 if patch is None else patch.shape[-1],
        registers=0 if registers is None else registers.shape[1],
        position_grid=0 if positions is None else math.isqrt(positions.shape[1]),
    )


def _with_axes(tensor: Tensor | None, count: int) -> Tensor | None:
    """The tensor if it has so many axes: a damaged file may hold anything under a known name."""
    return tensor if tensor is not None and tensor.ndim == count else None


def _count_blocks(names: Iterable[str]) -> int:
    found = (re.match(r"blocks\.(\d+)\.", name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _fits(spec: BackboneSpec, anatomy: _Anatomy) -> bool:
    if spec.kind == "convnext" or (spec.embed_dim, spec.depth) != (anatomy.width, anatomy.blocks):
        return False
    learned_positions = not spec.name.startswith("dinov3_")
    if spec.patch_size != anatomy.patch_size or learned_positions != (anatomy.position_grid > 0):
        return False
    return not learned_positions or spec.name.endswith("_reg") == (anatomy.registers > 0)
