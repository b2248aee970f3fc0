"""Markdown as a model writes it to plain text and what is bold, code or a link in it.

Telegram takes a message so: its text, and spans of it. Nothing has to be escaped then,
what isn't understood stays as it was written, and the text only gets shorter. It
understands emphasis as ``markup`` does, so that what a cut has closed is closed here too.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from attrs import define, evolve, field, frozen

from chatstream.bots.markup import Fence
from chatstream.bots.sink import utf16_length

Kind: TypeAlias = Literal["bold", "italic", "strikethrough", "code", "pre", "text_link"]

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+")
_ITEM = re.compile(r"[ \t>]*(?:[-+*]|\d{1,9}[.)])[ \t]")
_INLINE = re.compile(
    r"\\(?P<escaped>[!-/:-@\[-`{-~])"
    r"|(?P<ticks>`+)"
    r"|!?\[(?P<label>[^\[\]\n]+)\]"
    # Other schemes could open an app, or name a user, who would be told.
    r"\((?P<url>(?:https?://|mailto:)[^\s()]+(?:\([^\s()]*\)[^\s()]*)*)(?:[ ]\"[^\"\n]*\")?\)"
    r"|(?P<run>\*+|_+|~+)"
)
_KINDS: dict[str, tuple[Kind, ...]] = {
    "*": ("italic",),
    "**": ("bold",),
    "***": ("italic", "bold"),
    "_": ("italic",),
    "__": ("bold",),
    "___": ("italic", "bold"),
    "~~": ("strikethrough",),
}


@frozen
class Span:
    """A part of a text that looks different; in UTF-16 code units, as Telegram counts."""

    kind: Kind
    offset: int
    length: int
    language: str | None = None
    """Of a ``pre``, if its fence names one."""
    url: str | None = None
    """Of a ``text_link``."""

    @property
    def end(self) -> int:
        """Where what follows it begins."""
        return self.offset + self.length


@frozen
class Formatted:
    """A text without its markup, and the spans that the markup told of.

    Spans are in order, and of two that overlap one holds the other; code holds none
    and is in none.
    """

    text: str
    spans: tuple[Span, ...] = ()


def format_markdown(markdown: str) -> Formatted:
    """Understand emphasis, strikethrough, code, links and headings; leave the rest.

    >>> format_markdown("It's **so**.").text
    "It's so."
    """
    whole = _Pieces()
    paragraph: list[str] = []
    lines = deque(_LINE.findall(markdown))
    while lines:
        line = lines.popleft()
        heading = _HEADING.match(line)
        fence = Fence.of(line.rstrip("\r\n"))
        if fence or heading or not line.strip() or _ITEM.match(line):
            whole.add_all(_inline("".join(paragraph)))
            paragraph = []
        if fence:
            _code_block(whole, fence, lines)
        elif heading:
            _heading(whole, line[heading.end() :])
        else:
            paragraph.append(line)
    whole.add_all(_inline("".join(paragraph)))
    formatted = whole.formatted()
    # There was nothing but markup, and a message must show something.
    return formatted if formatted.text.strip() else Formatted(markdown)


# --- Blocks --------------------------------------------------------------------------


def _code_block(whole: _Pieces, fence: Fence, lines: deque[str]) -> None:
    code, newline = "", ""
    while lines and not (fence.quoted and lines[0][0] not in " \t>"):
        line = lines.popleft()
        last = line.rstrip("\r\n")
        if fence.ends_with(last):
            code, newline = code.removesuffix("\n").removesuffix("\r"), line[len(last) :]
            break
        code += line
    info = fence.opening.lstrip(" \t>`~").split()
    whole.add(code, "pre", language=info[0] if info else None)
    whole.add(newline)


def _heading(whole: _Pieces, line: str) -> None:
    title = line.rstrip()
    bare = title.rstrip("#")
    if not bare or bare[-1].isspace():  # "## Title ##"
        title = bare.rstrip()
    start = len(whole.pieces)
    inner = _inline(title)
    inner.spans = [span for span in inner.spans if span.kind != "bold"]
    whole.add_all(inner)
    whole.mark("bold", start)
    whole.add(line[len(line.rstrip("\r\n")) :])


# --- Within a paragraph --------------------------------------------------------------


@define
class _Marked:
    kind: Kind
    start: int  # the pieces that it goes over
    end: int
    language: str | None = None
    url: str | None = None


@define
class _Pieces:
    """A text in pieces, and spans over them; a piece may be emptied later."""

    pieces: list[str] = field(factory=list)
    spans: list[_Marked] = field(factory=list)

    def add(self, text: str, kind: Kind | None = None, *, language: str | None = None) -> None:
        self.pieces.append(text)
        if kind is not None:
            self.mark(kind, len(self.pieces) - 1, language=language)

    def add_all(self, other: _Pieces) -> None:
        by = len(self.pieces)
        self.pieces += other.pieces
        self.spans += [evolve(s, start=s.start + by, end=s.end + by) for s in other.spans]

    def mark(
        self, kind: Kind, start: int, *, language: str | None = None, url: str | None = None
    ) -> None:
        self.spans.append(_Marked(kind, start, len(self.pieces), language, url))

    def formatted(self) -> Formatted:
        edges = [0]
        for piece in self.pieces:
            edges.append(edges[-1] + utf16_length(piece))
        spans = [
            Span(s.kind, edges[s.start], edges[s.end] - edges[s.start], s.language, s.url)
            for s in self.spans
        ]
        code = sorted((span for span in spans if span.kind in {"code", "pre"}), key=_order)
        # What holds another was marked after it.
        apart = [each for span in reversed(spans) for each in _around(span, code)]
        seen = sorted((span for span in apart if span.length), key=_order)
        return Formatted("".join(self.pieces), tuple(seen))


@define
class _Opener:
    run: str
    piece: int


def _inline(text: str, *, in_link: bool = False) -> _Pieces:
    """Understand one paragraph, or the label of a link, which holds no code and no link."""
    out = _Pieces()
    openers: list[_Opener] = []
    at = 0
    while match := _INLINE.search(text, at):
        out.add(text[at : match.start()])
        at = match.end()
        if match["escaped"]:
            out.add(match["escaped"])
        elif match["label"]:
            start = len(out.pieces)
            out.add_all(_inline(match["label"], in_link=True))
            out.mark("text_link", start, url=match["url"])
        elif match["ticks"]:
            at = _code(out, text, match, in_link=in_link)
        else:
            before = text[match.start() - 1 : match.start()] or " "
            _emphasis(out, openers, match["run"], before, text[at : at + 1] or " ")
    out.add(text[at:])
    return out


def _code(out: _Pieces, text: str, match: re.Match[str], *, in_link: bool) -> int:
    """Take a code span, or backticks that are none; return where what follows begins."""
    ticks = match["ticks"]
    end = re.compile(rf"(?<!`){ticks}(?!`)").search(text, match.end())
    if end is None:
        out.add(ticks)
        return match.end()
    code = text[match.end() : end.start()]
    if code.strip() and code[0] == code[-1] == " ":  # CommonMark 6.1: `` `a` ``
        code = code[1:-1]
    out.add(code, None if in_link else "code")
    return end.end()


def _emphasis(out: _Pieces, openers: list[_Opener], run: str, before: str, after: str) -> None:
    """Close with a run of delimiters what it can, and let the rest open if it may."""
    within = before.isalnum() and after.isalnum()
    can_open = not after.isspace() and not (within and (run[0] == "_" or run == "*"))
    can_close = not before.isspace() and not (within and run[0] == "_")
    if run not in _KINDS:
        out.add(run)
        return
    left = run
    while can_close and left:
        number = _opener_of(left, openers)
        if number is None:
            break
        opener = openers[number]
        count = min(len(opener.run), len(left))
        for kind in _KINDS[left[:count]]:
            out.mark(kind, opener.piece + 1)
        opener.run, left = opener.run[count:], left[count:]
        out.pieces[opener.piece] = opener.run
        del openers[number + bool(opener.run) :]
    if left == run and can_open:
        openers.append(_Opener(run, len(out.pieces)))
    out.add(left)


def _opener_of(run: str, openers: list[_Opener]) -> int | None:
    """Return the number of the nearest opener that *run* can close, if only in part."""
    for number in reversed(range(len(openers))):
        opened = openers[number].run
        if opened[0] != run[0]:
            continue
        # "*" doesn't close half of "**".
        if len(opened) == len(run) or max(len(opened), len(run)) == 3:  # noqa: PLR2004
            return number
    return None


# --- Spans ---------------------------------------------------------------------------


def _order(span: Span) -> tuple[int, int]:
    return span.offset, -span.length


def _around(span: Span, code: Iterable[Span]) -> Iterator[Span]:
    """Yield what is left of *span* beside the code in it: code is nothing but code."""
    if span.kind not in {"bold", "italic", "strikethrough"}:
        yield span
        return
    start = span.offset
    for each in code:
        if span.offset <= each.offset and each.end <= span.end:
            yield evolve(span, offset=start, length=each.offset - start)
            start = each.end
    yield evolve(span, offset=start, length=span.end - start)
