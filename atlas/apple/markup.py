"""From the bytes of an export's XML to its elements, one after the other, in constant memory.

Apple's XML is not always XML. Its DTD is broken in some versions of iOS and is cut away; control
characters are taken out; iOS 8 wrote attributes whose names have spaces. A tag that expat does not
take is mended, and if that is of no use it is left out, alone.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from xml.parsers import expat

from msgspec import Struct

from atlas.apple.errors import Unreadable

PROLOGUE_BYTES_MAX = 1024 * 1024
ELEMENT_BYTES_MAX = 2 * 1024 * 1024  # a workout of 20,000 events
DEPTH_MAX = 32
NAMES_MAX = 1_000  # a parser remembers every name it has met
LINES_SHOWN = 20
TRIES = 8
TOO_LARGE = "An element of the XML is larger than 2 MiB, as no sample is: refused."

ROOT = re.compile(rb"<HealthData[\s/>]")
CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\r"))

END = re.compile(rb"</([A-Za-z]+)\s*>")
TAG = re.compile(rb'<[\w:.-]+(?:\s[^=<>"]+="[^"]*")*\s*/?>')
ATTRIBUTE = re.compile(r'(?<=\s)([^=<>"\s][^=<>"]*)="([^"]*)"')
NO_NAME = re.compile(r"^[^A-Za-z_]|[^\w.-]", re.ASCII)
NUMBERED = re.compile(r"&#(x?)([0-9A-Fa-f]{1,7});")
NO_REFERENCE = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9A-Fa-f]{1,7});)")
NO_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
ESCAPE = re.compile(r"_x(?!D[89A-F].._)((?:10|[0-9A-F])?[0-9A-F]{4})_")  # of no half of a pair

# A sample, and what it may be in. Anywhere else, what is around it has lost its end.
SAMPLES = {"Record": ("Correlation", "Workout"), "Correlation": (), "Workout": ()}


class Element(Struct, gc=False):
    """One, with all that is in it."""

    name: str
    attributes: dict[str, str]
    children: list["Element"]


def named(attribute: str) -> str:
    """The name of an attribute as it stood there, before it was mended."""
    return ESCAPE.sub(lambda match: chr(int(match[1], 16)), attribute)


def mended(tag: bytes) -> bytes:
    """A tag that expat takes, and that says the same."""
    text = NO_CHARACTER.sub("", tag.decode("utf-8", "replace"))
    return ATTRIBUTE.sub(well_formed, NUMBERED.sub(of_a_character, text)).encode()


def of_a_character(reference: re.Match[str]) -> str:
    """Nothing, if XML has no such character."""
    try:
        character = chr(int(reference[2], 16 if reference[1] else 10))
    except ValueError:
        return ""
    return "" if NO_CHARACTER.match(character) else reference[0]


def well_formed(attribute: re.Match[str]) -> str:
    name = NO_NAME.sub(lambda match: f"_x{ord(match[0]):04X}_", attribute[1].rstrip())
    value = NO_REFERENCE.sub("&amp;", attribute[2]).replace("<", "&lt;")
    return f'{name}="{value}"'


def body(chunks: Iterable[bytes]) -> tuple[int, Iterator[bytes]]:
    """What is inside <HealthData ...>, and the number of its first line.

    What stands before it is cut, so the DTD is gone and no entity is ever declared. Raises
    Unreadable if one would have been: Apple declares none, and whoever does wants it to grow.
    """
    chunks, gathered, root = iter(chunks), b"", None
    for chunk in chunks:
        gathered += chunk
        root = ROOT.search(gathered)
        if root or len(gathered) > PROLOGUE_BYTES_MAX:
            break
    if not gathered.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"<"):
        raise Unreadable("This is neither a zip nor XML: give the export.zip that the phone made.")
    if not root:
        raise Unreadable("This XML is no Health export: it has no <HealthData>.")
    if b"<!ENTITY" in gathered[: root.start()]:
        raise Unreadable("The DTD declares entities, as Apple's never does: refused as a bomb.")
    return gathered.count(b"\n", 0, root.end()) + 1, chain([gathered[root.end() :]], chunks)


def pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut behind a tag, so that whatever is to be mended is in one of them."""
    rest = b""
    for chunk in chunks:
        whole, bracket, begun = chunk.translate(None, CONTROLS).rpartition(b">")
        if bracket:
            yield rest + whole + bracket
            rest = begun
        else:
            rest += begun
        if len(rest) > ELEMENT_BYTES_MAX:
            raise Unreadable(TOO_LARGE)


@dataclass(slots=True)
class Reader:
    """Reads the elements inside the root, and counts the tags that it had to leave out."""

    left_out: int = 0
    lines: list[int] = field(default_factory=list)  # where the first few of them are
    line: int = 1  # at the beginning of the piece that is read
    open: list[Element] = field(default_factory=lambda: [Element("HealthData", {}, [])])
    found: list[Element] = field(default_factory=list)
    parser: expat.XMLParserType = field(init=False)
    fed: int = field(init=False)  # to this parser

    def __post_init__(self) -> None:
        self.renew()

    @property
    def is_whole(self) -> bool:
        """Whether the root was closed."""
        return not self.open

    def elements(self, chunks: Iterable[bytes]) -> Iterator[Element]:
        """Raises Unreadable."""
        self.line, inside = body(chunks)
        silent = 0
        for piece in pieces(inside):
            gone = self.left_out
            self.feed(piece)
            found, self.found = self.found, []
            yield from found
            is_empty = self.left_out > gone and len(self.open) == 1  # and so is the parser
            silent = 0 if found or is_empty else silent + len(piece)
            if silent > ELEMENT_BYTES_MAX:
                raise Unreadable(TOO_LARGE)
            if self.is_whole:
                return
            if len(self.parser.intern) > NAMES_MAX:
                self.renew()
            self.line += piece.count(b"\n")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        element = Element(name, attributes, [])
        if len(self.open) > 1:  # the root keeps none
            self.put_inside(element)
        self.open.append(element)

    def put_inside(self, element: Element) -> None:
        if len(self.open) > DEPTH_MAX:
            raise Unreadable("The XML is nested deeper than Apple's ever is: refused.")
        if element.name in SAMPLES:
            self.close_what_cannot_hold(element.name)
        if len(self.open) > 1:
            self.open[-1].children.append(element)

    def end(self, name: str) -> None:
        if self.open[-1].name == name:  # else it was closed before
            element = self.open.pop()
            if len(self.open) == 1:
                self.found.append(element)

    def close_what_cannot_hold(self, name: str) -> None:
        while len(self.open) > 1 and self.open[-1].name not in SAMPLES[name]:
            self.end(self.open[-1].name)

    def feed(self, piece: bytes) -> None:
        at = 0
        while at < len(piece) and not self.is_whole:
            try:
                self.parser.Parse(memoryview(piece)[at:])
            except expat.ExpatError:
                if not self.is_whole:  # what stands behind the root is none of ours
                    error = max(at, at + self.parser.ErrorByteIndex - self.fed)
                    at = self.go_on(piece, error)
            else:
                self.fed += len(piece) - at
                at = len(piece)

    def go_on(self, piece: bytes, error: int) -> int:
        """Mend the tag that expat did not take, or leave it out; where to go on."""
        if tag := tag_around(piece, error):
            self.renew()
            better = mended(tag[0])
            if self.takes(better):
                if better == tag[0]:  # so it was what stands before it
                    self.leave_out(piece, error)
                return tag.end()
        if piece.startswith(b"</", piece.rfind(b"<", 0, error + 1)):
            self.close(END.match(piece, piece.rfind(b"<", 0, error + 1)))
        else:
            self.leave_out(piece, error)
        if not self.is_whole:
            self.renew()
        following = piece.find(b"<", error + 1)
        return following if following >= 0 else len(piece)

    def leave_out(self, piece: bytes, at: int) -> None:
        self.left_out += 1
        self.lines = [*self.lines, self.line + piece.count(b"\n", 0, at)][:LINES_SHOWN]

    def close(self, tag: re.Match[bytes] | None) -> None:
        """What an end tag names, with all that is open in it; else the innermost."""
        names = [element.name for element in self.open]
        name = tag[1].decode() if tag else names[-1] if len(names) > 1 else ""
        if name in names:
            while name in names:
                self.end(names.pop())

    def takes(self, tag: bytes) -> bool:
        try:
            self.parser.Parse(tag)
        except expat.ExpatError:
            return False
        self.fed += len(tag)
        return True

    def renew(self) -> None:
        """Another parser, to which the same elements are open."""
        self.parser = expat.ParserCreate("UTF-8")
        opened = "".join(f"<{element.name}>" for element in self.open).encode()
        self.parser.Parse(opened)
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.fed = len(opened)


def tag_around(piece: bytes, at: int) -> re.Match[bytes] | None:
    """The tag that a place is in: the first one, since a value may hold what looks like another."""
    begin, found = at + 1, None
    for _ in range(TRIES):
        begin = piece.rfind(b"<", 0, begin)
        if begin < 0:
            break
        tag = TAG.match(piece, begin)
        if tag and tag.end() > at:
            found = tag
    return found
