"""Names of classes are shown as they are, whatever they hold: a parser of Markdown gives them back."""

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dinoseg.report.markdown import plain, table
from dinoseg.system.messages import printable

_PARSER = MarkdownIt("commonmark").enable("table")
_NAMES = st.text(
    st.characters(codec="utf-8") | st.sampled_from("|\\`*_<>&[]()!#~$:@\"'\n\r\t -+.1"), min_size=1, max_size=20
)


def _shown(name: str) -> str:
    """What of a name can be shown: controls but line breaks are written out."""
    return "".join(letter if letter in "\n\r\t" else printable(letter) for letter in name)


def _text(markdown: str) -> tuple[list[str], set[str]]:
    """The text of every cell or paragraph, and the kinds of what is in them."""
    texts, kinds = [], set()
    for token in _PARSER.parse(markdown):
        if token.type == "inline":
            kinds |= {child.type for child in token.children or []}
            texts.append("".join(child.content for child in token.children or []))
    return texts, kinds


@given(st.lists(_NAMES, min_size=1, max_size=3))
@example(["a|b", "<b>x</b>", "*x* _y_ `z` ~s~"])
@example(["\"quoted\" 'x'", "line\nbreak", "| --- |"])
@example(["![x](http://y)", "https://x.y", "&lt;&#124;"])
def test_any_name_survives_in_a_table(names: list[str]) -> None:
    texts, kinds = _text(table(["class", "IoU"], [[plain(name), "1.00"] for name in names]))
    assert texts == ["class", "IoU", *(text for name in names for text in (_shown(name), "1.00"))]
    assert kinds <= {"text", "text_special"}


@given(_NAMES)
@example("1. a list")
@example("# a title")
@example("    code")
@example("--- a")
def test_any_name_survives_alone(name: str) -> None:
    texts, kinds = _text(plain(name))
    assert "".join(texts) == _shown(name) and kinds <= {"text", "text_special"}


def test_plain_words_stay_readable() -> None:
    assert plain("class_0 of 2 images: 95 % (skip_empty)") == "class_0 of 2 images: 95 % (skip_empty)"
    assert plain("class_0 of 2 images, 95 % (skip_empty)") == "class_0 of 2 images, 95 % (skip_empty)"
    assert table(["name", "IoU"], [["a", "1"]]) == "| name | IoU |\n| --- | ---: |\n| a | 1 |"
