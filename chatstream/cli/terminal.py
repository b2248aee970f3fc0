"""Text that can be shown to a terminal, whatever a model wrote.

A terminal obeys what it shows: an escape sequence can move the cursor over
earlier text, retitle the window, fill the clipboard (OSC 52); a bidirectional
control can make text read as another. Each such character is replaced by a
visible one, by itself, so that a sequence cut over many chunks is harmless too.
"""

from __future__ import annotations

from collections.abc import Callable

from chatstream.completion import whole_text

_REPLACEMENT = "\ufffd"

_VISIBLE: dict[int, str] = {
    # C0 and DEL have pictures: ESC is shown as ␛.
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    # C1: among them one-character forms of CSI, OSC and DCS.
    **dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT),
    # Bidirectional marks, embeddings, overrides and isolates, and the
    # deprecated shaping controls after them; line and paragraph separators.
    **dict.fromkeys((0x061C, 0x200E, 0x200F), _REPLACEMENT),
    **dict.fromkeys(range(0x2028, 0x202F), _REPLACEMENT),
    **dict.fromkeys(range(0x2066, 0x2070), _REPLACEMENT),
}


def neutralise(text: str) -> str:
    """*text* with every control character but newline and tab made visible.

    CR LF is a newline; a CR by itself, which would overwrite the line, isn't.
    Lone surrogates, which no encoding can take, become U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    return whole_text(text.replace("\r\n", "\n")).translate(_VISIBLE)


class Pieces:
    """Cleans a text that comes in pieces as it would clean the whole.

    The only things that *clean* may see as one are CR LF and the halves of a
    surrogate pair: a first half at the end of a piece waits for the next.
    """

    def __init__(self, clean: Callable[[str], str]) -> None:
        self._clean = clean
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what can be shown now."""
        text = self._held + piece
        last = text[-1:]
        cut = len(text) - (last == "\r" or "\ud800" <= last <= "\udbff")
        self._held = text[cut:]
        return self._clean(text[:cut])

    def finish(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return self._clean(held)
