"""Tiny data sets in folders, names and file kinds of well-known formats; written without anything of the package."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)
BLOCK = 8
# How many pictures a split has; those of no split are shared out by the program.
COUNTS = {"train": 2, "val": 2, "test": 1, "pool": 6}
VESSELS = {0: "background", 1: "artery", 2: "vein"}
FOUND = {0: "class_0", 1: "class_1", 2: "class_2"}


@dataclass(frozen=True)
class Layout:
    """How a format lays its files out, and what its label ids mean.

    Attributes:
        images: path of an image, with ``{split}`` for the word of the split and ``{n}`` for a number.
        masks: likewise of its mask.
        words: the format's word for each split; pictures of no split are ``pool``.
        names: label ids (colours as 0xRRGGBB) that the masks hold, by the names that they must get.
        ignored: label ids that the masks hold and that count nowhere.
        settings: what is typed beside ``datasets.root``.
        mode: of the mask files; ``P`` has a palette, ``RGB`` holds colours.
        texts: other files, by path.
        beside: paths of further pictures of each pair that are neither image nor mask.
        region: path of a mask of where the truth is known; outside, the mask holds what no table names.
    """

    images: str
    masks: str
    words: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "val": "val"})
    names: Mapping[int, str] = field(default_factory=lambda: FOUND)
    ignored: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()
    mode: str = "L"
    texts: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    region: str = ""


@dataclass
class LaidOut:
    """What was written.

    Attributes:
        truth: label ids of each image, 0xRRGGBB for colours; -1 outside a region.
        mask_files: the mask of each image.
        splits: images of each split, in the format's own division.
    """

    truth: dict[Path, np.ndarray] = field(default_factory=dict)
    mask_files: dict[Path, Path] = field(default_factory=dict)
    splits: dict[str, list[Path]] = field(default_factory=dict)


def draw_ids(number: int, label_ids: list[int]) -> np.ndarray:
    """A mask of blocks in which every label id occurs."""
    height, width = SIZE[0] // BLOCK, SIZE[1] // BLOCK
    blocks = np.random.default_rng(number).choice(label_ids, height * width)
    blocks[: len(label_ids)] = label_ids
    blocks = np.roll(blocks, number).reshape(height, width)
    return np.kron(blocks, np.ones((BLOCK, BLOCK), int))


def write_picture_of(path: Path, ids: np.ndarray) -> None:
    """A picture whose brightness tells the label id, with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 20, (*ids.shape, 3))
    # Two pictures of the same bytes would be one to the program.
    noise[0, 0] = np.frombuffer(path.stem.encode()[-3:].rjust(3), np.uint8) % 20
    Image.fromarray((ids[..., None] * 53 % 230 + noise).astype(np.uint8)).save(path)


def write_ids(path: Path, ids: np.ndarray, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "RGB":
        stored = np.stack([ids >> 16, (ids >> 8) & 255, ids & 255], axis=-1).astype(np.uint8)
        Image.fromarray(stored).save(path)
        return
    picture = Image.fromarray(ids.astype(np.uint8))
    if mode == "P":
        picture = picture.convert("P")
        picture.putpalette([value for number in range(256) for value in (number, 255 - number, number // 2)])
        picture.putdata(ids.ravel().tolist())
    picture.save(path)


def read_ids(path: Path) -> np.ndarray:
    """What is stored: label ids, or colours as 0xRRGGBB."""
    with Image.open(path) as picture:
        stored = np.asarray(picture).astype(int)
    return stored if stored.ndim == 2 else stored[..., 0] << 16 | stored[..., 1] << 8 | stored[..., 2]


def write_layout(root: Path, layout: Layout) -> LaidOut:
    laid, number = LaidOut(), 0
    for split, word in layout.words.items():
        for _ in range(COUNTS[split]):
            number += 1
            names = {"split": word, "n": number}
            image, mask = (root / pattern.format(**names) for pattern in (layout.images, layout.masks))
            ids = draw_ids(number, [*layout.names, *layout.ignored])
            write_picture_of(image, ids)
            laid.truth[image] = ids
            if layout.region:
                inside = np.zeros(SIZE, int)
                inside[:, SIZE[1] // 2 :] = 255
                write_ids(root / layout.region.format(**names), inside)
                laid.truth[image], ids = np.where(inside, ids, -1), np.where(inside, ids, 77)
            write_ids(mask, ids, layout.mode)
            for pattern in layout.beside:
                write_ids(root / pattern.format(**names), ids * 7 % 255)
            laid.mask_files[image] = mask
            laid.splits.setdefault(split, []).append(image)
    for name, text in layout.texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return laid


POOL = {"pool": ""}
_ONE_FOLDER = {"images": "images/{n}.jpg", "masks": "masks/{n}.png", "words": POOL}
_TRAIN, _VAL = [1, 2, 3], [4, 5, 6]
_CITY = "{split}/ulm/ulm_00000{n}_000019"
_VOC = "VOCdevkit/VOC2012"
_NNUNET = '{"labels": {"background": 0, "artery": 1, "vein": 2, "ignore": 3}, "file_ending": ".png", "numTraining": 2}'

LAYOUTS = {
    "train/images and train/masks": Layout(
        "{split}/images/{n}.png", "{split}/masks/{n}.png", {"train": "train", "val": "val", "test": "test"}
    ),
    "folders with names of one's own": Layout(
        "{split}/images/{n}.png",
        "{split}/masks/{n}.png",
        {"train": "fold_1", "val": "fold_2"},
        settings=("datasets.train=fold_1", "datasets.val=fold_2"),
    ),
    "mmsegmentation": Layout("img_dir/{split}/{n}.jpg", "ann_dir/{split}/{n}.png"),
    "train_images and train_labels": Layout("{split}_images/{n}.tif", "{split}_labels/{n}_label.tif"),
    "LoveDA": Layout(
        "{split}/Rural/images_png/{n}.png",
        "{split}/Rural/masks_png/{n}.png",
        {"train": "Train", "val": "Val"},
        {1: "background", 2: "building", 7: "agriculture"},
        (0,),
        ("datasets.classes=loveda",),
    ),
    "Roboflow": Layout(
        "{split}/eye-{n}_jpg.rf.0a1b{n}.jpg",
        "{split}/eye-{n}_jpg.rf.0a1b{n}_mask.png",
        {"train": "train", "val": "valid", "test": "test"},
        VESSELS,
        texts={
            f"{split}/_classes.csv": "Pixel Value, Class\n0, background\n1, artery\n2, vein\n"
            for split in ("train", "valid", "test")
        },
    ),
    "masks beside images": Layout("{split}/{n}.jpg", "{split}/{n}.png"),
    "Pascal VOC": Layout(
        f"{_VOC}/JPEGImages/2007_00000{{n}}.jpg",
        f"{_VOC}/SegmentationClass/2007_00000{{n}}.png",
        names={0: "background", 1: "aeroplane", 15: "person"},
        ignored=(255,),
        mode="P",
        texts={
            f"{_VOC}/ImageSets/Segmentation/train.txt": "2007_000001\n2007_000002\n",
            f"{_VOC}/ImageSets/Segmentation/val.txt": "2007_000003\n2007_000004\n",
            f"{_VOC}/ImageSets/Segmentation/trainval.txt": "".join(f"2007_00000{n}\n" for n in (1, 2, 3, 4)),
            f"{_VOC}/Annotations/2007_000001.xml": "<annotation></annotation>",
        },
        beside=(f"{_VOC}/SegmentationObject/2007_00000{{n}}.png",),
    ),
    "CVAT's masks": Layout(
        "JPEGImages/{n}.jpg",
        "SegmentationClass/{n}.png",
        POOL,
        {0: "background", 0xFA3253: "artery", 0x33DDFF: "vein"},
        mode="RGB",
        texts={
            "labelmap.txt": "# label:color_rgb:parts:actions\n"
            "artery:250,50,83::\nbackground:0,0,0::\nvein:51,221,255::\n",
            "ImageSets/Segmentation/default.txt": "".join(f"{n}\n" for n in range(1, 7)),
        },
        beside=("SegmentationObject/{n}.png",),
    ),
    "Cityscapes, _labelIds": Layout(
        f"leftImg8bit/{_CITY}_leftImg8bit.png",
        f"gtFine/{_CITY}_gtFine_labelIds.png",
        names={7: "road", 11: "building", 33: "bicycle"},
        ignored=(0, 3),
        beside=(f"gtFine/{_CITY}_gtFine_color.png", f"gtFine/{_CITY}_gtFine_instanceIds.png"),
    ),
    "Cityscapes, _labelTrainIds": Layout(
        f"leftImg8bit/{_CITY}_leftImg8bit.png",
        f"gtFine/{_CITY}_gtFine_labelTrainIds.png",
        names={0: "road", 2: "building", 18: "bicycle"},
        ignored=(255,),
        beside=(f"gtFine/{_CITY}_gtFine_labelIds.png",),
    ),
    "nnU-Net": Layout(
        "images{split}/case_{n}_0000.png",
        "labels{split}/case_{n}.png",
        {"train": "Tr", "test": "Ts"},
        VESSELS,
        (3,),
        texts={"dataset.json": _NNUNET},
    ),
    "ADE20K": Layout(
        "ADEChallengeData2016/images/{split}/ADE_{split}_0000000{n}.jpg",
        "ADEChallengeData2016/annotations/{split}/ADE_{split}_0000000{n}.png",
        {"train": "training", "val": "validation"},
        {1: "wall", 3: "sky", 150: "flag"},
        (0,),
        texts={"ADEChallengeData2016/objectInfo150.txt": "Idx", "ADEChallengeData2016/sceneCategories.txt": "x"},
    ),
    "ADE20K, a subset": Layout(
        "images/{split}/ADE_{split}_0000000{n}.jpg",
        "annotations/{split}/ADE_{split}_0000000{n}.png",
        {"train": "training", "val": "validation"},
        {1: "class_1", 3: "class_3", 150: "class_150"},
        (0,),
        # The pictures at hand hold three of its classes.
        ("datasets.reduce_zero_label=true", "decoder_head.num_classes=150"),
    ),
    "COCO-Stuff": Layout(
        "coco/images/{split}2017/00000000000{n}.jpg",
        "coco/annotations/{split}2017/00000000000{n}.png",
        names={0: "person", 1: "bicycle", 181: "wood"},
        ignored=(255,),
        settings=("datasets.classes=coco_stuff",),
    ),
    "COCO-Stuff beside COCO": Layout(
        "{split}2017/00000000000{n}.jpg",
        "stuffthingmaps/{split}2017/00000000000{n}.png",
        names={0: "person", 1: "bicycle", 181: "wood"},
        ignored=(255,),
        settings=("datasets.classes=coco_stuff",),
        texts={"annotations/instances_train2017.json": "{}"},
    ),
    "COCO-Stuff, _labelTrainIds": Layout(
        "images/{split}2017/00000000000{n}.jpg",
        "annotations/{split}2017/00000000000{n}_labelTrainIds.png",
        names={0: "person", 1: "bicycle", 170: "wood"},
        ignored=(255,),
        settings=(
            "datasets.classes=coco_stuff_train_ids",
            "datasets.images=images/{split}2017/*.jpg",
            "datasets.masks=annotations/{split}2017/*_labelTrainIds.png",
        ),
        beside=("annotations/{split}2017/00000000000{n}.png",),
    ),
    "no splits": Layout(**_ONE_FOLDER, settings=("datasets.split=80/10/10",)),
    "a group": Layout(
        "images/patient{n}_left.jpg",
        "masks/patient{n}_left_mask.png",
        POOL,
        settings=("datasets.split=50/25/25", "datasets.group=(patient[0-9]+)"),
    ),
    "lists, text": Layout(
        **_ONE_FOLDER,
        settings=("datasets.train=train.lst", "datasets.val=val.txt"),
        texts={"train.lst": "# names\n1\n2\nimages/3.jpg\n", "val.txt": "images/4.jpg masks/4.png\n"},
    ),
    "lists, CSV": Layout(
        **_ONE_FOLDER,
        settings=("datasets.train=train.csv", "datasets.val=val.tsv"),
        texts={
            "train.csv": "image,mask\n" + "".join(f"images/{n}.jpg,masks/{n}.png\n" for n in _TRAIN),
            "val.tsv": "filename\n4.jpg\n5.jpg\n",
        },
    ),
    "lists, JSON": Layout(
        **_ONE_FOLDER,
        settings=("datasets.split=splits.json",),
        texts={
            "splits.json": '{"train": ["1", {"image": "2"}], '
            '"val": ["3.jpg", {"image": "images/4.jpg", "mask": "masks/4.png"}]}'
        },
    ),
    "lists, YAML": Layout(
        **_ONE_FOLDER,
        settings=("datasets.train=a.yaml", "datasets.val=b.yml"),
        texts={"a.yaml": "['1', '2', '3']\n", "b.yml": "- images/4.jpg\n- {image: images/5.jpg, mask: masks/5.png}\n"},
    ),
    "one list of everything": Layout(
        **_ONE_FOLDER,
        settings=("datasets.split=list.csv",),
        texts={
            "list.csv": "image,mask,split\n"
            + "".join(f"images/{n}.jpg,masks/{n}.png,{'train' if n in _TRAIN else 'val'}\n" for n in _TRAIN + _VAL)
        },
    ),
    "globs": Layout(
        "{split}/deep/{n}.jpg",
        "{split}_truth/{n}-gt.png",
        settings=("datasets.images={split}/deep/*.jpg", "datasets.masks={split}_truth/*.png"),
    ),
    "globs of each split": Layout(
        "{split}/{n}.jpg",
        "{split}/{n}.gt.png",
        {"train": "one", "val": "two"},
        settings=(
            "datasets.images={train: one/*.jpg, val: two/*.jpg}",
            "datasets.masks={train: one/*.gt.png, val: two/*.gt.png}",
        ),
    ),
    "regions": Layout(
        "{split}/images/{n}.png",
        "{split}/masks/{n}.png",
        settings=("datasets.regions={split}/fov",),
        region="{split}/fov/{n}.png",
    ),
}
