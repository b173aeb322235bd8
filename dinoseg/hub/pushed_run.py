"""A pushed run as a run folder in this user's cache, so that whatever takes a run folder takes it, too.

Only what dinoseg itself makes of the checked files is written there; the model file is linked.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dinoseg.config import Config
from dinoseg.config.loading import config_yaml, load_config
from dinoseg.hub.layout import CALIBRATION_FILE, CONFIG_FILE, LABELS_FILE, MODEL_FILE, BackboneRecord
from dinoseg.hub.local_keys import local_values, stated_local_values
from dinoseg.hub.pushed_files import REMEDY, PushedFiles, find_pushed_files
from dinoseg.labels import LabelSpace
from dinoseg.labels.labels_json import LabelSpaceRecord
from dinoseg.run_folder.calibration_file import CalibrationRecord
from dinoseg.run_folder.checkpoint_manifest import CONTENTS_FILE, write_contents
from dinoseg.run_folder.folder import RunFolder
from dinoseg.system.files import file_sha256, replaced_file, user_cache_folder
from dinoseg.system.json_files import read_json
from dinoseg.system.messages import printable
from dinoseg.zoo.address import Address

# Of the header of a model file, which is read before anything is known of it; the largest of ours have 1 MB.
_LARGEST_HEADER = 16_000_000
_NEEDED_METADATA = ("backbone", "backbone_sha256", "backbone_saved", "labels", "settings")


@dataclass(frozen=True)
class PushedRun:
    """A pushed run on this disk.

    Attributes:
        address: as it was given.
        folder: the run folder in the cache, whose only checkpoint is ``best``.
        backbone: which, and where its weights are to be had.
    """

    address: Address
    folder: Path
    backbone: BackboneRecord

    @property
    def needs_weights(self) -> bool:
        """Whether the backbone's weights are a file that only whoever trained it has."""
        return self.backbone.weights == "file"


def find_pushed_run(address: Address) -> PushedRun | None:
    """The pushed run that an address names; None where it names none, but a head, or nothing that is known here.

    Raises:
        ValueError: it cannot be fetched, or one of its files is damaged, or says what none of a pushed run may say;
            names address, file and key.
    """
    files = find_pushed_files(address)
    return None if files is None else _run_of(files)


def _run_of(files: PushedFiles) -> PushedRun:
    _refuse_other_contents(files)
    config, label_space = _read_config(files), _read_labels(files)
    _refuse_other_model(files)
    run = RunFolder(_folder(files))
    # Each file appears whole, so that processes that do the same at once do no harm.
    _write(run.config, config_yaml(config))
    _write(run.labels, json.dumps(label_space.to_dict(), indent=2) + "\n")
    calibration = files.paths.get(CALIBRATION_FILE)
    if calibration is None:
        run.calibration.unlink(missing_ok=True)
    else:
        _write(run.calibration, json.dumps(_read_calibration(files, calibration).model_dump(), indent=2) + "\n")
    _link_model(files.paths[MODEL_FILE], run.checkpoint("best"))
    return PushedRun(files.address, run.path, files.record.backbone)


def _folder(files: PushedFiles) -> Path:
    repository = files.address.repository
    place = "local" if repository is None else repository.replace("/", "--")
    return user_cache_folder() / "pushed" / place / files.key


def _refuse_other_contents(files: PushedFiles) -> None:
    for name, path in files.paths.items():
        found, expected = file_sha256(path), files.record.files[name].sha256
        if found != expected:
            raise ValueError(
                f"{_source(files, name)} damaged: SHA-256 {found[:12]}... found, {expected[:12]}... expected; {REMEDY}"
            )


def _read_config(files: PushedFiles) -> Config:
    """The config, which may say nothing of places: not where to write, nor what else to read."""
    source, record = _source(files, CONFIG_FILE), files.record
    reference = _text_with(record.config, "${")
    if reference is not None:
        raise ValueError(f"{source}: config: {printable(reference)[:80]!r} refers to something outside; {REMEDY}")
    _refuse_local(stated_local_values(record.config), source)
    with tempfile.TemporaryDirectory() as folder:
        # JSON is YAML, so that it is read as strictly as the config of a run.
        file = Path(folder) / "config.yaml"
        file.write_text(json.dumps(record.config, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")
        try:
            config = load_config([f"config={file}"])
        except ValueError as error:
            said = str(error).splitlines()[0].replace(f"config={file}", "config")
            raise ValueError(f"{source}: {said}; {REMEDY}, or update dinoseg if {record.version} is newer") from None
    _refuse_local(local_values(config), source)
    if record.backbone.name != config.model.dino_hub:
        raise ValueError(
            f"{source}: backbone.name: {printable(record.backbone.name)[:80]!r} found, {config.model.dino_hub!r} "
            f"expected, which config names; {REMEDY}"
        )
    return config


def _refuse_local(keys: list[str], source: str) -> None:
    if keys:
        raise ValueError(
            f"{source}: config.{keys[0]}: says what is of one machine alone, and is not taken from others; {REMEDY}"
        )


def _text_with(value: Any, part: str) -> str | None:
    """The first text of a document that holds a part."""
    if isinstance(value, str):
        return value if part in value else None
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return next((found for entry in inner if (found := _text_with(entry, part)) is not None), None)


def _read_labels(files: PushedFiles) -> LabelSpace:
    space = LabelSpace.from_record(_read(files, LABELS_FILE, files.paths[LABELS_FILE], LabelSpaceRecord))
    for index, name in enumerate(space.class_names):
        # Line breaks are harmless; other controls would act on the terminal that shows the name.
        if any(printable(letter) != letter for letter in name if letter not in "\n\t"):
            raise ValueError(
                f"{_source(files, LABELS_FILE)}: classes[{index}].name: {printable(name)[:80]!r} holds control "
                f"characters; {REMEDY}"
            )
    return space


def _read_calibration(files: PushedFiles, path: Path) -> CalibrationRecord:
    return _read(files, CALIBRATION_FILE, path, CalibrationRecord)


def _read(files: PushedFiles, name: str, path: Path, model: Any) -> Any:
    try:
        return read_json(path, model, REMEDY)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), _source(files, name), 1)) from None


def _refuse_other_model(files: PushedFiles) -> None:
    """What the weights file says of itself, before its tensors are read: it must be one, and of this run."""
    source, path = _source(files, MODEL_FILE), files.paths[MODEL_FILE]
    with path.open("rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    if header > min(_LARGEST_HEADER, path.stat().st_size):
        raise ValueError(
            f"{source} refused: no safetensors file (its header would have {header} bytes); nothing else is read, and "
            f"nothing in it is run; {REMEDY}"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{source} refused: damaged or no safetensors file ({error}); nothing in it is run; {REMEDY}"
        ) from None
    for key in _NEEDED_METADATA:
        if key not in metadata:
            raise ValueError(f"{source}: metadata: {key} is missing; {REMEDY}")
    backbone = files.record.backbone
    included = str(backbone.weights == "included").lower()
    expected = {"backbone": backbone.name, "backbone_sha256": backbone.sha256, "backbone_saved": included}
    for key, value in expected.items():
        if metadata[key] != value:
            raise ValueError(
                f"{source}: metadata: {key} is {printable(metadata[key])[:80]!r}, where {CONFIG_FILE} says {value!r}; "
                f"{REMEDY}"
            )


def _source(files: PushedFiles, name: str) -> str:
    return f"{files.address.text}: {name}"


def _write(path: Path, text: str) -> None:
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    with replaced_file(path, shared=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _link_model(file: Path, checkpoint: Path) -> None:
    """The checkpoint's weights are a link to the file; its manifest says what the file must be."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    target, link = file.resolve(), checkpoint / MODEL_FILE
    is_linked = link.is_symlink() and link.resolve() == target
    if not is_linked:
        temporary = Path(tempfile.mkdtemp(dir=checkpoint)) / MODEL_FILE
        temporary.symlink_to(target)
        temporary.replace(link)
        temporary.parent.rmdir()
    # Replaced, never removed: another process may have the same one and read it.
    if not is_linked or not (checkpoint / CONTENTS_FILE).exists():
        with tempfile.TemporaryDirectory(dir=checkpoint) as folder:
            (Path(folder) / MODEL_FILE).symlink_to(target)
            write_contents(Path(folder), (MODEL_FILE,), {}).replace(checkpoint / CONTENTS_FILE)
