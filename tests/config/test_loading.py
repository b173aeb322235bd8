"""The config: files and overrides, and messages that name the key to change."""

import warnings
from pathlib import Path

import pytest

from dinoseg.config import Config, all_keys, get_key, with_changes
from dinoseg.config.likely_keys import likely_keys
from dinoseg.config.loading import load_config, save_config
from dinoseg.config.unused_keys import note_unused_keys


def test_overrides_and_file_in_any_order(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("bs: 8\ndatasets:\n  classes: {0: background, 1: artery}\n")
    config = load_config(["bs=4", f"config={recipe}", "transforms.train.crop_size=[64, 32]"])
    assert config.bs == 4
    assert config.datasets.classes == {0: "background", 1: "artery"}
    assert config.transforms.train.crop_size == [64, 32]


def test_written_config_reproduces_the_run(tmp_path: Path) -> None:
    config = load_config(["decoder_head.type=m2f", "optimizer.gradient_clip=inf", "datasets.classes={0: a, 7: b}"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config([f"config={tmp_path / 'config.yaml'}"]) == config


@pytest.mark.parametrize(
    ("head", "rate", "decay", "clip", "layers"),
    [
        ("linear", 1e-3, 0.01, float("inf"), "LAST"),
        ("m2f", 1e-4, 0.05, 0.01, "FOUR_EVEN_INTERVALS"),
        ("pmt", 2e-4, 0.05, 0.01, "FOUR_QUARTERS"),
        ("eomt", 1e-4, 0.05, 0.01, "LAST"),
    ],
)
def test_what_is_left_out_follows_the_head(head: str, rate: float, decay: float, clip: float, layers: str) -> None:
    config = load_config([f"decoder_head.type={head}"])
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.optimizer.gradient_clip) == (rate, decay, clip)
    assert config.decoder_head.backbone_out_layers == layers


@pytest.mark.parametrize(
    ("given", "mode", "factor", "decay"),
    [
        ([], "full", 1.0, 0.8),
        (["model.mode=full", "optimizer.layer_decay=0.9"], "full", 1.0, 0.9),
        (["model.mode=lora"], "lora", 1.0, 1.0),
        (["lora.enabled=true"], "lora", 1.0, 1.0),
        (["decoder_head.type=m2f", "model.mode=full"], "full", 0.1, 1.0),
    ],
)
def test_the_eomt_head_trains_the_backbone_by_layers(given: list[str], mode: str, factor: float, decay: float) -> None:
    config = load_config(["decoder_head.type=eomt", *given])
    found = (config.model.mode, config.optimizer.backbone_lr_factor, config.optimizer.layer_decay)
    assert found == (mode, factor, decay)


def test_window_follows_the_training_crop() -> None:
    config = load_config(["transforms.train.crop_size=[300, 600]", "scheduler.total_iter=50"])
    assert config.eval.crop_size == [300, 600]
    assert config.eval.stride == [200, 400]
    assert config.eval.eval_interval == 5


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["bss=4"], ["'bss'", "did you mean 'bs'?"]),
        (["eval.crop_sze=3"], ["did you mean 'eval.crop_size'?"]),
        (["crop_size=3"], ["did you mean 'transforms.train.crop_size' or 'eval.crop_size'?"]),
        (["bz=4"], ["bz=4: unknown key 'bz'; did you mean 'bs'?"]),
        (["batch_size=4"], ["did you mean 'bs' or 'eval.batch_size'?"]),
        (["epochs=4"], ["did you mean 'scheduler.total_iter'? It counts steps of bs images each, not epochs"]),
        (["zz=4"], ["unknown key 'zz'; `dinoseg options WORD` finds keys"]),
        (["bs=many"], ["bs is 'many'", "a whole number"]),
        (["optimizer.lr=fast"], ["optimizer.lr is 'fast'", "a number"]),
        (["transforms.train.random_img_size_ratio_range=5"], ["random_img_size_ratio_range is 5", "a list of numbers"]),
        (["eval=3"], ["eval is 3", "a section"]),
        (["decoder_head.type=unet"], ["decoder_head.type='unet'", "linear, dense, m2f, pmt, eomt"]),
        (["bs=0"], ["bs=0", "from 1 to 65536"]),
        (["optimizer.lr=nan"], ["optimizer.lr=nan"]),
        (["eval.max_val_samples=0"], ["eval.max_val_samples=0"]),
        (["eval.absent_classes=skip"], ["eval.absent_classes='skip'", "skip_empty, skip_absent, zero"]),
        (["eval.cldice=artery"], ["eval.cldice is 'artery'", "a list of words"]),
        (["transforms.train.crop_size=big"], ["transforms.train.crop_size is 'big'", "[height, width]"]),
        (["eval.stride=[341]"], ["eval.stride=[341] is no size", "[height, width]"]),
        (["eval.crop_size=[0, 4]"], ["eval.crop_size=[0, 4] is no size"]),
        (["eval.stride=600"], ["eval.stride [600, 600] exceeds eval.crop_size [512, 512]"]),
        (["bs=true"], ["bs is True", "a whole number"]),
        (["model=null"], ["model is None", "a section"]),
        (["trackers=[tensorboard, foo]"], ["trackers='foo' is unknown", "wandb"]),
        (["trackers=[wandb, wandb]"], ["given twice"]),
        (["transforms.train.random_img_size_ratio_range=[2, 0.5]"], ["rising order"]),
        (["transforms.eval.tta_ratios=[]"], ["tta_ratios is empty"]),
        (["transforms.mean=[0.5, 0.5]"], ["transforms.mean=[0.5, 0.5] has 2 entries; give 3"]),
        (["scheduler.constructor_kwargs.pct_start=7"], ["pct_start=7 is too large"]),
        (["scheduler.constructor_kwargs.div_factor=0"], ["div_factor is 0"]),
        (["trackers={}"], ["trackers is {}", "a list of words"]),
        (["trackers[0]=null"], ["trackers"]),
        (["scheduler.constructor_kwargs=[]"], ["constructor_kwargs is []", "a mapping"]),
        (["decoder_head.backbone_out_layers=[a, null]"], ["decoder_head.backbone_out_layers is ['a', None]"]),
        (["decoder_head.backbone_out_layers=true"], ["decoder_head.backbone_out_layers is True"]),
        (["datasets.ignore={1: [2]}"], ["datasets.ignore is {1: [2]}"]),
        (["datasets.masks=${nope}"], ["datasets.masks", "${...}"]),
        (["bs=" + "[" * 5000 + "]" * 5000], ["nested too deep"]),
        (["transforms.train.crop_size=null"], ["transforms.train.crop_size is None"]),
        (["train.celoss_weight=0"], ["both 0"]),
        (["train"], ["'train' is not an option", "key=value"]),
        (["bs=4", "datasets.classes={0:", "bg,", "1:", "a}"], ["datasets.classes={0: ends in the middle", "in quotes"]),
        (["config=missing.yaml"], ["missing.yaml", "cannot be read"]),
        (["bs=[1"], ["not valid YAML"]),
    ],
)
def test_mistakes_name_the_key(arguments: list[str], parts: list[str]) -> None:
    with pytest.raises(ValueError) as raised:
        load_config(arguments)
    for part in parts:
        assert part in str(raised.value)


def test_broken_yaml_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("bs: [1\n")
    with pytest.raises(ValueError, match=r"broken\.yaml: not valid YAML"):
        load_config([f"config={broken}"])


@pytest.mark.parametrize("key", ["datasets.reduce_zero_label", "eval.reduce_zero_label"])
def test_both_spellings_of_reduce_zero_label_mean_the_same(key: str) -> None:
    config = load_config([f"{key}=true"])
    assert config.datasets.reduce_zero_label is True
    assert config.eval.reduce_zero_label is True


def test_spellings_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="two spellings of one option"):
        load_config(["datasets.reduce_zero_label=true", "eval.reduce_zero_label=false"])


def test_a_mapping_of_own_keys_replaces_that_of_the_file(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("datasets: {classes: {0: background, 1: artery}}\nscheduler: {constructor_kwargs: {power: 2}}\n")
    config = load_config([f"config={recipe}", "datasets.classes={1: artery, 2: vein}"])
    assert config.datasets.classes == {1: "artery", 2: "vein"}
    assert config.scheduler.constructor_kwargs == {"power": 2}
    more = load_config([f"config={recipe}", "scheduler.constructor_kwargs.warmup_iters=3"])
    assert more.scheduler.constructor_kwargs == {"power": 2, "warmup_iters": 3}


def test_every_key_has_a_help_sentence() -> None:
    described = all_keys()
    assert {"bs", "eval.stride", "m2f_train.num_points"} <= {entry.key for entry in described}
    assert all(entry.option.help and not entry.option.help.endswith(".") for entry in described)
    assert load_config([]) == load_config([], base=Config())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("bs: " + "[" * 10_000 + "]" * 10_000, "nested too deep"),
        ("a: " * 3 + "b", "not valid YAML"),
        ("- 1\n", "found a list"),
        ("eval: 3\n", "eval is 3; expected a section"),
        ("eval: null\n", "eval is None; expected a section"),
        ("bs: {a: 1}\n", "bs is {'a': 1}; expected a whole number"),
        ("transforms: {mean: 3}\n", "transforms.mean is 3; expected a list of numbers"),
        ("datasets: {bands: '4,3,2'}\n", "expected a list of whole numbers or null; write datasets.bands=[4,3,2]"),
        ("eval: {stride: [a, b]}\n", "eval.stride is ['a', 'b']"),
    ],
)
def test_a_malformed_file_is_one_message_with_file_and_key(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(ValueError) as raised:
        load_config([f"config={file}"])
    assert str(file) in str(raised.value) and message in str(raised.value)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    assert load_config([f"config={tmp_path / 'empty.yaml'}"]) == load_config([])


def test_the_config_is_frozen_and_copies_are_checked() -> None:
    config = load_config([])
    with pytest.raises(ValueError, match="frozen"):
        config.eval.stride = 3
    assert get_key(with_changes(config, {"eval.max_val_samples": 5}), "eval.max_val_samples") == 5
    assert config.eval.max_val_samples is None
    with pytest.raises(ValueError, match="too small"):
        with_changes(config, {"bs": 0})


@pytest.mark.parametrize("glob", ["{split}/*.jpg", "*_rgb.png", "*", "*it's: {1}\\d.png"])
def test_a_glob_that_yaml_would_take_for_something_else_needs_no_quotes(glob: str) -> None:
    assert load_config([f"datasets.images={glob}"]).datasets.images == glob


@pytest.mark.parametrize(
    ("word", "likely"),
    [
        ("crop_size", "transforms.train.crop_size"),
        ("eval.crop_sze", "eval.crop_size"),
        ("train.lr", "optimizer.lr"),
        ("optimizer.weightdecay", "optimizer.weight_decay"),
        ("learning_rate", "optimizer.lr"),
        ("cropsize", "transforms.train.crop_size"),
        ("crop_sze", "transforms.train.crop_size"),
        ("epochs", "scheduler.total_iter"),
        ("steps", "scheduler.total_iter"),
        *((word, "bs") for word in ("bz", "sb", "bsz", "b", "bss", "batch")),
        *((word, "optimizer.lr") for word in ("lr", "rl", "lt", "l", "llr")),
        *((word, None) for word in ("zz", "q", "xyz", "purple")),
        ("sdt", "transforms.std"),
        ("num_class", "decoder_head.num_classes"),
        ("batch_size", "bs"),
    ],
)
def test_the_likeliest_key_comes_first(word: str, likely: str | None) -> None:
    assert next(iter(likely_keys(word)), None) == likely


def test_keys_that_the_verb_uses_come_first() -> None:
    assert likely_keys("eval.tta")[0] == "eval.use_tta"
    assert likely_keys("batch_size", verb="eval")[0] == likely_keys("batchsize", verb="eval")[0] == "eval.batch_size"
    assert likely_keys("crop_size", verb="predict")[0] == "eval.crop_size"


def test_keys_without_an_effect_are_noted_and_others_are_not() -> None:
    settings = ["optimizer.lr=1", "eval.crop_size=32", "device=cpu", "config=x.yaml", "bs=4"]
    with pytest.warns(UserWarning, match=r"^no effect on predict: optimizer\.lr=1, bs=4; `dinoseg predict --help-all`"):
        note_unused_keys(settings, "predict")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        note_unused_keys(["eval.crop_size=32", "device=cpu", "datasets.root=data"], "eval")
        note_unused_keys(settings, "train")
