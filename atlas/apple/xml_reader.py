"""Reads the elements of an export's XML one by one, in constant memory.

Apple's XML is not always well-formed. The DTD, which is broken in some versions of iOS, is skipped,
and control characters are removed. iOS 8 wrote attribute names with spaces. A tag that expat
rejects is repaired; if that does not help, only this tag is omitted.
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
NAMES_MAX = 1_000  # expat keeps every name in memory
LINES_SHOWN = 20
TAGS_TRIED = 8
TOO_LARGE = "An element of the XML is larger than 2 MiB, which no sample is: refused."

ROOT = re.compile(rb"<HealthData[\s/>]")
CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\r"))

END = re.compile(rb"</([A-Za-z]+)\s*>")
TAG = re.compile(rb'<[\w:.-]+(?:\s[^=<>"]+="[^"]*")*\s*/?>')
ATTRIBUTE = re.compile(r'(?<=\s)([^=<>"\s][^=<>"]*)="([^"]*)"')
INVALID_IN_NAME = re.compile(r"^[^A-Za-z_]|[^\w.-]", re.ASCII)
CHARACTER_REFERENCE = re.compile(r"&#(x?)([0-9A-Fa-f]{1,7});")
BARE_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9A-Fa-f]{1,7});)")
INVALID_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
ESCAPE = re.compile(r"_x(?!D[89A-F].._)((?:10|[0-9A-F])?[0-9A-F]{4})_")  # not a surrogate

# Each sample, and its possible parents. Inside anything else, the end tag of that is missing.
ALLOWED_PARENTS = {"Record": ("Correlation", "Workout"), "Correlation": (), "Workout": ()}


class Element(Struct, gc=False):
    """An XML element with its children."""

    name: str
    attributes: dict[str, str]
    children: list["Element"]


def unescape_name(attribute: str) -> str:
    """Return the original name of an attribute that was repaired."""
    return ESCAPE.sub(lambda match: chr(int(match[1], 16)), attribute)


def repair_tag(tag: bytes) -> bytes:
    """Return an equivalent tag that expat accepts, as far as possible."""
    text = INVALID_CHARACTER.sub("", tag.decode("utf-8", "replace"))
    return ATTRIBUTE.sub(escape_attribute, CHARACTER_REFERENCE.sub(check_reference, text)).encode()


def check_reference(reference: re.Match[str]) -> str:
    """Return the reference, or nothing if it is not a valid XML character."""
    try:
        character = chr(int(reference[2], 16 if reference[1] else 10))
    except ValueError:
        return ""
    return "" if INVALID_CHARACTER.match(character) else reference[0]


def escape_attribute(attribute: re.Match[str]) -> str:
    name = INVALID_IN_NAME.sub(lambda match: f"_x{ord(match[0]):04X}_", attribute[1].rstrip())
    value = BARE_AMPERSAND.sub("&amp;", attribute[2]).replace("<", "&lt;")
    return f'{name}="{value}"'


def skip_prologue(chunks: Iterable[bytes]) -> tuple[int, Iterator[bytes]]:
    """Return the number of the first line inside <HealthData ...>, and the bytes from there.

    The prologue is dropped, and with it the DTD, so that entities are never declared. Raises
    Unreadable if the DTD declares any: Apple's does not, and entities can expand without limit.
    """
    chunks, prologue, root = iter(chunks), b"", None
    for chunk in chunks:
        prologue += chunk
        root = ROOT.search(prologue)
        if root or len(prologue) > PROLOGUE_BYTES_MAX:
            break
    if not prologue.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"<"):
        raise Unreadable("This is neither a zip nor XML: give the export.zip that the phone made.")
    if not root:
        raise Unreadable("This XML is not a Health export: it has no <HealthData>.")
    if b"<!ENTITY" in prologue[: root.start()]:
        raise Unreadable("The DTD declares entities, which Apple's never does: refused.")
    return prologue.count(b"\n", 0, root.end()) + 1, chain([prologue[root.end() :]], chunks)


def split_after_tags(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split the bytes after tags, so that a tag to repair lies within one chunk."""
    rest = b""
    for chunk in chunks:
        complete, bracket, incomplete = chunk.translate(None, CONTROLS).rpartition(b">")
        if bracket:
            yield rest + complete + bracket
            rest = incomplete
        else:
            rest += incomplete
        if len(rest) > ELEMENT_BYTES_MAX:
            raise Unreadable(TOO_LARGE)


@dataclass(slots=True)
class ElementReader:
    """Reads the elements inside the root, and counts the tags that it had to omit."""

    tags_left_out: int = 0
    omitted_lines: list[int] = field(default_factory=list)  # where the first few of them are
    line: int = 1  # at the beginning of the piece that is read
    open_elements: list[Element] = field(default_factory=lambda: [Element("HealthData", {}, [])])
    completed: list[Element] = field(default_factory=list)
    parser: expat.XMLParserType = field(init=False)
    fed: int = field(init=False)  # to this parser

    def __post_init__(self) -> None:
        self.reset_parser()

    @property
    def is_complete(self) -> bool:
        """True if the root was closed."""
        return not self.open_elements

    def elements(self, chunks: Iterable[bytes]) -> Iterator[Element]:
        """Raises Unreadable."""
        self.line, content = skip_prologue(chunks)
        bytes_without_element = 0
        for chunk in split_after_tags(content):
            omitted_before = self.tags_left_out
            self.feed(chunk)
            completed, self.completed = self.completed, []
            yield from completed
            is_empty = (
                self.tags_left_out > omitted_before and len(self.open_elements) == 1
            )  # and so is the parser
            bytes_without_element = (
                0 if completed or is_empty else bytes_without_element + len(chunk)
            )
            if bytes_without_element > ELEMENT_BYTES_MAX:
                raise Unreadable(TOO_LARGE)
            if self.is_complete:
                return
            if len(self.parser.intern) > NAMES_MAX:
                self.reset_parser()
            self.line += chunk.count(b"\n")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        element = Element(name, attributes, [])
        if len(self.open_elements) > 1:  # the root keeps none
            self.append_child(element)
        self.open_elements.append(element)

    def append_child(self, element: Element) -> None:
        if len(self.open_elements) > DEPTH_MAX:
            raise Unreadable("The XML is nested deeper than Apple's ever is: refused.")
        if element.name in ALLOWED_PARENTS:
            self.close_implied(element.name)
        if len(self.open_elements) > 1:
            self.open_elements[-1].children.append(element)

    def end(self, name: str) -> None:
        if self.open_elements[-1].name == name:  # else it was closed before
            element = self.open_elements.pop()
            if len(self.open_elements) == 1:
                self.completed.append(element)

    def close_implied(self, name: str) -> None:
        while (
            len(self.open_elements) > 1 and self.open_elements[-1].name not in ALLOWED_PARENTS[name]
        ):
            self.end(self.open_elements[-1].name)

    def feed(self, chunk: bytes) -> None:
        at = 0
        while at < len(chunk) and not self.is_complete:
            try:
                self.parser.Parse(memoryview(chunk)[at:])
            except expat.ExpatError:
                if not self.is_complete:  # anything after the root is ignored
                    error = max(at, at + self.parser.ErrorByteIndex - self.fed)
                    at = self.recover(chunk, error)
            else:
                self.fed += len(chunk) - at
                at = len(chunk)

    def recover(self, chunk: bytes, error: int) -> int:
        """Repair or omit the tag that expat rejected. Returns the position to continue at."""
        if tag := find_enclosing_tag(chunk, error):
            self.reset_parser()
            repaired = repair_tag(tag[0])
            if self.try_parse(repaired):
                if repaired == tag[0]:  # so the damage was before it
                    self.record_omission(chunk, error)
                return tag.end()
        if chunk.startswith(b"</", chunk.rfind(b"<", 0, error + 1)):
            self.close_element(END.match(chunk, chunk.rfind(b"<", 0, error + 1)))
        else:
            self.record_omission(chunk, error)
        if not self.is_complete:
            self.reset_parser()
        following = chunk.find(b"<", error + 1)
        return following if following >= 0 else len(chunk)

    def record_omission(self, chunk: bytes, at: int) -> None:
        self.tags_left_out += 1
        self.omitted_lines = [*self.omitted_lines, self.line + chunk.count(b"\n", 0, at)][
            :LINES_SHOWN
        ]

    def close_element(self, tag: re.Match[bytes] | None) -> None:
        """Close the element that an end tag names, and everything inside it; else the innermost."""
        names = [element.name for element in self.open_elements]
        name = tag[1].decode() if tag else names[-1] if len(names) > 1 else ""
        if name in names:
            while name in names:
                self.end(names.pop())

    def try_parse(self, tag: bytes) -> bool:
        try:
            self.parser.Parse(tag)
        except expat.ExpatError:
            return False
        self.fed += len(tag)
        return True

    def reset_parser(self) -> None:
        """Start a new parser with the same elements open."""
        self.parser = expat.ParserCreate("UTF-8")
        open_tags = "".join(f"<{element.name}>" for element in self.open_elements).encode()
        self.parser.Parse(open_tags)
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.fed = len(open_tags)


def find_enclosing_tag(chunk: bytes, at: int) -> re.Match[bytes] | None:
    """Find the tag around a position: the outermost, as a value may contain text like a tag."""
    start, enclosing = at + 1, None
    for _ in range(TAGS_TRIED):
        start = chunk.rfind(b"<", 0, start)
        if start < 0:
            break
        tag = TAG.match(chunk, start)
        if tag and tag.end() > at:
            enclosing = tag
    return enclosing
