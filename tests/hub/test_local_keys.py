"""What is of one machine alone is known, whichever options there will be."""

from dinoseg.config.loading import load_config
from dinoseg.config.schema import all_keys, get_key
from dinoseg.hub.local_keys import LOCAL_KEYS, local_values, told_overrides, without_local

# Options that take any text and tell nothing of a machine or its files.
TELLING_NOTHING = {
    "model.dino_hub": "a name of the catalogue or of timm",
    "lora.targets": "parts of a backbone",
    "lora.target_modules": "the same",
    "datasets.ignore": "label ids and colours",
    "datasets.range": "numbers",
    "decoder_head.backbone_out_layers": "a name of the list, or numbers",
    "scheduler.constructor_kwargs": "numbers",
    "train.cldice_classes": "names of classes",
    "train.class_weights": "names of classes",
    "eval.cldice": "names of classes",
}


def test_every_option_that_takes_any_text_is_decided() -> None:
    free = {
        entry.key
        for entry in all_keys()
        if not entry.option.choices and any(kind in entry.type for kind in ("word", "value", "mapping"))
    }
    assert free - set(LOCAL_KEYS) == set(TELLING_NOTHING)
    assert set(LOCAL_KEYS) <= {entry.key for entry in all_keys()}


def test_local_values_give_way_to_defaults_and_nothing_else_does() -> None:
    config = load_config(
        [
            "datasets.root=/home/me/data",
            "datasets.images=secret/*.png",
            "datasets.masks=secret/*.gif",
            "datasets.classes={0: rest, 7: vein}",
            "output_dir=/home/me/run",
            "load_from=/home/me/other",
            "model.weights=/home/me/weights.pth",
            "trackers=[]",
            "eval.crop_size=[64, 96]",
            "decoder_head.type=dense",
        ]
    )
    public = without_local(config)
    assert "/home/me" not in str(public) and "secret" not in str(public) and local_values(public) == []
    assert "output_dir" in local_values(config) and "datasets.classes" in local_values(config)
    changed = {entry.key for entry in all_keys() if get_key(config, entry.key) != get_key(public, entry.key)}
    assert changed == set(local_values(config))


def test_of_overrides_the_local_ones_keep_their_key_alone() -> None:
    given = ["eval.use_tta=true", "datasets.root=/home/me/data", "datasets.val=x", "config=/home/me/c.yaml"]
    assert told_overrides(given) == ["eval.use_tta=true", "datasets.root=...", "datasets.val=...", "config=..."]


def test_of_sections_that_are_given_whole_the_local_values_stay_here() -> None:
    given = ["datasets={root: /home/me/data, val: x}", "model={weights: /home/me/w.pth}", "eval={use_tta: true}"]
    assert told_overrides(given) == ["datasets=...", "model=...", "eval={use_tta: true}"]
