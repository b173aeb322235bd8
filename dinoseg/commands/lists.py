"""``options``, ``backbones`` and ``zoo``: arguments and options."""

from typing import Annotated

import typer

from dinoseg.system.terminal import terminal


def options(
    word: Annotated[str | None, typer.Argument(metavar="[WORD]", help="Part of a key or of its sentence.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print all of them as docs/options.md.")] = False,
) -> None:
    """List config keys: default, values and meaning."""
    from dinoseg.console.option_help import find_options, options_markdown

    print(options_markdown() if markdown else find_options(word), end="" if markdown else "\n")


def backbones() -> None:
    """List backbones: name, parameters, patch size, licence, where the weights come from."""
    from dinoseg.backbone.catalogue import list_backbones

    for spec in list_backbones():
        sizes = f"{spec.parameters:>6.1f} M  patch {spec.patch_size}  width {spec.embed_dim:<4}  {spec.licence}"
        print(f"{spec.name:<22} {sizes}\n    {spec.origin}")


def zoo(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List published heads: backbone, classes, published figure, licence, where the weights come from."""
    from dinoseg.verbs.zoo import print_heads

    print_heads(terminal(), as_json)
