"""Model cards: what the Hub reads of them, what people read, and what is not in them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from dinoseg.config.loading import load_config
from dinoseg.hub.layout import BackboneRecord
from dinoseg.hub.public_metrics import public_metrics
from dinoseg.labels import LabelSpace
from dinoseg.report.model_card import CardFacts, model_card
from dinoseg.zoo.address import Address
from dinoseg.zoo.published import PublishedSource

NAMES = {0: "rest", 3: "a|b", 4: "<b>vein</b>\n`x`"}


def _row(index: int, label_id: int, name: str) -> dict[str, Any]:
    figures = {"IoU": 50.0 + index, "Dice": 60.0, "precision": 70.0, "recall": None, "IoU_interval": [40.0, 55.5]}
    return {"class_index": index, "label_id": label_id, "name": name, **figures, "truth": 1234}


def _metrics() -> dict[str, Any]:
    return {
        "mIoU": 51.0,
        "mAcc": 62.5,
        "aAcc": 90.0,
        "mDice": 60.123456,
        "constant": {"class_index": 1, "mIoU": 60.0, "mAcc": 1.0, "aAcc": 70.0, "mDice": 1.0},
        "confidence": {"coverage": 95, "resamples": 1000, "mIoU": [45.0, 57.0]},
        "per_class": [_row(index, label, name) for index, (label, name) in enumerate(NAMES.items())],
        "policy": {
            "images": 4,
            "images_available": 4,
            "resolution": "native",
            "absent_classes": "skip_empty",
            "ignored_label_ids": [255],
            "members": [{"run": "/home/me/run", "checkpoint": "best"}],
        },
        "per_image": {"mIoU": 50.5, "images": 4, "worst": [{"name": "patient_7", "mIoU": 1.0}]},
        "per_volume": {"volumes": 1, "mIoU": 1.0, "mDice": 1.0, "per_class": [], "figures": [{"name": "patient_7"}]},
        "overrides": ["eval.use_tta=true", "datasets.root=/home/me/data"],
    }


def _facts(backbone: str = "dinov2_vits14", weights: str = "hub", base: str | None = "timm/some") -> CardFacts:
    return CardFacts(
        repository="user/retina-run",
        config=load_config(
            [f"model.dino_hub={backbone}", "transforms.train.crop_size=[64, 96]", "decoder_head.type=m2f"]
        ),
        label_space=LabelSpace.build(NAMES, 255, None, ()),
        backbone=BackboneRecord.model_validate({"name": backbone, "sha256": "ab" * 32, "weights": weights}),
        base_model=base,
        metadata={
            "train_images": "12 (SHA-256 of their names abcdef...)",
            "val_images": "4 (SHA-256 ...)",
            "step": "80",
        },
        split="test",
        metrics=public_metrics(_metrics()),
    )


def test_what_the_hub_reads() -> None:
    data = ModelCard(model_card(_facts())).data
    assert (data.library_name, data.pipeline_tag, data.base_model) == ("dinoseg", "image-segmentation", "timm/some")
    assert data.license == "apache-2.0" and data.license_name is None
    assert data.tags == ["dinoseg", "semantic-segmentation", "dinov2", "m2f"]
    assert data.model_name == "retina-run"
    results = {result.metric_type: result.metric_value for result in data.eval_results}
    assert results == {"mean_iou": 51.0, "dice": 60.1235, "mean_accuracy": 62.5, "accuracy": 90.0}
    assert {(result.task_type, result.dataset_split) for result in data.eval_results} == {
        ("image-segmentation", "test")
    }


def test_the_licence_is_that_of_the_backbone() -> None:
    data = ModelCard(model_card(_facts("dinov3_vits16"))).data
    link = "https://ai.meta.com/resources/models-and-libraries/dinov3-license"
    assert (data.license, data.license_name, data.license_link) == ("other", "dinov3-license", link)
    tiny = model_card(_facts("tiny_vit8", "included", None))
    assert ModelCard(tiny).data.license == "apache-2.0" and ModelCard(tiny).data.base_model is None
    random = model_card(replace(_facts("tiny_vit8", "included", None), pretrained=False))
    assert ModelCard(random).data.license is None and "began with random weights, which are nobody's." in random


def test_what_people_read() -> None:
    card = model_card(_facts())
    for line in (
        "# retina-run",
        "Semantic segmentation into 3 classes: dinov2_vits14 (frozen), Mask2Former head. Made with dinoseg.",
        "dinoseg predict hf:user/retina-run images/ --out predictions/ eval.use_tta=true",
        'segmenter = dinoseg.load("hf:user/retina-run", overrides=["eval.use_tta=true"])',
        "- images: 12 for training, 4 for validation",
        "- crops of 64 × 96 px",
        "- ignored pixels, which count nowhere: those of label id 255",
        "## Figures: test",
        "| mIoU | 51.00 | 45.00 to 57.00 |",
        "| 0 | rest | 50.00 | 40.00 to 55.50 | 60.00 | 70.00 | n/a | 1,234 |",
        "| 3 | a&#124;b | 51.00 | 40.00 to 55.50 | 60.00 | 70.00 | n/a | 1,234 |",
        "To predict a&#124;b everywhere scores mIoU 60.00, aAcc 70.00; in mIoU this run is not better.",
        "Measured with&#58; eval.use_tta&#61;true, datasets.root&#61;....",
    ):
        assert line.replace("Measured with&#58;", "Measured with:") in card.splitlines(), line
    assert "4 images, each counted once. An interval over so few means little. Every pixel at native size." in card
    assert "Pixels of label id 255 count nowhere." in card


def test_no_path_and_no_name_of_an_image_is_told() -> None:
    facts = _facts()
    for secret in ("/home/me", "patient_7", "abcdef"):
        assert secret not in model_card(facts) and secret not in str(facts.metrics)
    assert facts.metrics is not None
    assert facts.metrics["per_image"] == {"mIoU": 50.5, "images": 4}
    assert facts.metrics["per_volume"] == {"volumes": 1, "mIoU": 1.0, "mDice": 1.0, "per_class": []}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("hub", "The backbone, `dinov2_vits14`, is fetched from [timm/some](https://huggingface.co/timm/some)"),
        ("file", "had its weights from a file that is not here"),
        ("included", "The whole model is here, its backbone included: nothing else is fetched."),
    ],
)
def test_where_the_backbone_is(weights: str, said: str) -> None:
    card = model_card(_facts(weights=weights))
    assert said in card and ("model.weights=FILE" in card) == (weights == "file")


def test_a_head_is_named_by_its_repository_and_never_by_its_path(tmp_path: Path) -> None:
    for place in ("heads/mine", "heads"):
        (tmp_path / place).mkdir(exist_ok=True, parents=True)
    file = tmp_path / "heads" / "model.safetensors"
    file.write_bytes(b"weights")

    def card_of(text: str) -> str:
        source = PublishedSource(Address.parse(text), file, "hub")
        assert source.metadata["source"] == text
        return model_card(replace(_facts(), metadata=source.metadata))

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for local in ("hf:heads/mine", "hf:heads", f"hf:{file}", "hf:./heads"):
            assert "heads" not in card_of(local) and "The head was made" not in card_of(local)
    assert "The head was made from that of hf&#58;owner/name&#64;v2, which" in card_of("hf:owner/name@v2")


def test_without_figures_and_pictures_there_are_none() -> None:
    facts = replace(_facts(), metrics=None, split="")
    card = model_card(facts)
    assert "Not evaluated." in card and "model-index" not in card and "## Pictures" not in card
    assert "](pictures/1.png)" in model_card(replace(facts, pictures=("pictures/1.png",)))
