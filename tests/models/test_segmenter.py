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


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize("head", HEADS)
def test_every_head_takes_features_of_a_larger_image(head: str) -> None:
    given = [f"decoder_head.type={head}", "model.dino_hub=tiny_vit8", "model.weights=none", "model.backbone_scale=1.7"]
    segmenter = build_segmenter(load_config(given), 3).eval()
    image = torch.randn(1, 3, 40, 56)
    # 1.7 times 40 and 56 are 68 and 95.2: 9 and 12 patches of 8.
    assert {tuple(layer.map.shape[-2:]) for layer in segmenter.backbone(image)} == {(9, 12)}
    with torch.no_grad():
        scores = segmenter.semantic_logits(image)
        assert torch.equal(segmenter.semantic_logits(image, segmenter.backbone(image)), scores)
    assert scores.shape == (1, 3, 40, 56) and scores.isfinite().all()
