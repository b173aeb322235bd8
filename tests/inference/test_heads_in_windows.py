"""Real heads in the window engine: stripes change nothing, whatever the size of image and window."""

import pytest
import torch

from dinoseg.config.loading import load_config
from dinoseg.inference.policy import WindowPolicy
from dinoseg.inference.tta import TtaPolicy
from dinoseg.inference.windows import infer_scores, predict_class_map
from dinoseg.models.segmenter import HEADS, build_segmenter

SMALL = {
    "dense": ["decoder_head.stem_widths=[8,8,16,16]", "decoder_head.context_widths=[16]", "model.backbone_scale=1.5"],
    "pmt": ["decoder_head.num_queries=6", "decoder_head.decoder_layers=2"],
    "eomt": ["decoder_head.num_queries=6", "decoder_head.decoder_layers=2"],
}


@pytest.mark.filterwarnings("ignore:.*random initialisation")
@pytest.mark.parametrize("head", HEADS)
def test_stripes_give_what_the_whole_gives(head: str) -> None:
    torch.manual_seed(0)
    given = [f"decoder_head.type={head}", "model.dino_hub=tiny_vit8", "model.weights=none", *SMALL.get(head, [])]
    segmenter = build_segmenter(load_config(given), 5).eval()
    image = torch.randn(3, 83, 61)
    for tta in (None, TtaPolicy(scales=(0.7, 1.0))):
        policy = WindowPolicy(mode="slide", crop=(48, 40), stride=(32, 27), blend="hann", tta=tta)
        expected = infer_scores(segmenter, image, policy).argmax(dim=0)
        for rows in (1, 17, 83):
            assert torch.equal(predict_class_map(segmenter, image, policy, stripe_rows=rows).long(), expected)
    whole = predict_class_map(segmenter, image, WindowPolicy(mode="whole"))
    assert whole.shape == (83, 61)
