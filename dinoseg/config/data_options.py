"""Options of the data and of what is done to images: ``datasets.`` and ``transforms.``."""

from typing import Any

from pydantic import Field

from dinoseg.config.option import PREDICTS, READS_DATA, Section, option

_LARGEST_SIDE = 65536


class DatasetsConfig(Section):
    """Where images and masks lie, and what the masks mean."""

    root: str = option(
        "",
        "folder of the data: {train,val,test}/{images,masks}, or any layout whose folder names say what they hold",
        resume="free",
        verbs=READS_DATA,
        first=True,
    )
    train: str = option(
        "train",
        "split folder, list of images (.txt, .csv, .json, .yaml), glob, or descriptor (ADE20K:split=TRAIN)",
        verbs=READS_DATA,
    )
    val: str = option("val", "the same; held out of train where there is none", verbs=READS_DATA)
    test: str = option("test", "the same", resume="free", verbs=READS_DATA)
    split: str | None = option(
        None,
        "shares of train/val/test in percent, 80/10/10, of data without splits; or a file that lists them (splits.json "
        "of a run); by hash of the names, so that files added later move no other",
        verbs=READS_DATA,
        first=True,
    )
    group: str | None = option(
        None,
        "pattern whose first bracket names a patient, video or site in an image's path below the root, e.g. "
        "'(patient\\d+)_'; one group stands in one split only",
        verbs=READS_DATA,
    )
    split_seed: int = option(0, "another number, another split, other folds", least=0, most=2**31 - 1, verbs=READS_DATA)
    folds: int | None = option(
        None,
        "cross-validation: train and val are pooled and dealt into so many folds of like size and classes; test stays",
        least=2,
        most=1000,
        verbs=("check",),
    )
    fold: str | None = option(
        None,
        "the fold that is held out as val, 0 to folds - 1; all, the default with folds: one training after the other, "
        "into output_dir/fold_0, fold_1 and so on, and then an evaluation out of fold",
        verbs=("check",),
    )
    images: Any = option(
        None,
        "glob of images relative to root, with {split} in it or as {train: glob, val: glob}; without, of data to split",
        verbs=READS_DATA,
    )
    masks: Any = option(None, "glob of masks, paired with images by stem; same form as images", verbs=READS_DATA)
    regions: Any = option(
        None,
        "folder or glob of masks, not zero where the truth is known (a field of view), with {split} in it or by split; "
        "outside counts nowhere",
        verbs=READS_DATA,
    )
    tile: int | None = option(
        None,
        "side of the tiles that large TIFFs are read in, each an image of its own (extra geo): 1024 for TIFFs of more "
        "than 25 megapixels when left out; a number for every TIFF that is larger, 0 for none",
        least=0,
        most=_LARGEST_SIDE,
        unit="pixels",
        verbs=READS_DATA,
    )
    slice_axis: str = option(
        "auto",
        "axis that volumes (NIfTI) are cut into slices across, each an image of its own (extra medical); auto: the one "
        "along which voxels are farthest apart, the last of several",
        choices=("auto", "0", "1", "2"),
        verbs=(*READS_DATA, "predict"),
    )
    classes: Any = option(
        None,
        "{label id or '#rrggbb': name}, a file of names, or a known data set (voc, cityscapes, ade20k and others); a "
        "name given twice merges; left out: scanned from the masks",
        verbs=("check",),
        first=True,
    )
    ignore: int | str | list[int | str] | None = option(
        None, "label ids or colours that count nowhere; 255 by default", verbs=("check",), first=True
    )
    reduce_zero_label: bool | None = option(
        None, "ADE20K shorthand: 0 is ignored, the rest shift down by one", verbs=("check",), first=True
    )
    colour_tolerance: int = option(
        0,
        "RGB masks: largest channel distance at which a stray colour is taken as the nearest",
        least=0,
        most=255,
        verbs=("check",),
    )
    white_level: int | None = option(
        None,
        "value that is white in pictures with 16 bits; found by the scan of the data when left out",
        least=255,
        most=65535,
        verbs=("check", *PREDICTS),
    )
    bands: list[int] | None = option(
        None,
        "bands of the file that the model sees, in any order, counted from 1: [4, 3, 2, 8]; red, green and blue (or "
        "grey) when left out",
        least=1,
        most=65536,
        verbs=("check", *PREDICTS),
        first=True,
    )
    range: Any = option(
        None,
        "values that become black and white: low,high (a pair for each band: [[0, 1], [-1, 1]]), or percentiles of the "
        "data set, p1-p99; 0 to 255 or to the white level when left out; needed for floating-point pictures",
        verbs=("check", *PREDICTS),
    )


class TrainTransformConfig(Section):
    """What a training image goes through."""

    img_size: int | None = option(
        None,
        "short side before the random ratio; native size when left out",
        least=1,
        most=_LARGEST_SIDE,
        unit="pixels",
    )
    random_img_size_ratio_range: list[float] = option(
        [0.5, 2.0], "range of the random resize", above=0, most=100, length=2
    )
    crop_size: int | list[int] = option(
        512, "what the model sees of an image", size=True, most=_LARGEST_SIDE, unit="pixels", first=True
    )
    flip_prob: float = option(0.5, "probability of a horizontal flip", least=0, most=1)
    vertical_flip_prob: float = option(0.0, "probability of a vertical flip", least=0, most=1)
    right_angle_rotations: bool = option(False, "rotate by a random multiple of 90 degrees")
    max_class_share: float = option(
        0.75, "redraw a crop (10 tries) in which one class covers more than this", above=0, most=1
    )
    photometric_distortion: bool = option(True, "random brightness, contrast and, of three bands, saturation and hue")
    rotation: float = option(0.0, "largest random rotation, either way", least=0, most=180, unit="degrees")
    shear: float = option(0.0, "largest random shear, either way", least=0, most=45, unit="degrees")
    elastic: float = option(
        0.0, "largest random displacement of an elastic deformation", least=0, most=1000, unit="pixels"
    )
    foreground_share: float = option(
        0.0, "share of crops around a pixel of a class that is not the image's most frequent", least=0, most=1
    )
    gamma: float = option(0.0, "random gamma of exp(-gamma) to exp(gamma), e.g. 0.4", least=0, most=3)
    noise: float = option(0.0, "largest deviation of random noise, of images in 0..1, e.g. 0.05", least=0, most=1)
    blur: float = option(0.0, "largest deviation of a random blur", least=0, most=100, unit="pixels")
    low_resolution: float = option(1.0, "largest factor by which the resolution is lowered at random", least=1, most=16)
    cutout: float = option(0.0, "share of a crop covered by grey rectangles", least=0, most=1)


class EvalTransformConfig(Section):
    """What an image goes through before inference."""

    img_size: int | None = option(
        None,
        "resize the short side to this before inference; native size when left out",
        least=1,
        most=_LARGEST_SIDE,
        unit="pixels",
        resume="decides best",
        verbs=PREDICTS,
    )
    tta_ratios: list[float] = option(
        [1.0], "scales of test-time augmentation", above=0, most=100, resume="decides best", verbs=PREDICTS
    )
    tta_right_angle_rotations: bool = option(
        False,
        "turn by 90, 180 and 270 degrees, too; for images without an up",
        resume="decides best",
        verbs=PREDICTS,
    )
    tta_backbone: str | None = option(
        None,
        "once: the backbone sees each scale upright, and its features are mirrored and turned, as in a training from "
        "the feature cache; each: it sees every view; once for dense and m2f trained from the cache when left out",
        choices=("once", "each"),
        resume="decides best",
        verbs=PREDICTS,
    )


class TransformsConfig(Section):
    """Augmentation, resizing and normalisation."""

    train: TrainTransformConfig = Field(default_factory=TrainTransformConfig)
    eval: EvalTransformConfig = Field(default_factory=EvalTransformConfig)
    mean: list[float] | None = option(
        None,
        "per band, of images in 0..1; ImageNet's when left out, and those of the data set with datasets.bands",
        least=0,
        most=1,
    )
    std: list[float] | None = option(None, "the same", above=0, most=1)
