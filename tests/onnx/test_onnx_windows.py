"""Windows in numpy give what the window engine gives in PyTorch."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dinoseg.data.transforms import resize_image
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.windows import infer_scores
from dinoseg.onnx.resampling import Taps, resized
from dinoseg.onnx.windows import Windows


class PlaceSensitive(torch.nn.Module):
    """Scores that depend on the pixel and on where it lies in its window."""

    num_classes = 3
    scores_are_probabilities = False

    def semantic_logits(self, image: Tensor) -> Tensor:
        rows = torch.linspace(-1, 1, image.shape[-2])[:, None]
        columns = torch.linspace(0, 1, image.shape[-1])[None]
        return torch.stack([image[:, 0] + rows, image[:, 1] * columns, image.mean(dim=1)], dim=1)


def _numpy_model(windows: np.ndarray) -> np.ndarray:
    return PlaceSensitive().semantic_logits(torch.from_numpy(windows)).numpy()


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    # Smaller ones are thousands, each a call of the model.
    window=st.tuples(st.integers(4, 20), st.integers(4, 20)),
    blend=st.sampled_from(["uniform", "gaussian", "hann"]),
    img_size=st.sampled_from([None, 7, 23]),
    seed=st.integers(0, 9),
)
def test_scores_equal_the_window_engine(
    height: int, width: int, window: tuple[int, int], blend: str, img_size: int | None, seed: int
) -> None:
    image = np.random.default_rng(seed).normal(size=(3, height, width)).astype(np.float32)
    stride = (max(1, window[0] * 2 // 3), max(1, window[1] // 2))
    policy = WindowPolicy("slide", window, stride, 1, blend, img_size)  # type: ignore[arg-type]
    expected = infer_scores(PlaceSensitive(), torch.from_numpy(image), policy).numpy()
    bands = list(Windows(window, stride, blend, img_size).scores(_numpy_model, image))
    np.testing.assert_allclose(np.concatenate(bands, axis=1), expected, atol=2e-5)


def test_rows_are_given_as_soon_as_no_window_reaches_into_them() -> None:
    image = np.zeros((3, 100, 8), np.float32)
    bands = Windows((10, 8), (10, 8)).scores(_numpy_model, image)
    assert [band.shape[1] for band in bands] == [10] * 10


@given(source=st.integers(1, 60), output=st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_resizing_equals_pytorch(source: int, output: int) -> None:
    image = np.random.default_rng(source).normal(size=(2, source, 5)).astype(np.float32)
    expected = resize_image(torch.from_numpy(image), (output, 5)).numpy()
    np.testing.assert_allclose(resized(image, (output, 5)), expected, atol=5e-5)


def test_weights_of_a_tap_add_up_to_one() -> None:
    for source, output in ((7, 3), (3, 7), (5, 5), (1, 4), (64, 1)):
        for antialias in (True, False):
            np.testing.assert_allclose(Taps.between(source, output, antialias).weights.sum(axis=1), 1, rtol=1e-6)
