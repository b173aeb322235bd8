import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from dinoseg.evaluation.bootstrap import bootstrap_intervals, paired_bootstrap_intervals
from dinoseg.evaluation.metrics import Metrics, confusion_matrix, counts_from_confusion, metrics_from_confusion
from dinoseg.labels import LabelClass, LabelSpace


def label_maps(num_classes: int, ignore_index: int, height: int, width: int, seed: int, side: int = 1):
    """Prediction and truth, int64, in patches of ``side`` pixels, some of the truth ignored."""
    generator = np.random.default_rng(seed)
    shape = (-(-height // side), -(-width // side))
    maps = [generator.integers(0, num_classes, shape) for _ in range(2)]
    maps[1][generator.random(shape) < 0.2] = ignore_index
    return [np.kron(m, np.ones((side, side), np.int64))[:height, :width] for m in maps]


def counted_one_by_one(prediction: np.ndarray, truth: np.ndarray, num_classes: int, ignore_index: int) -> np.ndarray:
    counts = np.zeros((num_classes, num_classes), int)
    for true, predicted in zip(truth.flat, prediction.flat, strict=True):
        if true != ignore_index:
            counts[true, predicted] += 1
    return counts


def matrix_of(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64)


@settings(max_examples=60, deadline=None)
@given(
    num_classes=st.sampled_from([1, 2, 7, 150, 255, 300]),
    ignore_index=st.sampled_from([255, 65535, -1, 0]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    side=st.sampled_from([1, 8]),
    kinds=st.tuples(*[st.sampled_from(["uint8", "uint16", "int32", "int64"])] * 2),
    as_tensor=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_confusion_matrix_counts_every_pair(num_classes, ignore_index, size, side, kinds, as_tensor, seed) -> None:
    if num_classes == 300 and ignore_index == 255:
        ignore_index = 65535
    prediction, truth = label_maps(num_classes, ignore_index, *size, seed, side)
    expected = counted_one_by_one(prediction, truth, num_classes, ignore_index)
    maps = []
    for values, kind in zip((prediction, truth), kinds, strict=True):
        fits = np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max
        maps.append(values.astype(kind if fits else "int64"))
    if as_tensor:
        maps = [torch.from_numpy(values) for values in maps]
    matrix = confusion_matrix(*maps, num_classes, ignore_index)
    assert matrix.dtype == torch.int64 and matrix.tolist() == expected.tolist()


@pytest.mark.parametrize("side", [1, 16])
def test_large_maps_are_counted_exactly_across_chunks(side: int) -> None:
    prediction, truth = label_maps(150, 255, 700, 901, 3, side)
    expected = counted_one_by_one(prediction, truth, 150, 255).tolist()
    assert confusion_matrix(prediction.astype(np.uint8), truth.astype(np.uint8), 150).tolist() == expected
    assert confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(truth), 150).tolist() == expected


@pytest.mark.parametrize(("num_classes", "side", "seed"), [(2, 1, 1), (11, 1, 2), (11, 6, 3), (150, 1, 4), (150, 9, 5)])
def test_matrix_and_figures_are_those_of_scikit_learn(num_classes: int, side: int, seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    prediction, truth = label_maps(num_classes, 255, 90, 70, seed, side)
    counted = truth != 255
    flat, labels = (truth[counted], prediction[counted]), range(num_classes)
    matrix = confusion_matrix(prediction, truth, num_classes)
    assert matrix.tolist() == sklearn.confusion_matrix(*flat, labels=labels).tolist()
    found = metrics_from_confusion(matrix, "zero", beta=2.0)
    options = {"labels": labels, "average": None, "zero_division": 0.0}
    assert found.iou == pytest.approx(100 * sklearn.jaccard_score(*flat, **options))
    assert found.figures["Dice"] == pytest.approx(100 * sklearn.f1_score(*flat, **options))
    assert found.figures["Fscore"] == pytest.approx(100 * sklearn.fbeta_score(*flat, beta=2.0, **options))
    assert found.figures["precision"] == pytest.approx(100 * sklearn.precision_score(*flat, **options))
    assert found.figures["recall"] == pytest.approx(100 * sklearn.recall_score(*flat, **options))
    assert found.means["aAcc"] == pytest.approx(100 * sklearn.accuracy_score(*flat))


def test_one_image_and_its_parts_give_the_same_matrix() -> None:
    prediction, truth = (torch.from_numpy(values) for values in label_maps(5, 255, 60, 40, 0))
    parts = [confusion_matrix(prediction[rows], truth[rows], 5) for rows in (slice(0, 13), slice(13, 60))]
    assert torch.equal(parts[0] + parts[1], confusion_matrix(prediction, truth, 5))


def test_rows_are_truth_and_columns_prediction() -> None:
    matrix = confusion_matrix(torch.tensor([[1, 1, 0]]), torch.tensor([[0, 255, 0]]), 2)
    assert matrix.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_an_ignored_pixel_may_be_predicted_as_anything(dtype: type) -> None:
    prediction, truth = np.array([[200, 1]], dtype), np.array([[255, 1]], dtype)
    assert confusion_matrix(prediction, truth, 2).tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("prediction", "truth", "name"),
    [([2, 2, 0], [1, 1, 0], "2 pixels of the prediction"), ([0, 1, 1], [0, 254, 1], "1 pixels of the truth")],
)
@pytest.mark.parametrize("shift", [0, 1000])  # beyond a byte, another path counts
def test_counted_pixels_outside_the_classes_are_refused(
    prediction: list[int], truth: list[int], name: str, shift: int
) -> None:
    def wide(values: list[int]) -> Tensor:
        return torch.tensor([value + shift if value > 1 else value for value in values])

    with pytest.raises(ValueError, match=rf"{name} are outside the class indices 0..1 .*label space of the masks"):
        confusion_matrix(wide(prediction), wide(truth), 2)


def test_a_negative_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="1 pixels of the prediction"):
        confusion_matrix(torch.tensor([[-1]]), torch.tensor([[1]]), 2)


def test_maps_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"prediction is \(2, 3\) pixels, the truth \(3, 2\)"):
        confusion_matrix(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64), 2)


def test_figures_by_hand() -> None:
    # Class 0: 6 of 8 found, 1 false; class 1: 3 of 4 found, 2 false.
    metrics = metrics_from_confusion(matrix_of([6, 2], [1, 3]), beta=2.0)
    assert (metrics.intersection, metrics.prediction, metrics.truth) == ((6, 3), (7, 5), (8, 4))
    assert metrics.iou == pytest.approx((100 * 6 / 9, 100 * 3 / 6))
    assert metrics.figures["Dice"] == pytest.approx((100 * 12 / 15, 100 * 6 / 9))
    assert metrics.figures["precision"] == pytest.approx((100 * 6 / 7, 100 * 3 / 5))
    assert metrics.figures["recall"] == metrics.figures["accuracy"] == pytest.approx((75, 75))
    assert metrics.figures["Fscore"] == pytest.approx((100 * 5 * 6 / (4 * 8 + 7), 100 * 5 * 3 / (4 * 4 + 5)))
    assert metrics.means["aAcc"] == pytest.approx(100 * 9 / 12)
    assert metrics.means["mIoU"] == pytest.approx((100 * 6 / 9 + 50) / 2)
    assert metrics.means["fwIoU"] == pytest.approx((8 * 100 * 6 / 9 + 4 * 50) / 12)


ABSENT = matrix_of([4, 0, 4, 0], [0, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0])  # 1: empty; 2: predicted; 3: never found


@pytest.mark.parametrize(
    ("policy", "iou", "precision", "recall"),
    [
        ("skip_empty", (40, None, 0, 0), (100 * 4 / 6, None, 0, None), (50, None, None, 0)),
        ("skip_absent", (40, None, None, 0), (100 * 4 / 6, None, None, None), (50, None, None, 0)),
        ("zero", (40, 0, 0, 0), (100 * 4 / 6, 0, 0, 0), (50, 0, 0, 0)),
    ],
)
def test_absent_classes_under_each_policy(policy: str, iou: tuple, precision: tuple, recall: tuple) -> None:
    metrics = metrics_from_confusion(ABSENT, policy)
    for found, expected in (
        (metrics.iou, iou),
        (metrics.figures["precision"], precision),
        (metrics.figures["recall"], recall),
    ):
        assert found == tuple(None if value is None else pytest.approx(value) for value in expected)
    defined = [value for value in iou if value is not None]
    assert metrics.means["mIoU"] == pytest.approx(sum(defined) / len(defined))
    assert metrics.miou_by_policy == {
        "skip_empty": pytest.approx(40 / 3),
        "skip_absent": pytest.approx(40 / 2),
        "zero": pytest.approx(40 / 4),
    }
    assert metrics.means["fwIoU"] == pytest.approx(40 * 8 / 10)


def test_nothing_counted_is_none_and_never_nan() -> None:
    everything_ignored = confusion_matrix(np.arange(12).reshape(3, 4), np.full((3, 4), 255), 2)
    assert everything_ignored.tolist() == [[0, 0], [0, 0]]
    metrics = metrics_from_confusion(everything_ignored)
    assert metrics.iou == metrics.figures["Fscore"] == (None, None)
    assert set(metrics.means.values()) == {None}
    assert metrics.miou_by_policy == {"skip_empty": None, "skip_absent": None, "zero": 0}


def test_one_pixel() -> None:
    metrics = metrics_from_confusion(confusion_matrix(np.array([[1]]), np.array([[1]]), 2))
    assert metrics.iou == (None, 100)
    assert {metrics.means[name] for name in ("mIoU", "mDice", "mAcc", "aAcc", "mPrecision", "fwIoU")} == {100}
    wrong = metrics_from_confusion(confusion_matrix(np.array([[0]]), np.array([[1]]), 3))
    assert wrong.iou == (0, 0, None)
    assert {wrong.means[name] for name in ("mIoU", "mDice", "mAcc", "aAcc", "mPrecision", "fwIoU")} == {0}
    assert wrong.figures["precision"] == (0, None, None) and wrong.figures["recall"] == (None, 0, None)


@given(
    arrays.arrays(np.int64, (4, 4), elements=st.integers(0, 50)), st.sampled_from(["skip_empty", "skip_absent", "zero"])
)
def test_figures_obey_their_algebra(matrix: np.ndarray, policy: str) -> None:
    metrics = metrics_from_confusion(torch.from_numpy(matrix), policy)
    assert metrics.figures["Fscore"] == metrics.figures["Dice"]  # beta 1
    for iou, dice in zip(metrics.iou, metrics.figures["Dice"], strict=True):
        assert (iou is None) == (dice is None)
        if iou is not None:
            assert dice == pytest.approx(100 * 2 * iou / (100 + iou)) and 0 <= iou <= dice <= 100
    perfect = metrics_from_confusion(torch.diag(torch.from_numpy(matrix.sum(axis=1))))
    means = [perfect.means[name] for name in ("mIoU", "mDice", "mAcc", "aAcc", "mPrecision", "fwIoU")]
    assert set(itertools.chain(perfect.iou, perfect.figures["precision"], means)) <= {100.0, None}
    assert metrics.miou_by_policy[policy] == metrics.means["mIoU"]


@pytest.mark.parametrize("beta", [0.0, -1.0])
def test_beta_must_be_positive(beta: float) -> None:
    with pytest.raises(ValueError, match="beta of the F-score is"):
        metrics_from_confusion(matrix_of([1, 0], [0, 1]), beta=beta)


def test_the_dictionary_names_classes_and_policy() -> None:
    classes = (LabelClass("sky", (7,), (0, 0, 0)), LabelClass("road", (3, 4), (1, 1, 1)))
    space = LabelSpace("ids", classes, (255,))
    metrics = metrics_from_confusion(matrix_of([6, 2], [0, 0]), "skip_absent")
    contents = metrics.to_dict(space, {"images": 3})
    assert isinstance(metrics, Metrics)
    assert {"mIoU", "mAcc", "aAcc", "mDice", "mFscore", "mPrecision", "mRecall", "fwIoU"} <= set(contents)
    assert contents["policy"] == {"absent_classes": "skip_absent", "beta": 1.0, "images": 3}
    assert contents["mIoU_by_policy"]["skip_empty"] == 37.5
    sky, road = contents["per_class"]
    assert (sky["label_id"], sky["name"], sky["IoU"], sky["intersection"]) == (7, "sky", 75.0, 6)
    assert (road["label_id"], road["IoU"], road["prediction"], road["truth"]) == (3, None, 2, 0)


def image_counts(images: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    matrices = torch.from_numpy(generator.integers(0, 1000, (images, 3, 3)))
    return counts_from_confusion(matrices).numpy()


def test_counts_of_stacked_matrices_are_those_of_each() -> None:
    matrices = torch.arange(18).reshape(2, 3, 3)
    assert counts_from_confusion(matrices)[1].tolist() == [[9, 13, 17], [36, 39, 42], [30, 39, 48]]


def test_bootstrap_intervals_are_percentiles_of_resampled_data_sets() -> None:
    counts = image_counts(12, 0)
    intervals = bootstrap_intervals(counts, resamples=300, seed=5)
    weights = np.random.default_rng(5).multinomial(12, [1 / 12] * 12, size=300)
    figures = []
    for weight in weights:
        total = sum(int(w) * c for w, c in zip(weight, counts, strict=True))
        figures.append([100 * i / (p + t - i) for i, p, t in total.T])
    assert intervals.iou[1] == pytest.approx(np.percentile([figure[1] for figure in figures], [2.5, 97.5]))
    assert intervals.miou == pytest.approx(np.percentile(np.mean(figures, axis=1), [2.5, 97.5]))


def test_equal_images_leave_no_doubt_and_empty_classes_no_interval() -> None:
    counts = np.repeat(np.array([[[5, 0, 0], [10, 0, 0], [5, 0, 3]]]), 4, axis=0)
    intervals = bootstrap_intervals(counts)
    assert intervals.iou == (pytest.approx((50, 50)), None, pytest.approx((0, 0)))
    assert intervals.miou == pytest.approx((25, 25))
    assert bootstrap_intervals(counts, policy="zero").iou[1] == (0, 0)


def test_paired_intervals_are_of_the_difference() -> None:
    first = image_counts(20, 1)
    better = first.copy()
    better[:, 0, 0] = np.minimum(better[:, 1, 0], better[:, 2, 0])  # class 0: the best overlap there can be
    same = paired_bootstrap_intervals(first, first)
    assert same.miou == (0, 0) and set(same.iou) == {(0, 0)}
    gain = paired_bootstrap_intervals(first, better)
    assert gain.iou[0][0] > 0 and gain.iou[1] == (0, 0)
    assert gain.miou[0] > 0


def test_bootstraps_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="an image and a resample at least; got 0 and 1000"):
        bootstrap_intervals(image_counts(3, 0)[:0])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_bootstrap_intervals(image_counts(3, 0), image_counts(3, 1))


def test_a_thousand_resamples_of_a_large_data_set_take_seconds() -> None:
    counts = np.random.default_rng(0).integers(0, 1000, (2000, 3, 150))
    counts[:, 1:] += counts[:, :1]
    intervals = bootstrap_intervals(counts)
    assert len(intervals.iou) == 150 and intervals.miou[0] < intervals.miou[1]


@pytest.mark.gpu
def test_the_gpu_counts_the_same() -> None:
    prediction, truth = (torch.from_numpy(values) for values in label_maps(150, 255, 300, 401, 3))
    on_gpu = confusion_matrix(prediction.cuda(), truth.cuda(), 150)
    assert on_gpu.is_cuda and torch.equal(on_gpu.cpu(), confusion_matrix(prediction, truth, 150))
