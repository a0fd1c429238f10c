"""XML from callers: small, flat, without a document type, and so without entities."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from xml.parsers import expat

from virtceph.errors import InvalidParameter

MAX_CHARACTERS = 65536
# A disk has a dozen elements and four levels; an engine's metadata some more.
_MAX_DEPTH = 16
_MAX_ELEMENTS = 1000


def parse(untrusted: str) -> ET.Element:
    """The root of a document. Does not block; time and memory are bounded by its length.

    Raises:
        InvalidParameter: it is too large or too deep, declares a document type, or is no XML.
    """
    if len(untrusted) > MAX_CHARACTERS:
        raise _refused(f"at most {MAX_CHARACTERS} characters")
    parser, tree = expat.ParserCreate("utf-8"), _Tree()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = tree.document_type
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.builder.data
    try:
        parser.Parse(untrusted.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise _refused("XML") from error
    return tree.builder.close()


class _Tree:
    def __init__(self) -> None:
        self.builder = ET.TreeBuilder()
        self._depth = self._elements = 0

    def document_type(self, *_all: object) -> None:
        raise _refused("XML without a document type")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth, self._elements = self._depth + 1, self._elements + 1
        if self._depth > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise _refused(f"XML of at most {_MAX_ELEMENTS} elements and {_MAX_DEPTH} levels")
        self.builder.start(tag, attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        self.builder.end(tag)


def _refused(expected: str) -> InvalidParameter:
    return InvalidParameter("xml", expected)
