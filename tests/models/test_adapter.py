"""The adapter: a pyramid from an image and four maps of patch features."""

import pytest
import torch
from torch import Tensor

from dinoseg.models.adapter import Adapter, ConvolutionalFFN


def small_adapter(drop_path: float = 0.0, activation_checkpointing: bool = False) -> Adapter:
    torch.manual_seed(0)
    return Adapter(embed_dim=32, inplane=4, drop_path=drop_path, activation_checkpointing=activation_checkpointing)


def small_inputs(batch: int = 2, grid: tuple[int, int] = (4, 6)) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(batch, 3, 64, 96, generator=generator)
    return image, [torch.randn(batch, 32, *grid, generator=generator) for _ in range(4)]


@pytest.mark.parametrize("grid", [(4, 6), (5, 7), (1, 1)])
def test_gives_strides_4_to_32_whatever_the_patch_grid(grid: tuple[int, int]) -> None:
    image, maps = small_inputs(grid=grid)
    pyramid = small_adapter()(image, maps)
    assert [tuple(level.shape) for level in pyramid] == [
        (2, 32, 16, 24),
        (2, 32, 8, 12),
        (2, 32, 4, 6),
        (2, 32, 2, 3),
    ]


def test_only_the_last_block_has_extra_extractors() -> None:
    counts = [len(getattr(block, "extra_extractors", ())) for block in small_adapter().interactions]
    assert counts == [0, 0, 0, 2]


def test_the_convolution_of_the_ffn_stays_within_each_level() -> None:
    torch.manual_seed(0)
    ffn, shapes = ConvolutionalFFN(dim=8, hidden=4), ((3, 4), (2, 3))
    tokens = torch.randn(1, 18, 8)
    changed = tokens.clone()
    changed[0, 5] += 1  # row 1, column 1 of the first level: its nine neighbours hear of it
    moved = (ffn(changed, shapes) != ffn(tokens, shapes)).any(dim=-1)[0]
    neighbours = torch.zeros(3, 4, dtype=torch.bool)
    neighbours[:3, :3] = True
    assert torch.equal(moved, torch.cat([neighbours.flatten(), torch.zeros(6, dtype=torch.bool)]))


def test_each_tapped_map_is_added_to_its_level() -> None:
    adapter = small_adapter().eval()
    image, maps = small_inputs()
    with torch.no_grad():
        # With the value projection at zero, interactions say the same whatever the maps hold.
        for module in adapter.modules():
            if hasattr(module, "value_proj"):
                module.value_proj.weight.zero_()
        before = adapter(image, maps)
        after = adapter(image, [maps[0] + 1, maps[1], maps[2], maps[3] + 2])
    # A fresh batch norm in eval mode divides by sqrt(1 + eps) only.
    for level, shift in enumerate([1.0, 0.0, 0.0, 2.0]):
        difference = after[level] - before[level]
        torch.testing.assert_close(difference, torch.full_like(difference, shift), rtol=1e-4, atol=1e-4)


def test_drop_path_acts_in_training_only() -> None:
    adapter = small_adapter(drop_path=0.5)
    image, maps = small_inputs()
    with torch.no_grad():
        first, second = adapter(image, maps), adapter(image, maps)
        assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
        adapter.eval()
        first, second = adapter(image, maps), adapter(image, maps)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_activation_checkpointing_changes_no_value_and_no_gradient() -> None:
    results = []
    for checkpointing in (False, True):
        adapter = small_adapter(drop_path=0.5, activation_checkpointing=checkpointing)
        image, maps = small_inputs()
        torch.manual_seed(3)
        pyramid = adapter(image, maps)
        sum((level * level.detach().cos()).sum() for level in pyramid).backward()
        gradients = [parameter.grad for parameter in adapter.parameters() if parameter.grad is not None]
        results.append([*pyramid, *gradients])
    assert len(results[0]) == len(results[1])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=0, atol=0)


def test_in_eval_mode_an_image_does_not_depend_on_its_batch_mate() -> None:
    adapter = small_adapter().eval()
    image, maps = small_inputs()
    with torch.no_grad():
        together = adapter(image, maps)
        alone = adapter(image[:1], [level[:1] for level in maps])
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[:1], one, rtol=1e-4, atol=1e-5)
