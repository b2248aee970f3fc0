"""chatstream.bots.sink."""

import pytest

from chatstream.bots import FloodError, SinkError, utf16_length


@pytest.mark.parametrize(("text", "length"), [("", 0), ("naïve", 5), ("日本", 2), ("😀", 2)])
def test_characters_beyond_the_first_plane_count_twice(text, length):
    """
    As in the languages in which the platforms are written.
    """
    assert length == utf16_length(text) == len(text.encode("utf-16-le")) // 2


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [(None, "too many writes"), (2.5, "too many writes, none for 2.5 s")],
)
def test_a_flood_tells_how_long_it_lasts(retry_after, expected):
    error = FloodError(retry_after)

    assert (expected, retry_after) == (str(error), error.retry_after)
    assert isinstance(error, SinkError)
