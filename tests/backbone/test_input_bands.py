"""Patch embeddings for pictures of other than three bands."""

import pytest
import torch

from dinoseg.backbone import build_backbone
from dinoseg.backbone.input_bands import PictureBands, widened

pytestmark = pytest.mark.filterwarnings("ignore:backbone .*random initialisation")


def test_kernels_by_hand() -> None:
    kernel = torch.tensor([3.0, 6.0, 18.0])[None, :, None, None]

    def found(bands: int, how: str) -> list[float]:
        return widened(kernel, bands, how).flatten().tolist()

    assert found(4, "mean") == [6.75] * 4
    assert found(1, "mean") == [27.0]
    assert found(6, "copy") == [1.5, 1.5, 3.0, 3.0, 9.0, 9.0]
    assert found(1, "copy") == [18.0]
    # One band of red, two of green, one of blue: grey in all of them sums to 24.75, and to 27 in the three.
    assert found(4, "copy") == [2.25, 4.5, 4.5, 13.5]
    assert found(5, "zero") == [3.0, 6.0, 18.0, 0.0, 0.0]
    assert found(2, "zero") == [3.0, 6.0]
    with pytest.raises(ValueError, match=r"model\.band_weights=none: choose one of mean, copy, zero"):
        widened(kernel, 4, "none")


@pytest.mark.parametrize("name", ["tiny_vit8", "timm:convnext_atto"])
def test_grey_in_every_band_is_what_grey_is_to_three(name: str) -> None:
    torch.manual_seed(0)
    rgb = build_backbone(name, "none")
    torch.manual_seed(0)
    five = build_backbone(name, "none", bands=PictureBands(5, "mean"))
    grey = torch.rand(1, 1, 32, 32)
    first, second = (model(grey.expand(1, count, 32, 32))[0].map for model, count in ((rgb, 3), (five, 5)))
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
    assert not any(value.requires_grad for value in five.parameters())


def test_only_the_embedding_is_trained_and_it_is_no_part_of_the_frozen_state() -> None:
    backbone = build_backbone("tiny_vit8", "none", bands=PictureBands(4, "zero", trained=True))
    trained = [name for name, value in backbone.named_parameters() if value.requires_grad]
    assert trained == ["model.patch_embed.proj.weight"] and trained[0] not in backbone.frozen_state()
    backbone(torch.rand(1, 4, 16, 16))[0].map.sum().backward()
    weight = backbone.model.patch_embed.proj.weight
    assert weight.grad is not None and bool(weight.grad[:, 3].abs().sum() > 0)
