"""An answer as a chat is to show it, as far as it has come.

Closed parts wait to be delivered; the open one is shown as it is now.
"""

from __future__ import annotations

from collections import deque

from attrs import evolve

from chatstream.bots.sink import Limits
from chatstream.bots.splitting import Cut, Part, Splitter, split
from chatstream.completion import whole_text


class Answer:
    """The text that came, in parts; what shows while there is none."""

    def __init__(self, limits: Limits, thinking: str = "") -> None:
        self._limits = limits
        self._thinking = thinking
        self._pieces: list[str] = []
        self._half = ""
        self.open = Splitter(limits.length, limits.measure)
        """The part that grows."""
        self.closed: deque[Part] = deque()
        """Parts that are final, and not delivered yet."""
        self.placeholder = ""
        """What to show while there is no text."""
        self.new = 0
        """Characters since the last write."""

    @property
    def text(self) -> str:
        """The whole text so far, as it came."""
        return "".join(self._pieces)

    @property
    def shown(self) -> str:
        """The open part as an editable message shows it now."""
        return self.open.shown or (self.placeholder if not self.has_text else "")

    @property
    def has_text(self) -> bool:
        """Whether anything came that can be seen."""
        return any(not piece.isspace() for piece in self._pieces)

    def add(self, text: str) -> None:
        """Take more of the text, which may end in half a surrogate pair."""
        text = self._half + text
        cut = len(text) - ("\ud800" <= text[-1:] <= "\udbff")
        self._half = text[cut:]
        if cut:
            self._take(whole_text(text[:cut]))

    def think(self) -> None:
        """Note that the model thinks before it says something."""
        if self._thinking and not self.placeholder:
            self.placeholder = self._thinking
            self.new += len(self._thinking)

    def settle(self) -> None:
        """Let all that is shown stay as it is: nothing came for a while."""
        self.closed.extend(part for part in self.open.settle_all() if part.text)

    def finish(self, note: str) -> None:
        """Take the text for whole; *note* is told at its end."""
        if self._half:
            self._take(whole_text(self._half))
        self.closed.extend(part for part in self.open.finish() if part.text)
        if not note:
            return
        last = self.closed.pop() if self.closed else Part("", "", "")
        with_note = evolve(last, note=note)
        if self._fits(with_note):
            self.closed.append(with_note)
        else:
            self.closed.extend([last] if last.text else [])
            self.closed.extend(self._parts(note))

    def resume(self, cut: Cut) -> None:
        """Let a new message begin at *cut* in the part that is to be written next."""
        if not self.closed:
            self.open.cut(cut)
            return
        rest = self.closed.popleft().since(cut)
        if self._fits(rest):
            self.closed.appendleft(rest)
        else:  # its fence's first line is longer than what was shown of it
            self.closed.extendleft(reversed(self._parts(rest.text)))

    def _take(self, text: str) -> None:
        self._pieces.append(text)
        self.new += len(text)
        self.closed.extend(part for part in self.open.feed(text) if part.text)

    def _fits(self, part: Part) -> bool:
        return self._limits.measure(part.text) <= self._limits.length

    def _parts(self, text: str) -> list[Part]:
        limits = self._limits
        return [Part("", part, "") for part in split(text, limits.length, limits.measure)]
