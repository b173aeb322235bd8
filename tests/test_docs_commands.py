"""Every command of README and docs is run on a small data set, or stands in NOT_RUN with the reason.

A wrong key, option, verb or file in the docs fails here. Only what the tables below say is changed before.
"""

import re
import shlex
import shutil
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pytest
import typer
from helpers.band_files import write_band_set
from helpers.doc_commands import ShellCommand, inline_code, shell_commands
from helpers.tiny import run_cli
from PIL import Image

from dinoseg import cli
from dinoseg.config.loading import load_config
from dinoseg.config.schema import all_keys
from dinoseg.planning.request import split_minutes

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# Commands that are not run, by how they begin, and why. What dinoseg is given in them is parsed all the same.
NOT_RUN = {
    "W=": "sets a word of the shell, which stands in WORDS",
    "make ": "the whole suite, a demo of minutes or the linters; the target must be there",
    "pip install": "needs the network; the extra must be there",
    "export FIRST_HOST=": "asks Slurm",
    "python benchmarks/": "minutes to hours of measuring; the script must be there",
    "dinoseg predict hf:": "needs the network; its own tests have a Hub of their own",
    "dinoseg eval hf:": "needs the network; its own tests have a Hub of their own",
    "dinoseg export hf:": "needs the network; its own tests have a Hub of their own",
    "dinoseg push runs/retina user/retina-vessels --private": "needs the network; its own tests have a Hub",
    "dinoseg train datasets.root=data/retina output_dir=runs/from-ade20k": "needs the network; its own tests do not",
    "dinoseg train datasets.root=data/camvid output_dir=runs/tuned": "needs a published file; its own tests write one",
    "dinoseg app runs": "serves until it is ended; its own tests do",
    "dinoseg eval runs/retina --split test eval.least_patches": "wants sizes that help; a tiny model has none",
    "dinoseg predict runs/retina photos/ --out cleaned/": "likewise",
    "accelerate launch": "its settings are placeholders",
    "dinoseg predict runs/retina photos/ --out predictions/ --engine ray": "starts a Ray cluster; its own tests do",
}

# Places that are machines' own, and words that a page sets.
PLACES = {"/data/": "data/", "/runs/": "runs/"}
WORDS = {
    "$W": [
        "model.dino_hub=dinov2_vits14",
        "model.weights=dinov2_vits14.safetensors",
        "model_dtype=BFLOAT16",
        "num_workers=1",
    ],
}
# A part of an evaluation makes sense with the others: each is run.
SHARDS = {"2/8": 8, "$SLURM_ARRAY_TASK_ID/8": 8}

# Likewise a fold, of five.
ARRAY_FOLD, FOLDS = "$SLURM_ARRAY_TASK_ID", 5

# Sizes of model, pictures and training: these keys get these values, given or not.
SMALL = {
    "model.dino_hub": "tiny_vit8",
    "model.weights": "none",
    "model_dtype": "FLOAT32",
    "num_workers": "0",
    "bs": "2",
    "device": "cpu",
    "trackers": "[]",
    "scheduler.total_iter": "1",
    "eval.eval_interval": "1",
    "transforms.train.img_size": "null",
    "transforms.eval.img_size": "null",
    "transforms.train.crop_size": "32",
    "eval.crop_size": "48",
    "eval.stride": "40",
    "lora.layers": "null",
    "decoder_head.hidden_dim": "32",
    "decoder_head.num_heads": "2",
    "decoder_head.num_queries": "16",
    "decoder_head.encoder_layers": "1",
    "decoder_head.decoder_layers": "1",
    "decoder_head.adapter_inplane": "4",
    "m2f_train.num_points": "64",
}

# Inline code that looks like an option, a key or a setting and is none.
NOT_OURS = {
    "--requeue": "of Slurm",
    "--nnodes 2": "of torchrun",
    "--unstriped": "of a benchmark",
    "--help": "of every verb",
    "--help-all": "of every verb that takes settings",
    "optimizer.epsilon": "the example of an option to be added",
    "verbs=PREDICTS": "Python",
    "write=True": "Python",
    "first=True": "Python",
    'resume="free"': "Python",
}
FILE_SUFFIXES = {"safetensors", "json", "py"}
PLACEHOLDERS = {"config=FILE", "key=value"}

VERBS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
KEYS = [entry.key for entry in all_keys()]
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def _write_split(folder: Path, count: int, ids: int) -> None:
    # Of the name alone: where a test run has its folder must not decide what is learned.
    generator = np.random.default_rng(zlib.crc32(f"{folder.parent.name}/{folder.name}".encode()))
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        mask = np.kron(generator.integers(0, ids, (5, 7)), np.ones((8, 8), int)).astype(np.uint8)
        image = generator.integers(0, 40, (*mask.shape, 3)) + 18 * mask[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{folder.name}_{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{folder.name}_{number}.png")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader stands: the recipes, data sets of the pages' names, photos, another tool's maps, another run."""
    base = tmp_path_factory.mktemp("reader")
    (base / "recipes").symlink_to(ROOT / "recipes")
    for name, ids in (("retina", 4), ("drive", 4), ("drive20", 4), ("camvid", 12), ("camvid-all", 12)):
        for split, count in (("train", 3), ("val", 2), ("test", 8)):
            _write_split(base / "data" / name / split, count, ids)
    for name, kind in (("sentinel", "tif"), ("thermal", "grey"), ("xray", "grey16")):
        write_band_set(base / "data" / name, kind)
    shutil.copytree(base / "data/retina/test/images", base / "photos")
    shutil.copytree(base / "data/retina/test/masks", base / "maps")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        small = [f"{key}={value}" for key, value in SMALL.items()]
        assert run_cli(["train", "datasets.root=data/retina", "output_dir=runs/other", *small], patch) == 0
        assert run_cli(["eval", "runs/other", "--split", "test", "device=cpu"], patch) == 0
    return base


def rewritten(arguments: list[str]) -> list[list[str]]:
    """The calls that stand for a command, by the tables above."""
    words: list[str] = []
    for word in arguments:
        for place, here in PLACES.items():
            word = re.sub(rf"(^|=){place}", rf"\1{here}", word)
        words += WORDS.get(word, [word])
    words = [f"{key}={SMALL[key]}" if (key := word.partition("=")[0]) in SMALL else word for word in words]
    if words[0] == "plan" or (words[0] == "train" and any(word.startswith("output_dir=") for word in words)):
        given = {word.partition("=")[0] for word in words}
        words += [f"{key}={value}" for key, value in SMALL.items() if key not in given]
    if f"datasets.fold={ARRAY_FOLD}" in words:
        return [[word.replace(ARRAY_FOLD, str(fold)) for word in words] for fold in range(FOLDS)]
    part = next((word for word in words if word in SHARDS), None)
    if part is None:
        return [words]
    count = SHARDS[part]
    return [[f"{i}/{count}" if word == part else word for word in words] for i in range(1, count + 1)]


def reason_not_run(command: ShellCommand) -> str | None:
    """Why a command is not run; None for one that is."""
    return next((reason for start, reason in NOT_RUN.items() if command.text.startswith(start)), None)


def parse(arguments: list[str]) -> None:
    """What the command line would say to the options, without doing anything; keys are checked."""
    if arguments:
        assert arguments[0] in VERBS, "no such verb"
    if len(arguments) < 2:
        return
    try:
        VERBS[arguments[0]].make_context(arguments[0], arguments[1:])
    except Exception as ended:
        # Of the click that typer brings. --help has answered, or prose leaves out what is not its subject.
        assert type(ended).__name__ in ("Exit", "MissingParameter"), str(ended)
    settings = [word for word in arguments if re.fullmatch(r"[a-z_0-9.]+=(?!\.\.\.|FILE|NEW)\S.*", word)]
    load_config(split_minutes(settings)[1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [page for page in PAGES if shell_commands(page)], ids=lambda page: page.name)
def test_every_command_runs(
    page: Path,
    started: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = tmp_path / "reader"
    shutil.copytree(started, base, symlinks=True)
    monkeypatch.chdir(base)
    # Of the minutes of a plan little goes into measuring.
    monkeypatch.setattr("dinoseg.verbs.plan._MASKS", (0.3, 1.0))
    monkeypatch.setattr("dinoseg.verbs.plan._STEPS", (0.3, 1.0))
    for command in shell_commands(page):
        if reason_not_run(command) is not None:
            continue
        assert command.arguments is not None, f"{page.name}:{command.line}: {command.text} is neither run nor listed"
        for call in rewritten(command.arguments):
            code = run_cli(call, monkeypatch)
            assert code == 0, f"{page.name}:{command.line}: {shlex.join(call)}\n{capsys.readouterr().err}"


def test_what_is_not_run_is_there() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    used = set()
    for command in (command for page in PAGES for command in shell_commands(page)):
        used |= {start for start in NOT_RUN if command.text.startswith(start)}
        where = f"{command.page}:{command.line}: {command.text}"
        if command.words[0] == "make":
            assert set(command.words[1:]) <= targets, where
        if command.text.startswith("pip install"):
            assert set(re.findall(r"\[(\w+)\]", command.text)) <= EXTRAS, where
        if command.words[0] == "python":
            assert (ROOT / command.words[1]).is_file(), where
        if reason_not_run(command) is not None and command.arguments is not None:
            parse(command.arguments)
    assert used == set(NOT_RUN), "reasons that nothing needs"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_inline_code_names_verbs_options_and_keys_that_are_there(page: Path) -> None:
    problems = []
    for code in (code for code in inline_code(page) if code not in NOT_OURS):
        try:
            check_inline(code)
        except (AssertionError, ValueError, OSError) as error:
            problems.append(f"{code}: {error}")
    assert not problems


def test_what_is_said_to_be_not_ours_stands_there() -> None:
    assert set(NOT_OURS) <= {code for page in PAGES for code in inline_code(page)}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("dinoseg trian runs/x", "no such verb"),
        ("dinoseg eval RUN --spilt test", "--spilt"),
        ("dinoseg train optimizer.rl=1", "unknown key 'optimizer.rl'"),
        ("--mask-ignord M", "no verb has this option"),
        ("eval.strid", "no such key"),
        ('datasets.images="{splt}/*.jpg" datasets.masks=5', "splt"),
        ("train.ema_decay=2", "too large"),
        ("pip install 'dinoseg[lorra]'", "no such extra"),
    ],
)
def test_a_mistake_in_the_docs_is_found(code: str, words: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=re.escape(words)):
        check_inline(code)


def check_inline(code: str) -> None:
    """A command that begins with dinoseg, an option, a key, settings, or the names of extras; anything else passes."""
    try:
        words = shlex.split(code.partition(" > ")[0])
    except ValueError:
        return
    if not words:
        return
    if words[0] == "dinoseg":
        parse(words[1:])
    elif words[0].startswith("--"):
        options = {name for verb in VERBS.values() for entry in verb.params for name in entry.opts}
        assert words[0] in options, "no verb has this option"
    elif re.fullmatch(r"([a-z_0-9]+\.)+[a-z_0-9]+", code) and code.partition(".")[0] in SECTIONS:
        known = any(key == code or key.startswith(code + ".") for key in KEYS)
        assert known or code.rpartition(".")[2] in FILE_SUFFIXES, "no such key"
    elif all(re.fullmatch(r"[a-z_0-9.]+=\S.*", word) for word in words):
        load_config(split_minutes([word for word in words if word not in PLACEHOLDERS])[1])
    elif words[0] == "python" or code.startswith("tests/"):
        source = (ROOT / words[words[0] == "python"]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in source for word in words if word.startswith("--")), "no such option there"
    elif code.startswith("pip install"):
        assert set(re.findall(r"\[(\w+)\]", code)) <= EXTRAS, "no such extra"
