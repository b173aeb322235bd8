"""Wrong inputs of the command line, by verb and kind of mistake: what is typed, what is spoilt before, what to name.

The paths are those of ``tests/test_wrong_inputs.py``: ``data`` is a good data set, ``run`` a finished run on it,
``maps`` label maps of its validation split.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dinoseg.config.option import Key
from dinoseg.config.schema import all_keys
from helpers.tiny import tiny_settings

Spoil = Callable[[], object]


@dataclass(frozen=True)
class WrongInput:
    """One command line that must be refused.

    Attributes:
        names: of these words one at least stands in the message: the file, the key or the option.
        spoil: what is done to the folder before.
    """

    verb: str
    kind: str
    arguments: tuple[str, ...]
    names: tuple[str, ...]
    spoil: Spoil | None = None

    @property
    def title(self) -> str:
        return f"{self.verb}-{self.kind}-{' '.join(self.arguments[:4])[-60:]}"


TRAIN = tuple(tiny_settings(Path("data"), Path("new")))
EVAL_MAPS = ("--predictions", "maps", "--masks", "data/val/masks", "--out", "figures")
# What stands before a setting, per verb that takes settings.
SETTINGS_AFTER = {
    "check": ("datasets.root=data",),
    "train": TRAIN,
    "eval": ("run",),
    "predict": ("run", "data/val/images", "--out", "out"),
    "report": ("run",),
    "export": ("run", "out"),
}
RUN_VERBS = {
    "eval": ("eval", ()),
    "predict": ("predict", ("data/val/images", "--out", "out")),
    "report": ("report", ()),
    "export": ("export", ("out",)),
    "compare": ("compare", ("run",)),
}


def wrong_inputs() -> list[WrongInput]:
    """All of them."""
    makers = (
        _unknown_keys,
        _values,
        _hand_picked_values,
        _wrong_yaml,
        _run_folders,
        _checkpoints_and_splits,
        _data_sets,
        _label_maps,
        _pictures,
        _outputs,
        _options,
        _other_verbs,
        _imports,
    )
    return [case for make in makers for case in make()]


def _with(verb: str, kind: str, *settings: str, names: tuple[str, ...], spoil: Spoil | None = None) -> WrongInput:
    return WrongInput(verb, kind, (*SETTINGS_AFTER[verb], *settings), names, spoil)


def _unknown_keys() -> Iterator[WrongInput]:
    for verb in SETTINGS_AFTER:
        for setting in ("bss=2", "decoder_head.typ=linear", "evaluation.crop_size=32", "eval.crop_sizes=32", "x.y.z=1"):
            yield _with(verb, "unknown key", setting, names=(setting.split("=")[0],))


def _values() -> Iterator[WrongInput]:
    """Of every other key a value of another type, of each one just outside its range; the verb is one that uses it."""
    for number, key in enumerate(all_keys()):
        verbs = [verb for verb in SETTINGS_AFTER if key.is_used_by(verb) and not key.key.startswith("datasets.")]
        verb = verbs[number % len(verbs)] if verbs else "train"
        if key.type != "a value" and number % 2:
            yield _with(verb, "wrong type", f"{key.key}={{a: [1]}}", names=(key.key,))
        # One a key: all of them are refused by one rule, which has tests of its own.
        for value in list(_out_of_range(key))[-1:]:
            yield _with(verb, "out of range", f"{key.key}={value}", names=(key.key,))


def _out_of_range(key: Key) -> Iterator[str]:
    stated, lists = key.option, key.type.startswith("a list")
    whole = "whole number" in key.type
    wrong = ["purple"] if stated.choices else []
    if stated.least is not None:
        wrong.append(f"{stated.least - 1}" if whole else f"{stated.least - 0.5}")
    if stated.above is not None:
        wrong.append(f"{stated.above:g}")
    # Means and deviations above 1 are taken as of images in 0..255.
    if stated.most is not None and key.key not in ("transforms.mean", "transforms.std"):
        wrong.append(str(int(stated.most) + 1) if whole else f"{stated.most * 2 + 1:g}")
    if stated.below is not None:
        wrong.append(f"{stated.below:g}")
    if "number" in key.type and not whole:
        wrong.append(".nan")
    for value in dict.fromkeys((wrong[0], wrong[-1]) if wrong else ()):
        count = stated.length or 1
        yield f"[{', '.join([value] * count)}]" if lists else value


_WRONG_VALUES = (
    "seed=1180591620717411303424",
    "seed=.nan",
    "num_workers=1000",
    "num_workers=1000000000",
    "scheduler.total_iter=1000000000000000000",
    "scheduler.total_iter=0",
    "scheduler.constructor_kwargs={pct_start: 7}",
    "scheduler.constructor_kwargs={warmup_iters: -1}",
    "scheduler.constructor_kwargs={final_div_factor: 0}",
    "optimizer.weight_decay=-1",
    "optimizer.weight_decay=.nan",
    "optimizer.lr=.inf",
    "train.class_weights={0: 0, 1: 0, 2: 0}",
    "train.class_weights={nobody: 1}",
    "train.class_weights=[1, 2]",
    "train.class_weights={0: .nan}",
    "train.class_weights=purple",
    f"transforms.eval.tta_ratios=[{', '.join(['1.0'] * 100)}]",
    "transforms.eval.tta_ratios=[]",
    "transforms.train.crop_size=10000000000000000000000",
    "transforms.train.crop_size=[32, 32, 32]",
    "transforms.train.img_size=10000000000000000000000",
    "transforms.train.random_img_size_ratio_range=[2, 1]",
    "eval.crop_size=1e22",
    "eval.stride=64",
    "model.backbone_scale=0",
    "model.backbone_scale=9",
    "model.dino_hub=dinov9_vits16",
    "model.weights=nowhere.pth",
    "decoder_head.backbone_out_layers=[0, two]",
    "decoder_head.backbone_out_layers=[99]",
    "decoder_head.backbone_out_layers=MANY",
    "decoder_head.num_classes=7",
    "load_from=nowhere",
    "lora.layers=[0, x]",
    "trackers=[tensorboard, tensorboard]",
    "eval.cldice=[nobody]",
    "datasets.colour_tolerance=-1",
    "datasets.classes={0: a, 1: b}",
    "datasets.classes={0: a, one: b}",
    "datasets.classes=[1",
    "datasets.ignore=[purple]",
    "datasets.images=7",
    "bs=${nothing}",
    "bs=",
)


def _hand_picked_values() -> Iterator[WrongInput]:
    for setting in _WRONG_VALUES:
        yield _with("train", "value", setting, names=(setting.split("=")[0], setting.split("=")[0].split(".")[-1]))
    for settings in (
        ("decoder_head.type=dense", "decoder_head.stem_widths=[9, 17, 33, 65]"),
        ("decoder_head.type=dense", "decoder_head.context_widths=[12]"),
        ("decoder_head.type=m2f", "decoder_head.hidden_dim=30"),
        ("model.mode=lora", "lora.targets=[nowhere]"),
        ("model.mode=lora", "lora.layers=[99]"),
    ):
        yield _with("train", "value", *settings, names=(settings[1].split("=")[0],))
    for settings in (
        ("datasets.reduce_zero_label=true", "eval.reduce_zero_label=false"),
        ("model.mode=freeze", "lora.enabled=true"),
        ("train.cache_features=true", "model.mode=full"),
        ("train.celoss_weight=0", "train.diceloss_weight=0"),
        ("transforms.eval.tta_right_angle_rotations=true", "eval.use_tta=false"),
        ("optimizer.beta1=1", "optimizer.beta2=1"),
    ):
        yield _with("train", "conflict", *settings, names=tuple(setting.split("=")[0] for setting in settings))


def _wrong_yaml() -> Iterator[WrongInput]:
    def write(content: bytes) -> Spoil:
        return lambda: Path("wrong.yaml").write_bytes(content)

    for number, verb in enumerate(SETTINGS_AFTER):
        contents = (
            b"bs: [1",
            b"- 1\n- 2\n",
            b"\x00\xff\xfe garbage",
            b"bs: 2\nbs: 3\n",
            b"bs: !!python/object:os.system {}\n",
            b"just words",
        )
        for content in contents[number % 2 :: 2]:
            yield _with(verb, "wrong YAML", "config=wrong.yaml", names=("wrong.yaml",), spoil=write(content))
        yield _with(verb, "missing file", "config=none.yaml", names=("none.yaml",))
        yield _with(verb, "folder for a file", "config=data", names=("config=data",))
        yield _with(
            verb, "special file", "config=fifo.yaml", names=("fifo.yaml",), spoil=lambda: os.mkfifo("fifo.yaml")
        )


def _run_folders() -> Iterator[WrongInput]:
    files = {
        "config.yaml": ("eval", "predict", "report", "export"),
        "labels.json": ("eval", "predict", "report", "export"),
        "checkpoints/best/model.safetensors": ("eval", "predict", "report", "export"),
        "eval/val/metrics.json": ("report", "compare"),
    }
    ways: dict[str, Callable[[Path], object]] = {
        "missing file": lambda path: path.unlink(),
        "empty file": lambda path: path.write_bytes(b""),
        "garbage": lambda path: path.write_bytes(b"\x00garbage{" * 40),
        "truncated": lambda path: path.write_bytes(path.read_bytes()[:40]),
        "folder for a file": _make_folder,
    }
    for name, verbs in files.items():
        for verb in verbs:
            for kind, way in ways.items():
                if name == "config.yaml" and kind in ("empty file", "truncated"):
                    continue  # a config that says less is a config
                arguments = ("run", *RUN_VERBS[verb][1])
                spoil = _spoiling(way, Path("run") / name)
                yield WrongInput(verb, kind, arguments, ("run", Path(name).name), spoil)
    for verb, (_, rest) in RUN_VERBS.items():
        yield WrongInput(verb, "missing file", ("nowhere", *rest), ("nowhere",))
        yield WrongInput(verb, "folder without a run", ("data", *rest), ("data",))
        yield WrongInput(verb, "empty folder", ("void", *rest), ("void",), lambda: Path("void").mkdir())
        yield WrongInput(verb, "file for a folder", ("run/config.yaml", *rest), ("run/config.yaml",))
    for kind, way in ways.items():
        arguments = ("run", "--resume", "scheduler.total_iter=6")
        for name in ("config.yaml", "labels.json", "checkpoints/last/trainer.pt"):
            if name == "config.yaml" and kind in ("empty file", "truncated"):
                continue
            yield WrongInput("train", kind, arguments, ("run",), _spoiling(way, Path("run") / name))


def _spoiling(way: Callable[[Path], object], path: Path) -> Spoil:
    return lambda: way(path)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _checkpoints_and_splits() -> Iterator[WrongInput]:
    for checkpoint in ("../x", "first", "", "best/../last", "/etc"):
        for verb in ("eval", "predict", "export"):
            arguments = ("run", *RUN_VERBS[verb][1], "--checkpoint", checkpoint)
            yield WrongInput(verb, "wrong --checkpoint", arguments, ("checkpoint",))
    for split in ("../x", "valid", "", "val/..", "/etc"):
        for verb in ("eval", "report", "compare"):
            yield WrongInput(
                verb, "wrong --split", ("run", *RUN_VERBS[verb][1], "--split", split), ("--split", "split")
            )
    for shard in ("0/2", "3/2", "a/b", "1", "-1/2", "1/0"):
        yield WrongInput("eval", "wrong --shard", ("run", "--shard", shard), ("shard",))


def _data_sets() -> Iterator[WrongInput]:
    image, mask = Path("data/train/images/train_0.png"), Path("data/train/masks/train_0.png")
    spoils: list[tuple[str, str, Spoil]] = [
        ("missing file", "data", lambda: shutil.rmtree("data")),
        ("empty folder", "train", lambda: _emptied(Path("data/train/images"), Path("data/train/masks"))),
        ("empty folder", "data", lambda: _emptied(Path("data"))),
        ("file for a folder", "data", lambda: (shutil.rmtree("data"), Path("data").write_text("x"))),
        (
            "file for a folder",
            "masks",
            lambda: (shutil.rmtree("data/val/masks"), Path("data/val/masks").write_text("")),
        ),
        ("unpaired", "train_0", lambda: mask.unlink()),
        ("unpaired", "masks", lambda: mask.rename(mask.with_name("other.png"))),
        ("broken picture", "train_0.png", lambda: image.write_bytes(image.read_bytes()[:60])),
        ("broken picture", "train_0.png", lambda: image.write_bytes(b"")),
        ("broken picture", "train_0.png", lambda: image.write_bytes(b"garbage" * 30)),
        ("broken mask", "train_0.png", lambda: mask.write_bytes(mask.read_bytes()[:60])),
        ("broken mask", "train_0.png", lambda: mask.write_bytes(b"")),
        ("broken mask", "train_0.png", lambda: mask.write_bytes(b"garbage" * 30)),
        ("other size", "train_0", lambda: Image.new("L", (9, 9)).save(mask)),
        ("special file", "train_0.png", lambda: (mask.unlink(), os.mkfifo(mask))),
        ("special file", "train_0.png", lambda: (image.unlink(), os.mkfifo(image))),
        ("folder for a file", "train_0.png", lambda: _make_folder(mask)),
    ]
    for verb in ("check", "train"):
        for kind, name, spoil in spoils:
            yield WrongInput(verb, kind, SETTINGS_AFTER[verb], (name,), spoil)
        yield _with(verb, "missing file", "datasets.root=nowhere", names=("nowhere",))
        yield _with(verb, "missing file", "datasets.root=", names=("datasets.root",))
        yield _with(verb, "missing file", "datasets.train=nowhere", names=("nowhere",))
        yield _with(verb, "label outside", "datasets.classes={0: a, 1: b}", names=("train_", "2"))
        yield _with(verb, "unknown class", "decoder_head.num_classes=9", names=("num_classes",))
    for kind, name, spoil in spoils:
        if kind != "empty folder" and name != "masks":
            yield WrongInput("eval", kind, ("run", "--split", "train"), (name, "train"), spoil)
    yield WrongInput(
        "eval", "label outside", ("run",), ("val_0.png",), lambda: _write_map(Path("data/val/masks/val_0.png"), 9)
    )
    yield WrongInput("eval", "fixed label space", ("run", "datasets.classes={0: a}"), ("datasets.classes",))
    yield WrongInput("eval", "fixed label space", ("run", "decoder_head.num_classes=4"), ("num_classes",))


def _emptied(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder)
        folder.mkdir()


def _write_map(path: Path, value: int) -> None:
    path.unlink(missing_ok=True)
    Image.fromarray(np.full((40, 56), value, np.uint8)).save(path)


def _label_maps() -> Iterator[WrongInput]:
    first = Path("maps/val_0.png")
    spoils: list[tuple[str, str, Spoil]] = [
        ("missing file", "maps", lambda: shutil.rmtree("maps")),
        ("empty folder", "maps", lambda: _emptied(Path("maps"))),
        ("file for a folder", "maps", lambda: (shutil.rmtree("maps"), Path("maps").write_text("x"))),
        ("unpaired", "val_0", lambda: first.unlink()),
        ("unpaired", "maps", lambda: first.rename("maps/other.png")),
        ("broken mask", "val_0.png", lambda: first.write_bytes(first.read_bytes()[:60])),
        ("broken mask", "val_0.png", lambda: first.write_bytes(b"")),
        ("broken mask", "val_0.png", lambda: first.write_bytes(b"garbage" * 30)),
        ("broken mask", "val_0.png", lambda: Path("data/val/masks/val_0.png").write_bytes(b"garbage" * 30)),
        ("other size", "val_0.png", lambda: Image.new("L", (9, 9)).save(first)),
        ("label outside", "val_0.png", lambda: _write_map(first, 77)),
        ("label outside", "val_0.png", lambda: _write_map(Path("data/val/masks/val_0.png"), 77)),
        ("broken npy", "val_0.npy", lambda: (first.unlink(), Path("maps/val_0.npy").write_bytes(b"\x93NUMPY"))),
        ("broken npy", "val_0.npy", lambda: (first.unlink(), np.save("maps/val_0.npy", np.full((40, 56), 0.5)))),
        ("broken npy", "val_0.npy", lambda: (first.unlink(), np.save("maps/val_0.npy", np.zeros((2, 2, 2, 2), int)))),
        ("special file", "val_0.png", lambda: (first.unlink(), os.mkfifo(first))),
    ]
    classes = "datasets.classes={0: a, 1: b, 2: c}"
    for kind, name, spoil in spoils:
        yield WrongInput("eval --predictions", kind, (*EVAL_MAPS, classes), (name,), spoil)
    for settings, names in (
        (("bss=2",), ("bss",)),
        (("datasets.classes={0: a, x: b}",), ("datasets.classes",)),
        (("--split", "val"), ("--split",)),
        (("--merge",), ("--merge",)),
        (("--shard", "1/2"), ("--shard",)),
        (("--checkpoint", "best"), ("--checkpoint",)),
        (("run",), ("run",)),
    ):
        yield WrongInput("eval --predictions", "conflict", (*EVAL_MAPS, *settings), names)
    yield WrongInput("eval --predictions", "conflict", ("--predictions", "maps"), ("--masks",))
    yield WrongInput("eval --predictions", "conflict", ("--masks", "maps"), ("--predictions",))
    taken = (*EVAL_MAPS[:5], "data/val/masks/val_0.png", classes)
    yield WrongInput("eval --predictions", "output over a file", taken, ("val_0.png",))
    nested = (*EVAL_MAPS[:5], "data/val/masks/val_0.png/figures", classes)
    yield WrongInput("eval --predictions", "output over a file", nested, ("val_0.png",))


def _pictures() -> Iterator[WrongInput]:
    image = Path("data/val/images/val_0.png")
    for inputs, names in (
        (("nowhere",), ("nowhere",)),
        (("nowhere/*.png",), ("nowhere/*.png",)),
        (("nowhere.png",), ("nowhere.png",)),
        (("void",), ("void",)),
        (("data/val/images", "nowhere.png"), ("nowhere.png",)),
        (("bs=2",), ("image",)),
    ):
        arguments = ("run", *inputs, "--out", "out")
        yield WrongInput("predict", "missing file", arguments, names, lambda: Path("void").mkdir())
    for masks in ("nowhere", "run/config.yaml"):
        yield WrongInput(
            "predict --mask-ignored",
            "unpaired",
            ("run", str(image), "--out", "out", "--mask-ignored", masks),
            (masks, "--mask-ignored"),
            lambda: Path("void").mkdir(),
        )


def _outputs() -> Iterator[WrongInput]:
    for out in ("run/config.yaml", "run/config.yaml/below"):
        yield WrongInput("predict", "output over a file", ("run", "data/val/images", "--out", out), ("config.yaml",))
        yield WrongInput("export", "output over a file", ("run", out), ("config.yaml",))
        yield WrongInput("demo", "output over a file", ("--out", out), ("config.yaml",))
        yield WrongInput("train", "output over a file", (*TRAIN, f"output_dir={out}"), ("config.yaml",))
        yield WrongInput("compare", "output over a file", ("run", "run", "--out", f"{out}/x.json"), ("config.yaml",))
    for figures in ("run/config.yaml", "run/config.yaml/below"):
        yield WrongInput("eval", "output over a file", ("run", "copy", "--out", figures), ("config.yaml",), _copied_run)
    yield WrongInput("eval", "output over a file", ("run",), ("run/eval",), _file_for_figures)
    for make in (os.mkfifo, os.mkdir):
        for verb, arguments in (("eval", ()), ("predict", ("data/val/images", "--out", "out")), ("export", ("out",))):
            yield WrongInput(verb, "ensemble.json is no file", ("odd", *arguments), ("ensemble.json",), _odd(make))
    yield WrongInput("export", "output over a file", ("run", "pipe"), ("pipe",), lambda: os.mkfifo("pipe"))
    yield WrongInput("export", "output equal input", ("run", "run"), ("run",))
    yield WrongInput("export", "output over a folder", ("run", "data"), ("data",))
    yield WrongInput("compare", "output over a folder", ("run", "run", "--out", "data"), ("data",))
    yield WrongInput("train", "output equal input", (*TRAIN[:1], "output_dir=run", *TRAIN[2:]), ("run",))


def _copied_run() -> None:
    shutil.copytree("run", "copy")


def _file_for_figures() -> None:
    shutil.rmtree("run/eval", ignore_errors=True)
    Path("run/eval").write_text("")


def _odd(make: Callable[[str], object]) -> Spoil:
    return lambda: (os.mkdir("odd"), make("odd/ensemble.json"))


def _options() -> Iterator[WrongInput]:
    for verb, arguments in SETTINGS_AFTER.items():
        for option in ("--bs", "--lr", "--crop-size", "--decoder_head.type", "--nonsense"):
            yield WrongInput(verb, "unknown option", (*arguments, option, "4"), (option,))
    for verb, option, value in (
        ("report", "--max-images", "-1"),
        ("report", "--max-images", "many"),
        ("predict", "--device", "gpu"),
        ("predict", "--engine", "spark"),
        ("predict", "--vector", "shp"),
        ("predict", "--vector", "gpkg"),
        ("predict", "--overviews", ""),
        ("train", "--resume=first", ""),
        ("eval", "--merge", "bs=4"),
        ("eval", "--out", "figures"),
    ):
        words = tuple(word for word in (option, value) if word)
        yield WrongInput(verb, "wrong option", (*SETTINGS_AFTER[verb], *words), (option.split("=")[0].strip("-"),))
    yield WrongInput("eval", "no run", (), ("run",))
    yield WrongInput("eval", "two runs", ("run", "data"), ("data",))
    yield WrongInput("eval", "run twice", ("run", "run", "--out", "figures"), ("run",))
    yield WrongInput("predict", "run twice", ("run", "run", "data/val/images", "--out", "out"), ("run",))
    yield WrongInput("export", "run twice", ("run", "./run", "out"), ("run",))
    yield WrongInput("export", "no folder", ("run",), ("run",))
    yield WrongInput("eval", "no shards", ("run", "--merge"), ("shards",))
    yield WrongInput("train", "two runs", ("run", "data"), ("run",))
    yield WrongInput("train", "nothing to resume", (*TRAIN, "--resume"), ("new",))
    yield WrongInput("train", "nothing to resume", ("data", "--resume"), ("datasets.root=data",))
    yield WrongInput("train", "nothing to resume", ("nope", "--resume"), ("nope: neither key=value nor a run folder",))
    yield WrongInput("train", "nothing to resume", ("run/config.yaml",), ("give it as config=run/config.yaml",))


def _other_verbs() -> Iterator[WrongInput]:
    yield WrongInput("demo", "wrong option", ("--out", "out", "--head", "purple"), ("--head",))
    yield WrongInput("cache", "wrong option", ("--folder", "void", "none"), ("--clear", "none"))
    yield WrongInput("cache", "missing file", ("--folder", "void", "--clear", "none"), ("none",))
    yield WrongInput("cache", "file for a folder", ("--folder", "run/config.yaml", "--clear"), ("config.yaml",))
    yield WrongInput("options", "unknown option", ("--bs",), ("--bs",))
    yield WrongInput("options", "unknown word", ("purpleness",), ("purpleness",))
    yield WrongInput("backbones", "unknown option", ("--large",), ("--large",))
    yield WrongInput("compare", "one run", ("run",), ("SECOND",))
    yield WrongInput("predict", "no pictures", ("run",), ("IMAGES",))
    yield WrongInput("trian", "unknown verb", (), ("trian",))


def _imports() -> Iterator[WrongInput]:
    pictures = "data/val/images"
    for arguments, names in (
        (("coco", "nowhere.json", pictures), ("nowhere.json",)),
        (("coco", "run/labels.json", "nowhere"), ("nowhere",)),
        (("cvat", "nowhere.xml", pictures), ("nowhere.xml",)),
        (("labelme", "nowhere"), ("nowhere",)),
        (("labelme", "data"), ("data",)),
        (("yolo", "nowhere"), ("nowhere",)),
        (("yolo", "data"), ("data.yaml",)),
        (("geojson", "nowhere.geojson", "map.tif"), ("nowhere.geojson",)),
        (("instances", "nowhere", pictures), ("nowhere",)),
        (("instances", "maps", pictures), ("val_0.png",)),
    ):
        yield WrongInput("import", "missing file", (*arguments, "--out", "out"), names)
    for kind in ("coco", "cvat", "geojson"):
        given = ("run/labels.json", pictures, "--out", "out")
        yield WrongInput("import", "another file", (kind, *given), ("labels.json",))
        pipe = ("pipe", pictures, "--out", "out")
        yield WrongInput("import", "special file", (kind, *pipe), ("pipe",), lambda: os.mkfifo("pipe"))
        yield WrongInput("import", "folder for a file", (kind, "maps", *given[1:]), ("maps",))
    for option in (("--overlap", "size"), ("--property", "kind"), ("--class-of", "{class}"), ("--bs", "4")):
        yield WrongInput("import", "wrong option", ("labelme", "data", "--out", "out", *option), option[:1])
    yield WrongInput("import", "wrong option", ("voc", "data", "--out", "out"), ("voc",))
    yield WrongInput("import", "wrong option", ("labelme", "data", "maps", "--out", "out"), ("maps",))
    yield WrongInput("import", "wrong option", ("coco", "run/labels.json", "--out", "out"), ("pictures",))
    yield WrongInput("import", "wrong option", ("labelme", "data"), ("--out",))
    for out in ("run", "run/config.yaml"):
        yield WrongInput("import", "output over a file", ("labelme", "data", "--out", out), (out,))
