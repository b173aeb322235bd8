"""``load_from=hf:...``: a training that starts from a pushed run, or a published head."""

from dinoseg.backbone import BackboneSpec
from dinoseg.hub.pushed_run import find_pushed_run
from dinoseg.labels import LabelSpace
from dinoseg.models.pmt_head import PmtHead
from dinoseg.models.segmenter import Segmenter
from dinoseg.system.messages import named_as
from dinoseg.training.class_rows import ClassRows
from dinoseg.training.load_from import load_from
from dinoseg.zoo.address import Address
from dinoseg.zoo.files import head_file
from dinoseg.zoo.pmt_state import FFN_RATIO, PmtSizes, load_decoder, read_decoder
from dinoseg.zoo.published import published_labels


def load_address(segmenter: Segmenter, address: Address, label_space: LabelSpace) -> str:
    """Loads what an address names: a pushed run as ``load_from`` does a run folder, else a published head.

    Raises:
        ValueError: see ``find_pushed_run``, ``load_from`` and ``load_published``.
    """
    pushed = find_pushed_run(address)
    if pushed is None:
        return load_published(segmenter, address, label_space)
    with named_as(pushed.folder, address.text):
        return load_from(segmenter, pushed.folder, label_space).replace(str(pushed.folder), address.text)


def load_published(segmenter: Segmenter, address: Address, label_space: LabelSpace) -> str:
    """Loads a published head into one of the same sizes; returns what was done, in words.

    Queries and decoder are kept. A class keeps its row of the class layer where the head is known by name and has a
    class of that name; for other classes, and of another head, the layer stays as it was initialised.

    Args:
        segmenter: freshly built; unchanged on error.
        label_space: of the training that starts.

    Raises:
        ValueError: the file is not to be had, holds no such head, or one of other sizes or for another backbone.
    """
    source = f"load_from={address.text}"
    state = read_decoder(head_file(address), source)
    sizes, head = PmtSizes.of(state, source), segmenter.head
    spec = segmenter.backbone.spec
    if not isinstance(head, PmtHead) or spec.embed_dim != sizes.width or _sizes_of(head) != sizes.settings():
        needed = " ".join(_needed(sizes, address, spec, head))
        raise ValueError(f"{source}: a head of other sizes than the one that is trained; add {needed}")
    theirs = None if address.head is None else published_labels(address, ()).class_names
    rows = ClassRows(theirs, label_space.class_names, sizes.num_classes)
    ours = head.state_dict()
    names = [f"{layer}.{part}" for layer in head.class_layers for part in ("weight", "bias")]
    carried = {name: rows.carry_over(ours[name], state[name]) for name in names if name in state}
    load_decoder(head, {**state, **carried}, source)
    return f"{source}: {len(state)} tensors of the head loaded, {sizes.queries} queries among them; {rows}"


def _sizes_of(head: PmtHead) -> list[str]:
    return PmtSizes.of(head.state_dict(), "").settings()


def _needed(sizes: PmtSizes, address: Address, spec: BackboneSpec, head: object) -> list[str]:
    """The settings that a training lacks for a head of these sizes."""
    settings, given = sizes.settings(), _sizes_of(head) if isinstance(head, PmtHead) else []
    if sizes.ffn_dim == FFN_RATIO * sizes.width:
        # What it is when left out.
        settings = [setting for setting in settings if not setting.startswith("decoder_head.decoder_ffn_dim=")]
    if spec.embed_dim != sizes.width:
        fitting = sizes.fitting_backbones() if address.head is None else [address.head.backbone]
        settings.insert(0, f"model.dino_hub={fitting[0] if fitting else '(the one it was trained on)'}")
    return [setting for setting in settings if setting not in given]
