"""A plan as a recipe: what is written is what ``train config=`` reads, with reasons beside it."""

import time
from pathlib import Path

import pytest
import yaml
from helpers.fingerprints import class_print, machine, pace, retina

from dinoseg.config import get_key
from dinoseg.config.loading import load_config
from dinoseg.planning.fingerprint import Fingerprint
from dinoseg.planning.plan import Plan
from dinoseg.planning.planner import Clock, Planner
from dinoseg.planning.recipe_file import recipe_yaml
from dinoseg.planning.request import PlanRequest
from dinoseg.verbs.plan import plan_in_words

ARGUMENTS = [
    "datasets.root=data/x",
    "datasets.classes={0: 'on: off', 1: vein, '2': \"no\"}",
    "datasets.ignore=[255]",
    "optimizer.gradient_clip=inf",
    "output_dir=runs/x",
    "bs=3",
]


def _plan(arguments: list[str], data: Fingerprint | None = None) -> Plan:
    request = PlanRequest.of(["model.weights=w.safetensors", *arguments])
    clock = Clock(time.monotonic(), 0.0, False)
    return Planner(request, data or retina(), machine(), clock, lambda config: pace()).plan()


@pytest.mark.parametrize("minutes", [["minutes=9"], []])
def test_what_is_written_is_read_back(minutes: list[str], tmp_path: Path) -> None:
    plan = _plan([*ARGUMENTS, *minutes])
    file = tmp_path / "plan.yaml"
    file.write_text(recipe_yaml(plan, "dinoseg plan ..."), encoding="utf-8")
    read = load_config([f"config={file}", "output_dir=runs/x"])
    assert read == plan.config
    assert load_config([f"config={file}"]).output_dir == "runs/dinoseg"


@pytest.mark.parametrize(
    "given",
    [
        ["lora.enabled=true", "lora.r=32", "lora.lora_alpha=64", "lora.target_modules=[attn.qkv]"],
        ["datasets.classes=cityscapes"],
        ["datasets.classes=camvid", "datasets.ignore=[4]"],
        ["eval.reduce_zero_label=true", "datasets.classes={1: a, 2: b}"],
    ],
)
def test_other_spellings_and_presets_are_read_back(given: list[str], tmp_path: Path) -> None:
    plan = _plan(["datasets.root=data/x", *given, "minutes=9"])
    file = tmp_path / "plan.yaml"
    file.write_text(recipe_yaml(plan, "dinoseg plan ..."), encoding="utf-8")
    assert load_config([f"config={file}"]) == plan.config


def test_each_choice_has_its_reason_and_what_was_given_its_source() -> None:
    text = recipe_yaml(_plan([*ARGUMENTS, "minutes=9"]), "dinoseg plan datasets.root=data/x minutes=9")
    lines = text.splitlines()
    assert lines[0] == "# Made by: dinoseg plan datasets.root=data/x minutes=9"
    assert "# vein: 4.2 % of the pixels, in 100 % of images, 4 px wide (a tenth below 2)" in lines
    assert lines[lines.index("bs: 3") - 1] == "# Given: bs=3."
    place = next(index for index, line in enumerate(lines) if line.startswith("  backbone_scale:"))
    assert "crossing: median width 2 px" in " ".join(lines[place - 6 : place]).lower()
    assert max(map(len, lines)) <= 130


def test_keys_stand_once_in_their_sections() -> None:
    text = recipe_yaml(_plan([*ARGUMENTS, "minutes=9"]), "x")
    values = yaml.safe_load(text)
    assert get_key(_plan([*ARGUMENTS, "minutes=9"]).config, "decoder_head.type") == values["decoder_head"]["type"]
    sections = [line for line in text.splitlines() if line.endswith(":") and not line.lstrip().startswith("#")]
    assert len(sections) == len(set(sections)) + sections.count("  train:") - 1 or len(sections) == len(set(sections))


def test_a_command_of_several_lines_is_a_comment() -> None:
    written = recipe_yaml(_plan(["minutes=10"]), "dinoseg plan 'datasets.classes={0: a,\n 1: b}'")
    assert written.startswith("# Made by: dinoseg plan 'datasets.classes={0: a,\n#  1: b}'\n#\n")
    assert yaml.safe_load(written)


def test_a_class_that_cannot_be_learned_is_named() -> None:
    data = retina(classes=(*retina().classes, class_print("tear", 0.0, None, images=0.0)))
    text = recipe_yaml(_plan(["minutes=9"], data), "x")
    assert "# tear: no pixel in the training images, so that it cannot be learned" in text


def test_what_a_file_gives_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(recipe_yaml(_plan(["minutes=9"]), "x"), encoding="utf-8")
    plan = _plan([f"config={file}", "minutes=5"])
    lines = plan_in_words(plan)
    told = [line for line in lines if line.startswith(f"  config={file} (given): head, scale, cache, batch and crop, ")]
    assert len(told) == 1 and told[0].endswith("data loading")
    assert "beside what was given" not in "".join(lines)
    # What is decided beside something that was given stands as before.
    lines = plan_in_words(_plan(["minutes=5", "bs=3"]))
    place = next(index for index, line in enumerate(lines) if line.endswith("; bs=3 (given)"))
    assert lines[place].startswith("  transforms.train.crop_size=") and lines[place + 1].strip().startswith(
        "beside what"
    )
