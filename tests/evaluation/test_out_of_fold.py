"""Evaluations of folds as one: sums by hand, what was learned before, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dinoseg.console.policy_words import policy_in_words
from dinoseg.evaluation.compare import compare
from dinoseg.evaluation.counts import Counts
from dinoseg.evaluation.evaluate import Evaluation, write_evaluation
from dinoseg.evaluation.measures import Measures
from dinoseg.evaluation.out_of_fold import HeldOut, join_folds
from dinoseg.inference.ensemble import Origin
from dinoseg.labels import LabelSpace

SPACE = LabelSpace.build({0: "back", 1: "thing"}, None, None, found_ids=[0, 1])
MEASURES = Measures(boundary_width=0.02, thin_classes=(1,))
POLICY = {"resolution": "native", "ignored_label_ids": [255], "reduce_zero_label": False}


def held_out(
    number: int, names: tuple[str, ...], volumes: tuple[str, ...] = (), checkpoint: str = "best", **policy: object
) -> HeldOut:
    """A fold in which the j-th image has 10 * number + j right pixels of each class and one wrong one."""
    counts = Counts.empty(len(names), 2, MEASURES)
    for row in range(len(names)):
        right = 10 * number + row
        counts.matrix.add_(torch.tensor([[right, 1], [0, right]]))
        counts.image_counts[row] = torch.tensor([[right, right], [right, right + 1], [right + 1, right]])
        assert counts.boundary is not None and counts.skeleton is not None
        counts.boundary[row] += right
        counts.skeleton[row] += right
    counted = {"images": len(names), "images_available": len(names)}
    counted |= {"slices": len(names), "volumes": len(set(volumes))} if volumes else {}
    evaluation = Evaluation(counts, names, POLICY | counted | policy, SPACE, MEASURES, volumes)
    return HeldOut(Origin(f"runs/cv/fold_{number}", checkpoint, f"{number}" * 64), evaluation)


def test_counts_add_up_and_rows_are_in_the_order_of_names() -> None:
    found = join_folds([held_out(1, ("b", "d")), held_out(2, ("a", "c", "e"))])
    assert found.names == ("a", "b", "c", "d", "e")
    right = [20, 10, 21, 11, 22]
    assert found.matrix.tolist() == [[sum(right), 5], [0, sum(right)]]
    assert found.image_counts[:, 0, 0].tolist() == right
    assert found.counts.boundary is not None and found.counts.skeleton is not None
    assert found.counts.boundary[:, 0, 0].tolist() == found.counts.skeleton[:, 3, 1].tolist() == right
    policy = found.to_dict()["policy"]
    assert (policy["images"], policy["images_available"], policy["resolution"]) == (5, 5, "native")
    assert [(fold["run"], fold["images"]) for fold in policy["out_of_fold"]] == [
        ("runs/cv/fold_1", 2),
        ("runs/cv/fold_2", 3),
    ]
    # By hand: 10 + 11 right of 23 in either class of fold 1.
    assert policy["out_of_fold"][0]["mIoU"] == pytest.approx(100 * 21 / 23)
    assert found.metrics.iou[0] == pytest.approx(100 * 84 / 89)


def test_volumes_are_counted_each_once() -> None:
    first = held_out(1, ("case_s0", "case_s1"), ("case", "case"))
    second = held_out(2, ("again_s0", "other_s0"), ("again", "other"))
    found = join_folds([first, second])
    assert dict(zip(found.names, found.volumes, strict=True)) == {
        "again_s0": "again",
        "case_s0": "case",
        "case_s1": "case",
        "other_s0": "other",
    }
    contents = found.to_dict()
    assert contents["policy"]["volumes"] == contents["per_volume"]["volumes"] == 3


def test_folds_that_predict_in_different_ways_are_refused() -> None:
    with pytest.raises(ValueError, match=r"fold_1 and runs/cv/fold_2 do not predict alike: resolution is native and "):
        join_folds([held_out(1, ("a",)), held_out(2, ("b",), resolution="short side 64, scores resized to native")])


def test_the_policy_says_who_scored_what_and_what_chose_the_checkpoints() -> None:
    best, last = (
        policy_in_words(
            join_folds([held_out(1, ("a",), checkpoint=name), held_out(2, ("b",), checkpoint=name)]).to_dict()["policy"]
        )
        for name in ("best", "last")
    )
    assert best[:4] == [
        "2 images, each counted once. An interval over so few means little.",
        "Out of 2 folds: each by the run that held it out.",
        "mIoU by fold: 90.91, 95.24.",
        "Best was chosen on these images; --checkpoint last was not.",
    ]
    assert last == [sentence for sentence in best if not sentence.startswith("Best was")]


def test_images_that_were_learned_from_before_are_counted_and_compared(tmp_path: Path) -> None:
    clean = [held_out(1, ("a", "b")), held_out(2, ("c",))]
    flattering = [clean[0], replace(clean[1], learned=1)]
    for name, folds in (("clean", clean), ("flattering", flattering)):
        write_evaluation(join_folds(folds), tmp_path / name, {"checkpoint": "best"})
    policy = join_folds(flattering).to_dict()["policy"]
    assert [fold["learned_before"] for fold in policy["out_of_fold"]] == [0, 1]
    said = "Runs they began with (load_from) learned from 1 of the images: this flatters."
    assert said in policy_in_words(policy)
    assert said not in policy_in_words(join_folds(clean).to_dict()["policy"])
    unlike = compare(tmp_path / "clean", tmp_path / "flattering").unlike
    assert unlike == ("out_of_fold: 2 folds | 2 folds, images learned before: 1",)


def test_two_cross_validations_of_the_same_images_are_compared(tmp_path: Path) -> None:
    both = join_folds([held_out(1, ("a", "b")), held_out(2, ("c",))])
    write_evaluation(both, tmp_path / "one", {"checkpoint": "best"})
    moved = [fold | {"run": "elsewhere", "weights_sha256": "a" * 64} for fold in both.policy["out_of_fold"]]
    other = replace(both, policy=both.policy | {"out_of_fold": moved})
    write_evaluation(other, tmp_path / "two", {"checkpoint": "best"})
    assert compare(tmp_path / "one", tmp_path / "two").unlike == ()
    alone = {key: value for key, value in both.policy.items() if key != "out_of_fold"}
    write_evaluation(replace(both, policy=alone), tmp_path / "three", {"checkpoint": "best"})
    assert compare(tmp_path / "one", tmp_path / "three").unlike == ("out_of_fold: 2 folds | none, one run scored all",)
