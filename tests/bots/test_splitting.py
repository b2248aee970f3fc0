"""chatstream.bots.splitting."""

import sys
from itertools import pairwise

import pytest
import regex
from hypothesis import assume, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from chatstream import RequestError
from chatstream.bots.sink import utf16_length
from chatstream.bots.splitting import LONGEST_GRAPHEME, Part, Splitter, _find_graphemes, split

# --- Texts -----------------------------------------------------------------------

WORDS = st.sampled_from(
    ["word", "a", "it's", "naïve", "e\u0301t\u0301e\u0301", "日本語です。", "2,5", "end.",
     "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "unpronounceablylong" * 2]
)  # fmt: skip
PHRASE = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)


def inline():
    """Phrases, plain and with markup, one in another."""
    code = st.one_of(PHRASE.map("`{}`".format), PHRASE.map("``x`{}``".format))
    # A link longer than half a part may be torn.
    link = st.tuples(
        st.sampled_from(["here", "a *b*", "日本語です。 `x`"]),
        st.sampled_from(["/a", "https://host/a_b_c"]),
    ).map(lambda pair: "[{}]({})".format(*pair))
    leaf = st.one_of(PHRASE, code, link)
    strong = st.one_of(leaf, PHRASE.map("*{}*".format), PHRASE.map("_{}_".format))
    return st.one_of(
        leaf,
        strong.map("**a {} z**".format),
        leaf.map("*a {} z*".format),
        leaf.map("~~a {} z~~".format),
        PHRASE.map("***{}***".format),
    )


PARAGRAPH = st.lists(inline(), min_size=1, max_size=12).map(" ".join)
CODE = st.lists(
    st.sampled_from(["x = 1", "    return *x", "", "def f(**y): `z`", "# **", "~~~"]), max_size=30
)
FENCE = st.builds(
    lambda marker, info, lines: "\n".join([marker + info, *lines, marker]),
    st.sampled_from(["```", "````", "```````"]),
    st.sampled_from(["", "python", "c++ title=a"]),
    CODE,
)
BLOCK = st.one_of(
    PARAGRAPH,
    FENCE,
    PARAGRAPH.map("> {}".format),
    CODE.map(lambda lines: "\n".join(["> ```c", *(f"> {line}" for line in lines), "> ```"])),
    CODE.map(lambda lines: "\n".join(["- ```c", *(f"  {line}" for line in lines), "  ```"])),
    PARAGRAPH.map("## {}".format),
    st.lists(PARAGRAPH, min_size=1, max_size=3).map(lambda items: "- " + "\n- ".join(items)),
)
DOCUMENT = st.lists(BLOCK, min_size=1, max_size=8).map("\n\n".join)
ANYTHING = st.lists(
    st.one_of(
        WORDS,
        st.sampled_from([*"`*_~[]()\\>#-+1. \n\t\r!", "```", "~~~", "\n\n", "\r\n", "**"]),
        st.sampled_from(["\u0301" * 40, "x" * 150, " " * 150, "\n" * 140, "`" * 90, "\u200d"]),
        st.text(max_size=20),
    ),
    max_size=60,
).map("".join)
LENGTH = st.integers(128, 400)
MEASURE = st.sampled_from([len, utf16_length, lambda text: len(text.encode("utf-8", "replace"))])


def parts_of(text, length, measure=len, cuts=()):
    """Feed *text* in pieces; the parts it comes to."""
    splitter = Splitter(length, measure)
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    parts = [part for start, end in pairwise(edges) for part in splitter.feed(text[start:end])]
    return parts + splitter.finish()


def styled(text):
    """What a reader sees of Markdown: each character with its styles."""
    seen = []
    for block in MarkdownIt("commonmark").enable("strikethrough").parse(text):
        if block.type in {"fence", "code_block"}:
            seen += [(char, (block.type, block.info)) for char in block.content]
        styles = []
        for token in block.children or ():
            if token.nesting == 1:
                styles.append((token.tag, token.attrGet("href")))
            elif token.nesting == -1:
                styles.pop()
            else:
                seen += [(char, (token.type, *sorted(styles, key=str))) for char in token.content]
    return [(char, styles) for char, styles in seen if not char.isspace()]


# --- What always holds --------------------------------------------------------------


@given(text=ANYTHING, length=LENGTH, measure=MEASURE)
def test_nothing_is_lost(text, length, measure):
    """
    Whatever the text is, the parts' bodies are it, and each part has its place.
    """
    parts = parts_of(text, length, measure)

    assert text == "".join(part.body for part in parts)
    assert [] == [part.text for part in parts if measure(part.text) > length]


@given(
    text=st.one_of(ANYTHING, DOCUMENT), length=LENGTH, cuts=st.sets(st.integers(1, 500)),
)  # fmt: skip
def test_any_feeding_gives_the_same_parts(text, length, cuts):
    """
    Deltas may end anywhere, even between a letter and its accent.
    """
    assert parts_of(text, length) == parts_of(text, length, cuts=cuts)


@given(text=DOCUMENT, length=LENGTH)
def test_the_parts_look_like_the_whole(text, length):
    """
    Another reader of Markdown sees the same characters in the same styles.
    """
    whole = styled(text)
    seen = [one for part in parts_of(text, length) for one in styled(part.text)]

    assert whole == seen


@given(text=st.one_of(ANYTHING, DOCUMENT), length=LENGTH)
def test_graphemes_stay_whole(text, length):
    """
    Flags, families, accents, and the end of a line of two characters.
    """
    assume(all(len(one) <= LONGEST_GRAPHEME for one in regex.findall(r"\X", text)))
    bodies = [part.body for part in parts_of(text, length)]

    assert regex.findall(r"\X", text) == [
        one for body in bodies for one in regex.findall(r"\X", body)
    ]


@given(text=st.one_of(ANYTHING, DOCUMENT), length=LENGTH, step=st.integers(1, 9))
def test_what_is_shown_fits_and_ends_as_the_part(text, length, step):
    """
    At each moment, and nothing that is closed changes any more.
    """
    splitter = Splitter(length)
    for start in range(0, len(text), step):
        splitter.feed(text[start : start + step])

        assert len(splitter.shown) <= length


@given(text=st.one_of(ANYTHING, DOCUMENT), length=LENGTH, data=st.data())
def test_what_is_settled_only_grows(text, length, data):
    """
    For who can only append: the part that closes begins with all that was settled.
    """
    splitter, written, bodies = Splitter(length), "", ""
    step = data.draw(st.integers(1, 60))
    for start in range(0, len(text) + step, step):
        piece = text[start : start + step]
        for part in splitter.feed(piece) if piece else splitter.finish():
            assert part.text.startswith(written)
            assert len(part.text) <= length
            written, bodies = "", bodies + part.body
        if data.draw(st.booleans()):
            for part in splitter.settle_all():
                assert part.text.startswith(written)
                written, bodies = "", bodies + part.body
        settled = splitter.settle()

        assert settled.startswith(written)
        written = settled

    assert text == bodies + "".join(part.body for part in splitter.finish())


# --- Where it cuts ---------------------------------------------------------------------


def test_a_text_that_fits_is_left_alone():
    text = "Short, with **markup that is open, and `more."

    assert [text] == split(text, 128)
    assert [] == split(" \n", 128)


@pytest.mark.parametrize(
    "text",
    ["```python\nx = 1", "```python\nx = 1\n", "```python\nx = 1\n```", "```python\nx = 1\n``"],
)
def test_a_fence_is_always_closed(text):
    """
    What follows in the chat would be code, too; an answer may stop anywhere.
    """
    (shown,) = split(text, 128)

    assert 0 == shown.count("```") % 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a b. " * 12 + "end.\nA line.\n\n", "A paragraph. " * 10),
        ("a b. " * 12 + "end.\n", "A line. " * 20),
        ("a b " * 16 + "end. ", "word " * 30),
        ("word " * 20, "x" * 60),
        ("word " * 4, "[" + "link text " * 10 + "](https://host/a)"),
        ("はい。" * 30, "あ" * 90),
    ],
)
def test_the_best_place_in_the_latter_half_is_taken(before, after):
    """
    A paragraph's end, else a line's, a sentence's, a word's; links stay whole.
    """
    first, *_ = split(before + after, 128)

    assert before.rstrip() == first


def test_what_has_no_place_to_cut_is_cut_anywhere():
    assert ["x" * 128, "x" * 72] == split("x" * 200, 128)


def test_markup_is_closed_and_opened_again():
    text = "**" + "bold " * 40 + "and `some code`** ~~" + "gone " * 30 + "*both*~~"

    assert ["**" + " ".join(["bold"] * n) + "**" for n in (25,)] == split(text, 128)[:1]
    assert split(text, 128)[1].startswith("**bold ")
    assert all(0 == part.count("**") % 2 == part.count("~~") % 2 for part in split(text, 128))


def test_a_fence_too_long_to_be_said_again_is_left_out():
    """
    Its info string may be longer than a message has room for.
    """
    marker = "`" * 60
    parts = split(f"{marker}\n" + "x = 1\n" * 40 + marker, 128)

    assert all(len(part) <= 128 for part in parts)
    assert parts[-1].endswith(marker)


def test_a_grapheme_without_end_ends_somewhere():
    """
    Some write a letter with a thousand accents to see what breaks.
    """
    text = "e" + "\u0301" * 1000

    assert text == "".join(split(text, 128))


def test_a_character_longer_than_a_message_is_one_all_the_same():
    """
    Nobody can help it; but it ends, and nothing is lost.
    """
    assert ["**", "a", "b", "**"] == split("**ab**", 128, lambda text: 200 * len(text))


def test_white_space_between_parts_is_not_shown():
    parts = parts_of("word " * 30 + "\n\n\n\n\n" + "more " * 25, 150)

    assert [" ".join(["word"] * 30), " ".join(["more"] * 25)] == [part.text for part in parts]
    assert parts[0].body.endswith("\n\n")


def test_blank_lines_before_a_text_are_not_counted():
    assert ["x" * 128] == split("\n \r\n\n" + "x" * 128, 128)


@pytest.mark.parametrize("length", [127, 0, -1])
def test_parts_have_a_least_length(length):
    with pytest.raises(RequestError, match=f"length: expected at least 128, got {length}"):
        split("text", length)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    """
    When a bot starts, not at the first accent.
    """
    monkeypatch.setitem(sys.modules, "regex", None)
    _find_graphemes.cache_clear()
    with pytest.raises(ImportError, match=r"chatstream-sdk\[bots\]"):
        Splitter(128)
    monkeypatch.undo()

    assert Splitter(128)


# --- While it grows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hel", "Hel"),
        ("Hello **wor", "Hello **wor**"),
        ("Hello **", "Hello"),
        ("Hello\n``", "Hello"),
        ("Hello\n```py", "Hello"),
        ("Hello\n```py\nx", "Hello\n```py\n```"),
        ("Hello\n```py\nx = ", "Hello\n```py\nx =\n```"),
        ("Hello\n```py\nx = 1\n``", "Hello\n```py\nx = 1\n```"),
        ("Hello\n```py\nx = 1\n```", "Hello\n```py\nx = 1\n```"),
        ("a `co", "a `co`"),
        ("see [this](http", "see [this](http"),
    ],
)
def test_what_is_shown_is_whole_markup(text, shown):
    """
    Whatever is there yet; what can't be told isn't shown.
    """
    splitter = Splitter(200)
    splitter.feed(text)

    assert shown == splitter.shown


def test_what_is_settled_is_not_cut():
    """
    Though there was a better place before its end.
    """
    splitter = Splitter(200)
    splitter.feed("word " * 24 + "end.\n\n" + "word " * 9)
    settled = splitter.settle()
    first, *_ = splitter.feed("word " * 20)

    assert settled.endswith("end.\n\n" + "word " * 7 + "word")
    assert first.text.startswith(settled)


def test_what_is_settled_ends_with_a_word():
    """
    And with a line, as soon as the part is almost full: the cut may be near.
    """
    splitter = Splitter(200)
    splitter.feed("One line.\n" + "word " * 20 + "wor")

    assert ("One line.\n" + "word " * 20).rstrip() == splitter.settle()

    splitter = Splitter(200)
    splitter.feed("One line.\n" + "word " * 36 + "wor")

    assert "One line." == splitter.settle()


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("It's **very im", "It's"),
        ("It's **very important** to", "It's **very important**"),
        ("It's `x = 1", "It's"),
        ("```\nx = 1\ny = 2", "```\nx = 1"),
        ("It's **" + "very " * 50, "It's **" + " ".join(["very"] * 49)),
    ],
)
def test_emphasis_and_code_settle_when_they_are_whole(text, settled):
    """
    Half of it reads badly, and can't be taken back. What is long comes all the same.
    """
    splitter = Splitter(1000)
    splitter.feed(text)

    assert settled == splitter.settle()


def test_a_part_knows_what_is_left_of_it():
    splitter = Splitter(128)
    splitter.feed("```py\nx = 1\ny =")
    cut = splitter.last_boundary
    splitter.feed(" 2\n```")
    (part,) = splitter.finish()

    assert Part("```py\n", "y = 2\n```", "", 12) == part.since(cut)


def test_a_part_can_be_begun_anew():
    """
    When the message that shows it takes no more.
    """
    splitter = Splitter(128)
    splitter.feed("```py\nx = 1\ny =")
    splitter.cut(splitter.last_boundary)
    splitter.feed(" 2\n```")

    assert [Part("```py\n", "y = 2\n```", "", 12)] == splitter.finish()


def test_it_takes_time_in_proportion():
    """
    Of ten times the text, fed in deltas and shown at each; counted in steps, not seconds.
    """
    assert steps_of("A **few** `words` of text.\n" * 400) < 11 * steps_of(
        "A **few** `words` of text.\n" * 40
    )


def steps_of(text):
    """How many lines of the package run for *text*."""
    steps = 0

    def count(frame, event, _):
        nonlocal steps
        if "bots" not in frame.f_code.co_filename:
            return None
        steps += event == "line"
        return count

    splitter, before = Splitter(1000), sys.gettrace()
    sys.settrace(count)
    try:
        for start in range(0, len(text), 8):
            splitter.feed(text[start : start + 8])
            _ = splitter.shown
    finally:
        sys.settrace(before)  # who measures coverage
    return steps
