"""Fingerprints: by what a finished output is known to be the one that would be made again."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dinoseg import __version__
from dinoseg.config import Config
from dinoseg.data.picture_form import PictureForm
from dinoseg.inference.policy import WindowPolicy
from dinoseg.labels import LabelSpace
from dinoseg.system.files import file_sha256

_TEXT_KEY = "dinoseg fingerprint"


def settings_fingerprint(checkpoint_hash: str, label_space: LabelSpace, config: Config, window: WindowPolicy) -> str:
    """Names everything but the image that decides a class map: weights, labels, options, this package's version.

    The device and ``eval.batch_size`` are left out: they change the time, and the last bits of a score at most.
    """
    model, policy = config.model.model_dump(), asdict(window)
    # The checkpoint's own metadata has the hash of the backbone, wherever its file lies.
    del model["weights"], policy["batch_size"]
    decisive = {
        "version": __version__,
        "checkpoint": checkpoint_hash,
        "labels": label_space.to_dict(),
        "model": model,
        "decoder_head": config.decoder_head.model_dump(),
        "mean": config.transforms.mean,
        "std": config.transforms.std,
        "form": asdict(PictureForm.of(config.datasets)),
        "model_dtype": config.model_dtype,
        "window": policy,
    }
    return digest_of(json.dumps(decisive, sort_keys=True))


def ensemble_fingerprint(
    members: Sequence[str | None], label_space: LabelSpace, temperatures: Sequence[float] = ()
) -> str | None:
    """Names what decides a class map of several runs' mean, by theirs; that of one run is its own.

    None where one has none.

    Args:
        temperatures: of the members. They weigh in a mean; the classes of one run do not depend on its own.
    """
    known = [member for member in members if member is not None]
    if len(known) < len(members):
        return None
    if len(known) == 1:
        return known[0]
    decisive: dict[str, Any] = {"members": known, "labels": label_space.to_dict()}
    if any(temperature != 1.0 for temperature in temperatures):
        decisive["temperatures"] = list(temperatures)
    return digest_of(json.dumps(decisive, sort_keys=True))


def output_fingerprint(
    settings: str, palette: bool, image_sha256: str, mask: Path | None = None, region: Path | None = None
) -> str:
    """Names one output: the settings, the bytes of the image, and those of the mask and the region that it shows."""
    shown = "" if mask is None else file_sha256(mask)
    within = "" if region is None else f" within {file_sha256(region)}"
    return digest_of(f"{settings} {palette} {image_sha256} {shown}{within}")


def png_text(fingerprint: str | None) -> PngInfo | None:
    """The text chunk that carries a fingerprint in a PNG file."""
    if fingerprint is None:
        return None
    info = PngInfo()
    info.add_text(_TEXT_KEY, fingerprint)
    return info


def bears_fingerprint(path: Path, fingerprint: str) -> bool:
    """Whether the file is a whole PNG (all checksums right) that carries this fingerprint."""
    try:
        with Image.open(path) as image:
            found = image.info.get(_TEXT_KEY)
            if found == fingerprint:
                image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return found == fingerprint


def is_foreign(path: Path) -> bool:
    """Whether a file is there that holds something and was not written by a prediction."""
    try:
        if not path.stat().st_size:
            return False
        with Image.open(path) as image:
            return _TEXT_KEY not in image.info
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return True


def digest_of(text: str) -> str:
    """A fingerprint of what decides an output."""
    return hashlib.sha256(text.encode()).hexdigest()
