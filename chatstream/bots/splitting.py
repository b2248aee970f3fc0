"""A long text in parts that each fit in one message, and read well by themselves.

::

    text ─→ graphemes ─→ what is open at each place ─→ parts: the closed ones are final

A part ends at the best place in its latter half: a paragraph's end before a line's,
a line's before a sentence's, and so on. Code and emphasis that are open there are closed,
and opened again in the next part. Nothing is looked at twice, so a text may be fed as
it comes, and however it is cut into pieces, the parts are the same.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from attrs import evolve, frozen

from chatstream.bots.markup import NOTHING, Boundary, Markup, MarkupScanner, Place
from chatstream.errors import RequestError

MIN_LENGTH = 128
"""The shortest messages that a text is split into."""

LONGEST_GRAPHEME = 32
"""Code points that are kept together; Unicode's stream-safe format allows 30 marks."""

LONG = 200
"""How much emphasis or code, as messages are measured, may be held back until it's whole."""

_BLANK_LINES = re.compile(r"\A(?:[ \t]*\r?\n)+")
_UNCERTAIN = frozenset("`*_~\\[]()")


@functools.cache
def _find_graphemes() -> Callable[[str], list[str]]:
    try:
        import regex  # noqa: PLC0415 optional
    except ImportError as error:
        msg = "splitting text needs regex: pip install 'chatstream-sdk[bots]'"
        raise ImportError(msg) from error
    find: Callable[[str], list[str]] = regex.compile(r"\X").findall
    return find


def graphemes(text: str) -> list[str]:
    """Return what a reader takes for the characters of *text*; those without end in pieces.

    Extended grapheme clusters of Unicode's annex 29: flags, families and letters with
    their accents are one.
    """
    if text.isascii() and "\r" not in text:
        return list(text)
    found = _find_graphemes()(text)
    if max(map(len, found), default=0) <= LONGEST_GRAPHEME:
        return found
    return [
        grapheme[start : start + LONGEST_GRAPHEME]
        for grapheme in found
        for start in range(0, len(grapheme), LONGEST_GRAPHEME)
    ]


@frozen
class Part:
    """A piece of a text, as one message shows it.

    The bodies of all parts, joined, are the text.
    """

    opening: str
    """Markup that was open at the end of the part before."""
    body: str
    closing: str
    """What closes the markup that is open at the end of this one."""
    start: int = 0
    """Characters of the text before it."""
    note: str = ""
    """What is told below it, and isn't part of the text."""

    @property
    def text(self) -> str:
        """What to send; empty if the body is nothing but white space, and there is no note."""
        body = _BLANK_LINES.sub("", self.body).rstrip()
        shown = self.opening + body + self.closing if body else ""
        return f"{shown}\n\n{self.note}" if shown and self.note else shown or self.note

    def since(self, cut: Cut) -> Part:
        """Return what is left of it from *cut* on."""
        body = self.body[cut.end - self.start :]
        return evolve(self, opening=cut.markup.opening, body=body, start=cut.end)


class Cut(NamedTuple):
    """A place where a text can be cut; a tuple because there are many."""

    end: int
    """Characters before it."""
    size: int
    """What they measure."""
    markup: Markup


_end = operator.itemgetter(0)


class Splitter:
    """Splits a text that is still growing.

    *length* is the most that a part's text may measure, at least 128. *measure* tells
    the length of a text; that of two texts together must be the sum of theirs.
    Raises ``RequestError`` for another length, ``ImportError`` without the extra ``bots``.
    """

    def __init__(self, length: int, measure: Callable[[str], int] = len) -> None:
        if length < MIN_LENGTH:
            raise RequestError("length", str(length), f"at least {MIN_LENGTH}")
        _find_graphemes()
        self._length = length
        self._measure = functools.lru_cache(maxsize=1024)(measure)
        self._scanner = MarkupScanner()
        self._tail = ""  # the last grapheme, to which more may belong

        # The open part. Places and sizes count from the text's beginning.
        self._text = ""
        self._start = Cut(0, 0, NOTHING)
        self._opening = ""
        self._repaired = True
        self._blank = True
        self._here = self._start
        self._boundaries: dict[Boundary, Cut] = {}
        self._settled = self._start
        self._room = length  # for text and closing, counted as places are

    # --- What is over ------------------------------------------------------------

    def feed(self, text: str) -> list[Part]:
        """Take more of the text; return the parts that this closed."""
        self._tail, text = "", self._tail + text
        found = graphemes(text)
        if found:
            self._tail = found.pop()
        self._text += text[: len(text) - len(self._tail)]
        return self._take(self._scanner.read(found))

    def finish(self) -> list[Part]:
        """Take the text for whole; return the parts that are left.

        The last one's fence is closed; emphasis that the text itself left open isn't,
        because then it's just text.
        """
        closed = self._take_tail()
        closed += self._take(self._scanner.finish())
        start, here = self._start.end, self._here
        if here.end > start:
            closing = here.markup.closing_since(start) if self._repaired else ""
            closed.append(self._part(self._text, closing))
            self._begin(here)
        return closed

    def cut(self, cut: Cut) -> None:
        """Begin a part at *cut*, a place in the open one that was told by this splitter."""
        self._begin(cut)

    # --- What is open ------------------------------------------------------------

    @property
    def shown(self) -> str:
        """The open part as it can be shown now, all markup closed.

        It may lack a few characters of which isn't known yet what they are.
        """
        here, tail = self._here, self._tail
        body = self._text[: here.end - self._start.end]
        closing = self._closing(here.markup)
        certain = tail and len(body) == len(self._text) and tail not in _UNCERTAIN
        # On a new line of code it may be the block's end.
        if certain and not (here.markup.fence and body.endswith("\n")):
            size = here.size + self._measure(tail) + self._measure(closing)
            if size <= self._room:
                body += tail
        return self._part(body, closing).text

    @property
    def last_boundary(self) -> Cut:
        """The newest good place to cut the open part at, or its beginning."""
        return self._newest(Boundary.WORD)

    def settle(self) -> str:
        """Return the beginning of the open part that stays as it is, whatever comes.

        For who can't take back what was written: the part won't be cut before its end,
        :attr:`settled`. That is the end of a word, or of a line or sentence when the part
        is almost full; emphasis and lines of code come whole, unless they are long.
        """
        nearly_full = self._room - self._here.size < self._length // 8
        self._settled = self._newest(Boundary.CODE if nearly_full else Boundary.WORD)
        return self._part(self._text[: self._settled.end - self._start.end], "").text

    def settle_all(self) -> list[Part]:
        """Settle also the word that is not at its end; return the parts that this closed.

        An accent that comes after that stands by itself.
        """
        closed = self._take_tail()
        self._settled = self._here
        return closed

    def _newest(self, least: Boundary) -> Cut:
        cuts = [cut for boundary, cut in self._boundaries.items() if boundary >= least]
        newest = max([self._settled, *cuts], key=_end)
        within = self._boundaries.get(Boundary.WITHIN, newest)
        long = least is Boundary.WORD and within.size - newest.size > LONG
        return within if long else newest

    @property
    def settled(self) -> Cut:
        """Up to where the open part was settled."""
        return self._settled

    # --- Cutting -----------------------------------------------------------------

    def _take_tail(self) -> list[Part]:
        tail, self._tail = self._tail, ""
        self._text += tail
        return self._take(self._scanner.read([tail] if tail else []))

    def _take(self, places: Iterator[Place]) -> list[Part]:
        closed: list[Part] = []
        measure, here = self._measure, self._here
        start, markup, closing = self._start.end, here.markup, measure(self._closing(here.markup))
        for end, now_open, boundary in places:
            before, piece = here, self._text[here.end - start : end - start]
            here = self._here = Cut(end, before.size + measure(piece), now_open)
            if now_open is not markup:
                markup, closing = now_open, measure(self._closing(now_open))
            if not piece.isspace():  # white space at the end isn't shown
                self._blank = False
                if here.size + closing > self._room:
                    closed.extend(self._make_room(before))
                    start, closing = self._start.end, measure(self._closing(markup))
            elif self._blank and piece.endswith(("\n", "\r")):
                self._room += here.size - before.size  # blank lines at the top aren't shown
            if boundary is not None:
                self._boundaries[boundary] = here
        return closed

    def _make_room(self, before: Cut) -> Iterator[Part]:
        """Close parts until the rest fits; *before* stands the grapheme that is too much."""
        while self._here.size + self._measure(self._closing(self._here.markup)) > self._room:
            cut = self._best(before)
            if cut is not None:
                yield self._close(cut)
            elif self._repaired:
                self._leave_broken()
            else:
                return  # one grapheme, longer than a message

    def _closing(self, markup: Markup) -> str:
        return markup.closing if self._repaired else ""

    def _best(self, before: Cut) -> Cut | None:
        """Return where to cut; *before* stands the grapheme that is too much."""
        least = max(self._start.end + 1, self._settled.end)
        cuts = {b: cut for b, cut in self._boundaries.items() if cut.end >= least}
        half = [b for b, cut in cuts.items() if self._room - cut.size <= self._length // 2]
        if half:
            return cuts[max(half)]
        if cuts:
            return max(cuts.values(), key=_end)
        return before if before.end > self._start.end else None

    def _close(self, cut: Cut) -> Part:
        body = self._text[: cut.end - self._start.end]
        part = self._part(body, self._closing(cut.markup))
        self._begin(cut)
        return part

    def _part(self, body: str, closing: str) -> Part:
        return Part(self._opening, body, closing, self._start.end)

    def _begin(self, cut: Cut) -> None:
        self._text = self._text[cut.end - self._start.end :]
        self._boundaries = {b: c for b, c in self._boundaries.items() if c.end > cut.end}
        self._start = self._settled = cut
        self._blank = self._here.end == cut.end
        self._repair(cut.markup)

    def _repair(self, markup: Markup) -> None:
        """Open *markup* in the open part, and close what is open at its end.

        Neither if that takes more than half of it.
        """
        self._opening, self._repaired = markup.opening, True
        self._room = self._length + self._start.size - self._measure(self._opening)
        if 2 * (self._measure(self._opening) + self._measure(markup.closing)) > self._length:
            self._leave_broken()

    def _leave_broken(self) -> None:
        self._opening, self._repaired = "", False
        self._room = self._length + self._start.size


def split(text: str, length: int, measure: Callable[[str], int] = len) -> list[str]:
    """*text* in parts of at most *length*, as *measure* counts; see :class:`Splitter`.

    >>> split("One. " * 30, 128)[1]
    'One. One. One. One. One.'
    """
    splitter = Splitter(length, measure)
    parts = [*splitter.feed(text), *splitter.finish()]
    return [part.text for part in parts if part.text]
