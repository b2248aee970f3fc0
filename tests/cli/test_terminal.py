"""chatstream.cli.terminal."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.cli.terminal import Pieces, neutralise
from chatstream.completion import whole_text

hostile = st.text(
    st.sampled_from("a\n\t\r\x00\x07\x1b[]\\;\x7f\x85\x9b\x9c\u200f\u202e\u2066😀\ud83d\ude00é"),
    max_size=30,
)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ("", ""),
        ("plain, naïve ✓ 😀 العربية", "plain, naïve ✓ 😀 العربية"),
        ("a\n\tb", "a\n\tb"),
        ("␛[2J", "\x1b[2J"),
        ("␛]52;c;aGk=␇", "\x1b]52;c;aGk=\x07"),
        ("␛P1$r␛\\", "\x1bP1$r\x1b\\"),
        ("safe␍evil", "safe\revil"),
        ("line\nline␍\n", "line\r\nline\r\r\n"),
        ("␀␈␡", "\x00\x08\x7f"),
        ("\ufffd31m\ufffd", "\x9b31m\x85"),
        ("if \ufffdroot\ufffd", "if \u202eroot\u2069"),
        ("\ufffd|😀", "\ud800|\ud83d\ude00"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
    ],
)
def test_controls_are_shown_not_obeyed(shown, text):
    """
    What is plain stays as it is; families of emoji need their joiners.
    """
    assert shown == neutralise(text)


@given(st.text(st.characters(codec=None)) | hostile)
def test_no_control_gets_through(text):
    """
    Whatever the text: no C0 but newline and tab, no C1, no bidi control, no lone half.
    """
    shown = neutralise(text)

    for character in shown:
        assert character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cs"}
        assert unicodedata.bidirectional(character) not in {
            *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        }
        assert character not in "\u200e\u200f\u061c\u2028\u2029"
    assert shown == neutralise(shown)
    shown.encode()


@pytest.mark.parametrize("clean", [neutralise, whole_text])
@given(text=hostile, cuts=st.sets(st.integers(0, 30)))
def test_any_cut_gives_the_same_text(clean, text, cuts):
    """
    Chunks end anywhere: inside an escape sequence, a CR LF, a surrogate pair.
    """
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = Pieces(clean)
    shown = [pieces.feed(text[a:b]) for a, b in pairwise(edges)]

    assert clean(text) == "".join(shown) + pieces.finish()
