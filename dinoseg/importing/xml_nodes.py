"""An XML file as nodes that know their line; without entities, which a hostile file fills the memory with."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from dinoseg.system.files import refuse_special_file

_DEEPEST = 64


class _Refused(Exception):
    """What a file holds that is not read."""


@dataclass
class XmlNode:
    """An element: its attributes, its text, and the elements in it."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list["XmlNode"] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str) -> list["XmlNode"]:
        """The elements of a tag directly in this one."""
        return [child for child in self.children if child.tag == tag]

    def first(self, *tags: str) -> "XmlNode | None":
        """The first element on a path of tags below this one."""
        nodes = [self]
        for tag in tags:
            nodes = [child for node in nodes for child in node.all(tag)]
        return nodes[0] if nodes else None


def read_xml(path: Path, remedy: str) -> XmlNode:
    """The root of an XML file.

    Raises:
        ValueError: missing, not XML, deeper than 64 elements, or with a DOCTYPE; names file and line.
    """
    refuse_special_file(path)
    builder = _Builder()
    try:
        with path.open("rb") as file:
            builder.parser.ParseFile(file)
    except FileNotFoundError:
        raise ValueError(f"{path}: missing; {remedy}") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from None
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise ValueError(f"{path}: damaged: line {error.lineno}, column {error.offset}: {reason}; {remedy}") from None
    except (LookupError, ValueError) as error:  # of the encoding that its first line names
        raise ValueError(f"{path}: its text cannot be read ({error}); {remedy}") from None
    except _Refused as reason:
        raise ValueError(f"{path}: line {builder.parser.CurrentLineNumber}: {reason}; {remedy}") from None
    return builder.root


class _Builder:
    """Makes nodes of what the parser meets."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        # Entities are declared in a DOCTYPE alone; without one there is nothing to expand or to fetch.
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._open: list[XmlNode] = [XmlNode("", {}, 0)]

    @property
    def root(self) -> XmlNode:
        """The outermost element."""
        return self._open[0].children[0]

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) > _DEEPEST:
            raise _Refused(f"nested more than {_DEEPEST} deep")
        node = XmlNode(tag, attributes, self.parser.CurrentLineNumber)
        self._open[-1].children.append(node)
        self._open.append(node)

    def _end(self, tag: str) -> None:
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].text += text

    def _refuse_doctype(self, name: str, *where: object) -> None:
        raise _Refused("a DOCTYPE, which no export has and which can hide a hostile file, is not read")
