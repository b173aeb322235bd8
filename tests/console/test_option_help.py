"""Help and documentation of options follow from their declarations."""

from pathlib import Path

import pytest

from dinoseg.config import all_keys
from dinoseg.console.option_help import find_options, help_of_verb, options_markdown

VERBS = ("check", "train", "eval", "predict", "report", "export")


def test_the_documentation_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "options.md"
    assert page.read_text() == options_markdown(), "write it anew: dinoseg options --markdown > docs/options.md"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("whole", [False, True])
def test_nothing_is_cut_or_wider_than_80_columns(verb: str, whole: bool) -> None:
    text = help_of_verb(verb, whole)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "..." not in text


def test_train_shows_a_dozen_and_all_on_request() -> None:
    few, everything = help_of_verb("train", whole=False), help_of_verb("train", whole=True)
    assert 10 <= few.count("=") - few.count("mode=") <= 20
    assert "transforms.train.crop_size=512" in few and "m2f_train" not in few
    assert "dinoseg train --help-all" in few
    assert all(f"  {entry.key}=" in everything for entry in all_keys())


def test_a_verb_lists_only_what_it_uses() -> None:
    predict = help_of_verb("predict", whole=True)
    assert "eval.stride" in predict and "optimizer" not in predict and "datasets.root" not in predict


def test_options_are_found_by_name_and_by_sentence() -> None:
    assert "eval.stride=null" in find_options("stride")
    assert "transforms.eval.tta_ratios" in find_options("test-time")
    with pytest.raises(ValueError, match=r"no option has 'strde'.*did you mean eval\.stride"):
        find_options("strde")
