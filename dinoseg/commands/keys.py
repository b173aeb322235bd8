"""Commands that list config keys in their help, and the arguments that several verbs have."""

import difflib
import os
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

# Of dinoseg.data.pairs, whose import takes a while.
_SPLITS = ("train", "val", "test")


class CommandWithKeys(TyperCommand):
    """A verb whose ``--help`` also lists config keys: those changed first, or with ``--help-all`` all it uses."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--help-all" in args:
            self._print_help(ctx, whole=True)
            ctx.exit()
        from dinoseg.config.loading import refuse_pieces

        refuse_pieces(args)
        self._refuse_keys_as_options(ctx, args)
        self._refuse_bare_split(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_keys_as_options(self, ctx: Any, args: list[str]) -> None:
        """``--bs 4``, as other tools have it, is answered with ``bs=4``."""
        own = {name for parameter in self.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts)}
        for word, following in pairwise([*args, ""]):
            name, equals, value = word.partition("=")
            if word == "--":
                return
            if name.startswith("--") and name not in own and not _is_near(name, own):
                from dinoseg.config.likely_keys import likely_keys, unit_remark

                key = name[2:].replace("-", "_")
                likely, remark = likely_keys(key, verb=str(self.name)), unit_remark(key)
                if likely:
                    given = value if equals else following if following[:1] not in ("", "-") else "VALUE"
                    said = f"write {likely[0]}={'STEPS' if remark else given}{remark and f'.{remark}'}"
                    raise ValueError(f"{name}: no such option; settings are key=value: {said}")

    def _refuse_bare_split(self, ctx: Any, args: list[str]) -> None:
        """``eval RUN test`` is answered with ``--split test``."""
        if not any("--split" in parameter.opts for parameter in self.get_params(ctx)):
            return
        for before, word in pairwise(["", *args]):
            if word in _SPLITS and not before.startswith("-") and not os.path.exists(word):
                raise ValueError(f"{word}: neither a run nor key=value; write --split {word}")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._print_help(ctx, whole=False)

    def _print_help(self, ctx: Any, whole: bool) -> None:
        from dinoseg.console.option_help import help_of_verb

        super().format_help(ctx, ctx.make_formatter())
        print(help_of_verb(str(self.name), whole))


def _is_near(name: str, own: Collection[str]) -> bool:
    """Whether a word is an option misspelt, or one that goes on: ``--output`` for ``--out``."""
    return bool(difflib.get_close_matches(name, own, 1, 0.8)) or any(name.startswith(option) for option in own)


KeyValues = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="config=FILE and overrides, any order.")
]


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]


CheckpointOption = Annotated[str, typer.Option(help="best or last.")]


DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
