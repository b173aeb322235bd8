"""The segmenter: every head that is listed can be configured and built, and has a loss."""

import pytest
import torch

from dinoseg.config.loading import load_config
from dinoseg.labels import LabelSpace
from dinoseg.losses.criterion import build_criterion
from dinoseg.models.segmenter import HEADS, build_segmenter


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_a_loss_scores_and_class_layers(head: str) -> None:
    config = load_config([f"decoder_head.type={head}", "model.dino_hub=tiny_vit8", "model.weights=none"])
    space = LabelSpace.build({0: "back", 1: "red", 2: "green"}, None, None, found_ids=[0, 1, 2])
    segmenter = build_segmenter(config, space.num_classes)
    image, class_map = torch.randn(2, 3, 40, 56), torch.randint(0, 3, (2, 40, 56))
    terms = build_criterion(config, space, [1, 1, 1])(segmenter(image), class_map)
    assert all(term.isfinite() for term in terms.values())
    assert segmenter.semantic_logits(image).shape == (2, 3, 40, 56)
    for layer in segmenter.head.class_layers:
        rows = segmenter.head.get_submodule(layer).weight.shape[0]
        assert rows == (4 if segmenter.head.predicts == "masks" else 3)
