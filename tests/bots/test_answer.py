"""chatstream.bots.answer; most of it is tested with what shows an answer."""

from chatstream.bots import Limits
from chatstream.bots.answer import Answer

LIMITS = Limits(length=128, interval=1, typing=None)


def texts(answer):
    return [part.text for part in answer.closed]


def test_what_is_left_of_a_part_fits_although_its_markup_is_opened_again():
    """
    A fence too long for that is left out of a part, but its rest may be short.
    """
    answer = Answer(LIMITS)
    marker = "`" * 65
    answer.add(f"{marker}\n" + "x = 1\n" * 12)
    cut = answer.open.last_boundary
    answer.closed.popleft()
    answer.add("y = 2\n" * 30 + marker)
    answer.finish("")
    answer.resume(cut)

    assert all(len(text) <= 128 for text in texts(answer))
    assert 30 == sum(text.count("y = 2") for text in texts(answer))


def test_a_note_stands_below_the_last_part():
    answer = Answer(LIMITS)
    answer.add("word " * 40)
    answer.finish("The end.")

    assert texts(answer)[-1].endswith("word\n\nThe end.")
    assert 2 == len(answer.closed)


def test_a_note_may_be_all_there_is():
    answer = Answer(LIMITS)
    answer.finish("Nothing.")

    assert ["Nothing."] == texts(answer)


def test_a_long_note_is_split_itself():
    """
    The author's words have no limit.
    """
    answer = Answer(LIMITS)
    answer.finish("word " * 40)

    assert 2 == len(answer.closed)
    assert all(len(text) <= 128 for text in texts(answer))
