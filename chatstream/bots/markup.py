"""Which Markdown is open at each place of a text that is still growing.

Only what has to be closed and opened again where a text is cut: code fences, code
spans, emphasis, strikethrough, and quotes; links, so that they aren't cut. It follows
CommonMark where a model's answer would show the difference, and reads each character
once. What can't be told yet (is this the beginning of a fence? does this ``*`` open?)
waits for the characters that tell.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from attrs import field, frozen

LONGEST_FENCE_LINE = 80
"""Characters after which a line that began like a fence is taken for text."""

LONGEST_RUN = 32
"""Delimiters in a row after which they are no markup."""

MOST_OPEN = 16
"""Marks within each other after which further ones are just text: else 50,000 brackets
would be looked through 50,000 times."""

# A fence may stand in quotes and list items: "> - ```python".
_FENCE = re.compile(
    r"(?P<container>[ \t]*(?:>[ \t]?|(?:[-+*]|\d{1,9}[.)])[ \t]+)*[ \t]*)"
    r"(?P<marker>`{3,}|~{3,})(?P<info>[^\n]*)"
)
_QUOTE = re.compile(r"[ \t]*>[> \t]*")
_BLOCK = re.compile(r"[ \t>]*(?:[-+*]|\d{1,9}[.)]|#{1,6})[ \t]")
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_NEWLINES = frozenset({"\n", "\r\n", "\r"})
_EDGE = " "  # what stands before a line's first character and after its last


class Boundary(enum.IntEnum):
    """How well a text can be cut at a place; more is better."""

    WITHIN = 1
    """At a space inside of code or emphasis."""
    WORD = 2
    CODE = 3
    """After a line of code."""
    SENTENCE = 4
    LINE = 5
    PARAGRAPH = 6


@frozen
class Fence:
    """A block of code that is open."""

    opening: str
    """Its first line, as it begins again in another message; without the line's end."""
    closing: str
    """Its last line."""
    quoted: bool
    _ends: re.Pattern[str] = field(repr=False)
    _may_end: re.Pattern[str] = field(repr=False)

    @classmethod
    def of(cls, line: str) -> Fence | None:
        """Return the block that *line* begins, if it does."""
        match = _FENCE.fullmatch(line)
        if match is None:
            return None
        marker, info = match["marker"], match["info"]
        if marker[0] == "`" and "`" in info:
            return None
        # A list's marker isn't said twice: the block goes on under its first item.
        container = re.sub(r"[^>\s]", " ", match["container"])
        indent = len(container) + 3
        char = re.escape(marker[0])
        return cls(
            opening=container + marker + info.rstrip(),
            closing=container + marker,
            quoted=">" in container,
            ends=re.compile(rf"[ \t>]{{0,{indent}}}{char}{{{len(marker)},}}[ \t]*"),
            may_end=re.compile(rf"[ \t>]{{0,{indent}}}{char}*[ \t]*"),
        )

    def ends_with(self, line: str) -> bool:
        """Whether *line* is the block's last."""
        return len(line) <= LONGEST_FENCE_LINE and self._ends.fullmatch(line) is not None

    def may_end_with(self, line: str) -> bool:
        """Whether *line* may grow to be the block's last."""
        return len(line) <= LONGEST_FENCE_LINE and self._may_end.fullmatch(line) is not None


@frozen
class Mark:
    """A delimiter that is open: ``**``, a code span's backticks, ``[`` or ``(`` of a link."""

    text: str
    at: int
    """Where it stands in the text."""

    @property
    def is_code(self) -> bool:
        """Whether it opens a code span."""
        return self.text[0] == "`"

    @property
    def is_link(self) -> bool:
        """Whether it is part of a link, which is not cut."""
        return self.text in {"[", "("}


@frozen
class Markup:
    """What is open at one place."""

    fence: Fence | None = None
    marks: tuple[Mark, ...] = ()
    """From the outermost to the innermost."""
    quote: str = ""
    """How the line began, if the place is in the midst of a quoted one."""

    @property
    def opening(self) -> str:
        """What opens it again."""
        if self.fence is not None:
            return self.fence.opening + "\n"
        return self.quote + "".join(mark.text for mark in self.marks if not mark.is_link)

    @property
    def closing(self) -> str:
        """What closes it, to stand after text without white space at its end."""
        return self.closing_since(None)

    def closing_since(self, start: int | None) -> str:
        """Return what closes the fence, and of the rest what was open at *start* already."""
        if self.fence is not None:
            return "\n" + self.fence.closing
        return "".join(
            mark.text
            for mark in reversed(self.marks)
            if not mark.is_link and (start is None or mark.at < start)
        )


NOTHING = Markup()


class Place(NamedTuple):
    """A place up to which the text is understood; a tuple because there are many."""

    end: int
    """Characters before it."""
    markup: Markup
    boundary: Boundary | None = None


class MarkupScanner:
    """Reads a text, one grapheme after another, and tells its places."""

    def __init__(self) -> None:
        self._fence: Fence | None = None
        self._marks: tuple[Mark, ...] = ()
        self._markup = NOTHING
        self._end = 0
        self._line = ""  # its beginning, which is all that is asked for
        self._is_fence = False  # what the line seems to be
        self._held: list[str] = []  # of a line that seems to be a fence
        self._is_text = False  # what the line was found to be
        self._run = ""  # of delimiters, which may go on
        self._in_word = False  # then nothing waits for what comes
        self._before = _EDGE  # the run, or what comes now
        self._escaped = False
        self._bracket_closed = False
        self._sentence_ended = False

    def read(self, graphemes: Iterable[str]) -> Iterator[Place]:
        """Tell the places that can be told with *graphemes*; a line's end is one of them."""
        for grapheme in graphemes:
            if grapheme.isalnum() and self._in_word and self._fence is None:
                # Most of a text: nothing changes but where it ends.
                self._end += len(grapheme)
                self._before = grapheme
                if len(self._line) <= LONGEST_FENCE_LINE:
                    self._line += grapheme
                yield Place(self._end, self._markup)
                continue
            self._in_word = False
            if grapheme in _NEWLINES:
                yield from self._end_line(grapheme)
            elif self._fence is not None and not self._leaves_quote(grapheme):
                yield from self._code(grapheme)
            elif self._is_fence:
                yield from self._fence_line(grapheme)
            else:
                yield from self._text(grapheme)

    def finish(self) -> Iterator[Place]:
        """Tell the place at the end of the text."""
        if self._fence is not None:
            if self._fence.ends_with(self._line):
                self._fence = None
        elif self._is_fence:
            yield from self._open_fence("")
        elif self._run:
            yield from self._resolve(_EDGE)
        yield self._place()

    # --- Lines -----------------------------------------------------------------

    def _end_line(self, newline: str) -> Iterator[Place]:
        boundary = Boundary.LINE
        if self._is_fence:
            yield from self._open_fence(newline)
        else:
            if self._run:
                yield from self._resolve(_EDGE)
            self._end += len(newline)
            if self._fence is not None and self._fence.ends_with(self._line):
                self._fence = None
            elif self._fence is not None:
                boundary = Boundary.CODE
            elif not self._line.strip(" \t>"):
                self._marks, boundary = (), Boundary.PARAGRAPH
            else:
                self._marks = tuple(mark for mark in self._marks if not mark.is_link)
                boundary = Boundary.WITHIN if self._marks else Boundary.LINE
        opened = self._is_fence
        self._line, self._before = "", _EDGE
        self._is_fence = self._is_text = self._sentence_ended = False
        self._escaped = self._bracket_closed = False
        if not opened:
            yield self._place(boundary)

    def _open_fence(self, newline: str) -> Iterator[Place]:
        """Begin a block of code; nobody cuts between its first line and the next."""
        line = self._line
        self._fence, self._marks, self._run = Fence.of(line), (), ""
        self._end += sum(map(len, self._held)) + len(newline)
        self._held = []
        yield self._place()

    def _fence_line(self, grapheme: str) -> Iterator[Place]:
        self._held.append(grapheme)
        self._line += grapheme
        if len(self._line) <= LONGEST_FENCE_LINE and Fence.of(self._line) is not None:
            return
        held, self._held = self._held, []
        self._is_fence, self._is_text = False, True
        self._line = self._line[: len(self._line) - sum(map(len, held))]
        for one in held:
            yield from self._text(one)

    def _leaves_quote(self, grapheme: str) -> bool:
        """Whether a quoted block of code is over because its quote is."""
        quoted = self._fence is not None and self._fence.quoted
        if not quoted or self._line or grapheme in " \t>":
            return False
        self._fence = None
        return True

    def _code(self, grapheme: str) -> Iterator[Place]:
        """Take a piece of a line of code, unless the line may still close the block."""
        fence = self._fence
        assert fence is not None  # noqa: S101 checked by who calls
        blank = not self._line.strip()
        self._end += len(grapheme)
        if len(self._line) <= LONGEST_FENCE_LINE:
            self._line += grapheme
        if not fence.may_end_with(self._line):
            yield self._place(Boundary.WITHIN if grapheme.isspace() and not blank else None)

    # --- Within a line -----------------------------------------------------------

    def _text(self, grapheme: str) -> Iterator[Place]:
        if self._run and grapheme != self._run[0]:
            yield from self._resolve(grapheme)
        if len(self._line) <= LONGEST_FENCE_LINE:
            self._line += grapheme
        self._end += len(grapheme)
        escaped, self._escaped = self._escaped, False
        bracket_closed, self._bracket_closed = self._bracket_closed, False
        top = self._marks[-1] if self._marks else None
        in_code = top is not None and top.is_code
        literal = escaped and grapheme in _PUNCTUATION
        if not literal and grapheme in ("`" if in_code else "`*_~"):
            self._run += grapheme
            if len(self._run) > 2 and not self._is_text and Fence.of(self._line) is not None:  # noqa: PLR2004
                self._is_fence = True
                self._held = list(self._run)
                self._end -= len(self._run)
                self._run = ""
            elif len(self._run) == LONGEST_RUN:
                self._run, self._before = "", grapheme
                yield self._place()
            return
        if grapheme == "\\" and not literal and not in_code:
            self._escaped, self._before = True, grapheme  # what follows belongs to it
            return
        if not in_code and not literal:
            self._link(grapheme, top, bracket_closed=bracket_closed)
        boundary = self._boundary(grapheme)
        self._before = grapheme
        self._in_word = grapheme.isalnum()
        yield self._place(boundary)

    def _link(self, grapheme: str, top: Mark | None, *, bracket_closed: bool) -> None:
        marks = self._marks
        in_address = top is not None and top.text == "("
        if grapheme == "(" and (in_address or bracket_closed):
            self._open("(")
        elif grapheme == ")" and in_address:
            self._marks = marks[:-1]
        elif grapheme == "[" and not in_address:
            self._open("[")
        elif grapheme == "]" and not in_address:
            for number in reversed(range(len(marks))):
                if marks[number].text == "[":
                    self._marks = marks[:number]
                    self._bracket_closed = True
                    break

    def _open(self, text: str) -> None:
        if len(self._marks) < MOST_OPEN:
            self._marks = (*self._marks, Mark(text, self._end))

    def _boundary(self, grapheme: str) -> Boundary | None:
        """Return how well a cut may follow *grapheme*, which is the line's newest."""
        ended = self._sentence_ended
        if not grapheme.isspace():
            wide = grapheme in "。！？"  # no space follows them
            if grapheme in ".!?…" or wide:
                self._sentence_ended = True
            elif grapheme not in "\"')]»”’":
                self._sentence_ended = False
            return Boundary.SENTENCE if wide and not self._marks else None
        self._sentence_ended = False
        if not self._line.strip(" \t>"):
            return None  # an indent belongs to its line
        if _BLOCK.fullmatch(self._line):  # so does what makes it an item or a heading,
            self._marks = ()  # and what the block before left open was just text
            return None
        if any(mark.is_link for mark in self._marks):
            return None
        if self._marks:
            return Boundary.WITHIN
        return Boundary.SENTENCE if ended else Boundary.WORD

    def _resolve(self, after: str) -> Iterator[Place]:
        """Take the run of delimiters for what it is, now that *after* follows it."""
        run, self._run = self._run, ""
        before, self._before = self._before, run[-1]
        self._sentence_ended = False
        top = self._marks[-1] if self._marks else None
        if run[0] == "`":
            if top is not None and top.is_code:
                if top.text == run:
                    self._marks = self._marks[:-1]
            else:
                self._open(run)
        elif top is None or top.text != "(":
            self._emphasize(run, before, after)
        yield self._place()

    def _emphasize(self, run: str, before: str, after: str) -> None:
        """Open or close emphasis: CommonMark 6.2, less what needs the rest of the text."""
        if run[0] == "~" and run != "~~":
            return
        within = before.isalnum() and after.isalnum()
        # Between letters "_" is part of a name, and a single "*" mostly multiplies.
        can_open = not after.isspace() and not (within and (run[0] == "_" or run == "*"))
        can_close = not before.isspace() and not (within and run[0] == "_")
        if can_close:
            left = self._close(run)
            if left != run:
                return
        if can_open and len(run) <= 3:  # noqa: PLR2004
            self._open(run)

    def _close(self, run: str) -> str:
        """Close what *run* closes; return what is left of it.

        ``**`` closes ``**``; of three, two or one may be closed first.
        """
        marks = self._marks
        for number in reversed(range(len(marks))):
            text, at = marks[number].text, marks[number].at
            if text[0] != run[0]:
                continue
            count = min(len(text), len(run))
            if len(text) == len(run) or max(len(text), len(run)) > 2:  # noqa: PLR2004
                rest = text[count:]
                self._marks = (*marks[:number], Mark(rest, at)) if rest else marks[:number]
                return self._close(run[count:]) if run[count:] else ""
        return run

    def _place(self, boundary: Boundary | None = None) -> Place:
        markup = self._markup
        quote = ""
        if self._fence is None and self._line.lstrip().startswith(">"):
            match = _QUOTE.match(self._line)
            quote = match[0] if match else ""
        same = markup.fence is self._fence and markup.marks == self._marks
        if not same or markup.quote != quote:
            self._markup = markup = Markup(self._fence, self._marks, quote)
        return Place(self._end, markup, boundary)
