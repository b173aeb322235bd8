"""The known heads agree with what is known of their classes and backbones."""

from dinoseg.backbone.catalogue import find_backbone
from dinoseg.config.class_files import read_classes
from dinoseg.zoo.catalogue import find_head, list_heads, nearest_head


def test_every_head_names_classes_and_a_backbone_that_are_there() -> None:
    heads = list_heads()
    assert len({head.name for head in heads}) == len(heads) == 5
    for head in heads:
        assert len(read_classes(head.classes).classes) == head.num_classes
        spec = find_backbone(head.backbone)
        assert spec.licence == head.backbone_licence == "DINOv3 License"
        # The name says both.
        size = {384: "small", 768: "base", 1024: "large"}[spec.embed_dim]
        assert f"_{size}_{head.window}_" in head.name and head.task in head.name


def test_figures_are_of_what_they_are_called() -> None:
    figures = {head.name.removeprefix("tue-mps/"): (head.mean_iou, head.figure.name) for head in list_heads()}
    assert figures["ade20k_semantic_pmt_large_512_dinov3"] == (58.5, "mIoU")
    assert figures["coco_panoptic_pmt_large_640_dinov3"] == (None, "PQ")


def test_a_head_is_found_by_its_name_or_that_of_its_folder() -> None:
    for name in ("tue-mps/ade20k_semantic_pmt_large_512_dinov3", "ade20k_semantic_pmt_large_512_dinov3"):
        head = find_head(name)
        assert head is not None and head.num_classes == 150
    assert find_head("other/ade20k_semantic_pmt_large_512_dinov3") is None


def test_a_likely_name_is_hinted_at() -> None:
    assert nearest_head("tue-mps/ade20k_semantic_pmt_large_512") == (
        "did you mean hf:tue-mps/ade20k_semantic_pmt_large_512_dinov3? "
    )
    assert nearest_head("somebody/something") == ""
