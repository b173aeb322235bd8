"""``dinoseg push``: a run to the Hugging Face Hub, or into a folder of the same files."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dinoseg import __version__
from dinoseg.config.loading import HUB_PREFIX
from dinoseg.hub.layout import CONFIG_FILE, PICTURES, is_pushed, is_pushed_file
from dinoseg.hub.sending import Target, checked_name
from dinoseg.inference.opening import ChosenRun
from dinoseg.report.card_front_matter import Licence
from dinoseg.report.model_card import CardFacts, licence_of
from dinoseg.run_folder.ensemble_folder import EnsembleFolder, is_ensemble
from dinoseg.run_folder.folder import RunFolder
from dinoseg.run_folder.lock import refuse_while_trained
from dinoseg.system.files import named_errors, refuse_unwritable
from dinoseg.system.json_files import load_json
from dinoseg.system.messages import list_names, shell_word
from dinoseg.system.whole_folder import refuse_unreplaceable, whole_folder
from dinoseg.verbs.push_contents import PushContents, PushedParts, write_push_contents
from dinoseg.zoo.address import is_address
from dinoseg.zoo.asking import HUB


@dataclass(frozen=True)
class PushOptions:
    """How a run is pushed.

    Attributes:
        checkpoint: ``best`` or ``last``.
        private: into a private repository.
        with_backbone: with the whole backbone, adapters merged.
        with_pictures: with pictures of the validation.
        dry_run: a folder for the files, in place of the Hub, new or of an earlier dry run; None sends them.
    """

    checkpoint: str = "best"
    private: bool = False
    with_backbone: bool = False
    with_pictures: bool = False
    dry_run: Path | None = None


def push_run(run: str, repository: str, options: PushOptions, console: Console) -> str:
    """Sends a run, or writes what would be sent; prints the files before. Returns its address.

    Raises:
        ValueError: no name on the Hub, not one run folder, one that is being trained or has no checkpoint, a damaged
            file, not logged in, no right to write there, or no network.
    """
    name = checked_name(repository)
    _refuse_other_than_run(run, name)
    if options.dry_run is not None:
        _refuse_used(options.dry_run)
    # Before the work that would be lost.
    target = None if options.dry_run is not None else Target.find(name, options.private)
    opened = ChosenRun(run, options.checkpoint, None).open()
    checkpoint = RunFolder(Path(run)).open_checkpoint(options.checkpoint)
    what = PushedParts(name, whole=options.with_backbone, pictures=options.with_pictures)
    if target is None:
        assert options.dry_run is not None
        address = f"{HUB_PREFIX}{options.dry_run}"
        with named_errors(options.dry_run), whole_folder(options.dry_run) as folder:
            contents = write_push_contents(opened, checkpoint, folder, what)
            _remove_earlier(options.dry_run)
        seen = (
            "private" if options.private else "public unless its owner's default is another, or as it is there already"
        )
        later = f"without --dry-run to {HUB}{name}, {seen}"
        needed = " with model.weights=FILE" if contents.facts.backbone.weights == "file" else ""
        where = f"{options.dry_run}; nothing is sent, and {shell_word(address)} loads it{needed}; {later}"
        _say(contents, run, where, options, console)
        return address
    address = f"{HUB_PREFIX}{name}"
    with tempfile.TemporaryDirectory(prefix="dinoseg-push-") as place:
        contents = write_push_contents(opened, checkpoint, Path(place), what)
        _say(contents, run, target.words, options, console)
        commit = target.send(Path(place), f"Push with dinoseg {__version__}")
    _print(console, f"sent; next: dinoseg predict {address} IMAGES", f"for good: {address}@{commit}")
    return address


def _refuse_other_than_run(run: str, name: str) -> None:
    path = Path(run)
    if is_address(run):
        raise ValueError(
            f"{run}: is on the Hub already, or ready for it; `dinoseg export {shell_word(run)} FOLDER` makes a run "
            "folder of it, which can be pushed"
        )
    if is_ensemble(path):
        members = EnsembleFolder(path).names()
        shown = list_names(
            [f"dinoseg push {shell_word(path / member)} {name}-{n}" for n, member in enumerate(members, 1)], 2
        )
        addresses = " ".join(f"{HUB_PREFIX}{name}-{number}" for number in (1, 2))
        raise ValueError(
            f"{run}: several runs as one, and a repository holds one; push each: {shown}; whoever predicts names them "
            f"all: dinoseg predict {addresses} IMAGES"
        )
    if RunFolder(path).config.is_file():
        refuse_while_trained(path)


def _refuse_used(folder: Path) -> None:
    refuse_unwritable(folder, "--dry-run")
    if os.path.lexists(folder) and not (folder.is_dir() and (_is_dry_run(folder) or not any(folder.iterdir()))):
        raise ValueError(f"--dry-run {folder}: exists, and is neither empty nor of an earlier dry run; give a new one")
    refuse_unreplaceable(folder, "--dry-run")


def _is_dry_run(folder: Path) -> bool:
    """Whether an earlier dry run wrote all that lies there."""
    try:
        if folder.is_symlink() or not is_pushed(load_json(folder / CONFIG_FILE, "")):
            return False
    except ValueError:
        return False
    return all(_is_of_push(path, path.relative_to(folder).as_posix()) for path in folder.rglob("*"))


def _is_of_push(path: Path, name: str) -> bool:
    if path.is_symlink():
        return False
    return name == PICTURES if path.is_dir() else is_pushed_file(name)


def _remove_earlier(folder: Path) -> None:
    """Makes room for what is written anew, of what an earlier dry run wrote alone."""
    if folder.is_dir() and _is_dry_run(folder):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def _say(contents: PushContents, run: str, where: str, options: PushOptions, console: Console) -> None:
    """What is sent, where to, and what is disclosed by it."""
    facts = contents.facts
    licence = licence_of(facts)
    shown = "pictures of the validation, " if facts.pictures else ""
    hidden = "" if facts.pictures else ", no pictures"
    _print(
        console,
        *(f"{size_in_words(size):>9}  {name}" for name, size in contents.files),
        f"to       {where}",
        f"tells    {shown}class names, figures, numbers of images, settings; no paths, no names of images{hidden}",
        f"figures  {_figures_in_words(facts, run, options.checkpoint)}",
        f"licence  {'not stated for this backbone: the card names none' if licence is None else _named(licence)}",
        f"backbone {_backbone_in_words(facts)}",
    )
    if options.with_pictures and not facts.pictures:
        _print(console, "pictures none: the run has no overlays/val (eval.num_visualizations)")


def _figures_in_words(facts: CardFacts, run: str, checkpoint: str) -> str:
    """Which figures the card shows, and how to get those that it lacks."""
    if facts.split == "test":
        return f"test, checkpoint {checkpoint}"
    passed_over = RunFolder(Path(run)).evaluation("test").is_dir()
    others = "; those in eval/test are of other weights" if passed_over else ""
    split = " --split test" if passed_over else ""
    evaluate = f"dinoseg eval {shell_word(run)}{split}{'' if checkpoint == 'best' else f' --checkpoint {checkpoint}'}"
    if facts.split:
        return f"{facts.split}, checkpoint {checkpoint}{others}{f': {evaluate}' if others else ''}"
    return f"none of checkpoint {checkpoint}{others}: {evaluate}"


def _named(licence: Licence) -> str:
    return f"{licence.name or licence.identifier}, as the card says: that of the backbone's weights"


def _backbone_in_words(facts: CardFacts) -> str:
    backbone = facts.backbone
    if backbone.weights == "included":
        return f"{backbone.name}, sent with the rest"
    if backbone.weights == "hub":
        return f"{backbone.name}, not sent: whoever loads the run fetches it from {HUB}{facts.base_model}"
    return (
        f"{backbone.name}, NOT SENT: its weights are a file, which whoever loads the run must have, and gives as "
        "model.weights=FILE; --with-backbone sends the whole model"
    )


def size_in_words(size: int) -> str:
    """``812 B``, ``7.8 kB`` or ``86.3 MB``."""
    return f"{size} B" if size < 1000 else f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def _print(console: Console, *lines: str) -> None:
    console.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)
