"""The backbones known by name: their sizes, licences and where published weights come from."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import timm

TIMM_PREFIX = "timm:"

_APACHE = "Apache-2.0"
_DINOV3_LICENCE = "DINOv3 License"


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone: what it is, not how it is built.

    ``patch_size``: image sizes are rounded up to a multiple of it. For a ViT the side of a patch, for a ConvNeXt
    the stride of its last stage, in pixels. ``embed_dim``: channels of the last layer. ``depth``: number of layers
    that can be tapped (blocks of a ViT, stages of a ConvNeXt). ``parameters``: in millions, classifier excluded.
    ``origin``: where ``model.weights=hub`` fetches the weights. ``files``: local files or folders that do as well.
    """

    name: str
    timm_name: str
    kind: Literal["vit", "convnext"]
    patch_size: int
    embed_dim: int
    depth: int
    parameters: float
    licence: str
    origin: str
    files: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def _dinov3_vit(
    name: str, timm_name: str, embed_dim: int, depth: int, parameters: float, aliases: tuple[str, ...] = ()
) -> BackboneSpec:
    published = f"dinov3-{name}-pretrain-lvd1689m"
    return BackboneSpec(
        name=f"dinov3_{name}",
        timm_name=f"{timm_name}.lvd1689m",
        kind="vit",
        patch_size=16,
        embed_dim=embed_dim,
        depth=depth,
        parameters=parameters,
        licence=_DINOV3_LICENCE,
        origin=f"https://huggingface.co/timm/{timm_name}.lvd1689m",
        files=(
            f"Meta's dinov3_{name}_pretrain_lvd1689m-*.pth",
            f"the transformers folder of facebook/{published}",
            f"the model.safetensors of https://huggingface.co/timm/{timm_name}.lvd1689m",
        ),
        aliases=(name, *aliases),
    )


def _dinov3_convnext(size: str, embed_dim: int, parameters: float) -> BackboneSpec:
    name = f"convnext_{size}"
    published = f"dinov3-convnext-{size}-pretrain-lvd1689m"
    return BackboneSpec(
        name=f"dinov3_{name}",
        timm_name=f"{name}.dinov3_lvd1689m",
        kind="convnext",
        patch_size=32,
        embed_dim=embed_dim,
        depth=4,
        parameters=parameters,
        licence=_DINOV3_LICENCE,
        origin=f"https://huggingface.co/timm/{name}.dinov3_lvd1689m",
        files=(
            f"Meta's dinov3_{name}_pretrain_lvd1689m-*.pth",
            f"the transformers folder of facebook/{published}",
            f"the model.safetensors of https://huggingface.co/timm/{name}.dinov3_lvd1689m",
        ),
        aliases=(name,),
    )


def _dinov2_vit(letter: str, size: str, embed_dim: int, depth: int, parameters: float, registers: bool) -> BackboneSpec:
    name = f"dinov2_vit{letter}14" + ("_reg" if registers else "")
    timm_name = f"vit_{size}_patch14_{'reg4_' if registers else ''}dinov2.lvd142m"
    published = f"dinov2-{'with-registers-' if registers else ''}{size}"
    return BackboneSpec(
        name=name,
        timm_name=timm_name,
        kind="vit",
        patch_size=14,
        embed_dim=embed_dim,
        depth=depth,
        parameters=parameters,
        licence=_APACHE,
        origin=f"https://huggingface.co/timm/{timm_name}",
        files=(
            f"Meta's dinov2_vit{letter}14{'_reg4' if registers else ''}_pretrain.pth",
            f"the transformers folder of facebook/{published}",
            f"the model.safetensors of https://huggingface.co/timm/{timm_name}",
        ),
        aliases=(f"dinov2_vit{letter}14_reg4",) if registers else (),
    )


def _tiny_vit(patch_size: int, parameters: float) -> BackboneSpec:
    return BackboneSpec(
        name=f"tiny_vit{patch_size}",
        timm_name="",
        kind="vit",
        patch_size=patch_size,
        embed_dim=96,
        depth=4,
        parameters=parameters,
        licence=_APACHE,
        origin="none published: random initialisation (model.weights=none), or a file you trained",
    )


# The DINOv3 weights have biases on queries and values (keys have none): of timm's two variants "_qkvb" holds them.
# The 7B model was trained without. Parameters: counted on the models as timm builds them, in millions.
_CATALOGUE: tuple[BackboneSpec, ...] = (
    _dinov3_vit("vits16", "vit_small_patch16_dinov3_qkvb", 384, 12, 21.596),
    _dinov3_vit(
        "vits16plus",
        "vit_small_plus_patch16_dinov3_qkvb",
        384,
        12,
        28.692,
        ("dinov3_vitsplus16", "vitsplus16"),
    ),
    _dinov3_vit("vitb16", "vit_base_patch16_dinov3_qkvb", 768, 12, 85.660),
    _dinov3_vit("vitl16", "vit_large_patch16_dinov3_qkvb", 1024, 24, 303.129),
    _dinov3_vit(
        "vith16plus",
        "vit_huge_plus_patch16_dinov3_qkvb",
        1280,
        32,
        840.591,
        ("dinov3_vithplus16", "vithplus16"),
    ),
    _dinov3_vit("vit7b16", "vit_7b_patch16_dinov3", 4096, 40, 6716.031),
    _dinov3_convnext("tiny", 768, 27.820),
    _dinov3_convnext("small", 768, 49.455),
    _dinov3_convnext("base", 1024, 87.566),
    _dinov3_convnext("large", 1536, 196.230),
    _dinov2_vit("s", "small", 384, 12, 22.056, False),
    _dinov2_vit("b", "base", 768, 12, 86.580, False),
    _dinov2_vit("l", "large", 1024, 24, 304.368, False),
    _dinov2_vit("g", "giant", 1536, 40, 1136.479, False),
    _dinov2_vit("s", "small", 384, 12, 22.057, True),
    _dinov2_vit("b", "base", 768, 12, 86.582, True),
    _dinov2_vit("l", "large", 1024, 24, 304.371, True),
    _dinov2_vit("g", "giant", 1536, 40, 1136.484, True),
    _tiny_vit(4, 0.477),
    _tiny_vit(8, 0.491),
)


def list_backbones() -> tuple[BackboneSpec, ...]:
    """All backbones with a name of their own; any timm ViT can be had beside them as ``timm:<model name>``."""
    return _CATALOGUE


def find_backbone(name: str) -> BackboneSpec:
    """The spec of a catalogue name or alias.

    Raises:
        ValueError: unknown name; the message holds the nearest known ones.
    """
    for spec in _CATALOGUE:
        if name == spec.name or name in spec.aliases:
            return spec
    known = [known for spec in _CATALOGUE for known in (spec.name, *spec.aliases)]
    raise ValueError(
        f"model.dino_hub: unknown backbone {name!r}. {_nearest(name, known)} `dinoseg backbones` lists all names; "
        f"any timm ViT is {TIMM_PREFIX}<model name>."
    )


def check_timm_name(name: str) -> None:
    """Raises ValueError when timm (as installed) has no model ``name`` (without the ``timm:`` prefix)."""
    if timm.is_model(name):
        return
    raise ValueError(
        f"model.dino_hub: timm {timm.__version__} has no model {name!r}. {_nearest(name, timm.list_models())}"
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.4)
    return f"Nearest: {', '.join(found)}." if found else "No known name is near."
