"""chatstream.bots.formatting: what Telegram shows of Markdown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.bots import Splitter, utf16_length
from chatstream.bots.formatting import format_markdown
from tests.standins.telegram import check_entities, tagged


def entities(formatted):
    return [
        {"type": span.kind, "offset": span.offset, "length": span.length,
         "language": span.language, "url": span.url}
        for span in formatted.spans
    ]  # fmt: skip


def looks(markdown):
    formatted = format_markdown(markdown)
    return tagged(formatted.text, entities(formatted))


SEEN = [
    ("plain, *", "plain, *"),
    ("It's **so**.", "It's <b>so</b>."),
    ("*a* and _b_", "<i>a</i> and <i>b</i>"),
    ("__a__ ~~b~~", "<b>a</b> <s>b</s>"),
    ("***both***", "<b><i>both</i></b>"),
    ("***a** b*", "<i><b>a</b> b</i>"),
    ("**a *b***", "<b>a <i>b</i></b>"),
    ("*a **b***", "<i>a <b>b</b></i>"),
    ("a **b\nc** d", "a <b>b\nc</b> d"),
    ("a **b\n\nc** d", "a **b\n\nc** d"),
    ("- a **b\n- c** d", "- a **b\n- c** d"),
    ("*a **b* c", "<i>a **b</i> c"),
    ("snake_case_name, 2*3*4, 2 * 3 * 4", "snake_case_name, 2*3*4, 2 * 3 * 4"),
    ("* an item\n* another *one*", "* an item\n* another <i>one</i>"),
    ("~5 min ~ 10, ****, a ** b", "~5 min ~ 10, ****, a ** b"),
    ("**open", "**open"),
    (r"\*not\* \_this\_ \\ \a", r"*not* _this_ \ \a"),
    ("`c*o*de` ``a ` b`` `` ` ``", "<code>c*o*de</code> <code>a ` b</code> <code>`</code>"),
    ("a ` b `` c ` d", "a <code>b `` c</code> d"),
    ("a `` b ` c", "a `` b ` c"),
    ("**a `b` c**", "<b>a </b><code>b</code><b> c</b>"),
    ("**`a` *b `c`***", "<code>a</code><b> <i>b </i></b><code>c</code>"),
    ("# One\n## Two **a** `b` #\ntext", "<b>One</b>\n<b>Two a </b><code>b</code>\ntext"),
    ("# C#\n#hash", "<b>C#</b>\n#hash"),
    ("```py\nx = 1 < 2\n```\nafter", "<pre py>x = 1 < 2</pre>\nafter"),
    ("```\n**a**\n\nb\n```", "<pre>**a**\n\nb</pre>"),
    ("1. a\n   ```c++ x\n   b\n   ```\n", "1. a\n<pre c++>   b</pre>\n"),
    ("~~~\n```\n~~~", "<pre>```</pre>"),
    ("```py\nopen\n", "<pre py>open\n</pre>"),
    ("a\n```\n```\nb", "a\n\nb"),
    ("> ```\n> *a*\n*b*", "<pre>> *a*\n</pre><i>b</i>"),
    ("[a **b**](https://x.org/y_(z))", "<a https://x.org/y_(z)>a <b>b</b></a>"),
    ('[`a`](http://x.org "T") ![i](https://x.org)', "<a http://x.org>a</a> <a https://x.org>i</a>"),
    ("**[a](mailto:b@x.org)**", "<b><a mailto:b@x.org>a</a></b>"),
    ("[a](tg://user?id=1) [b](javascript:b)", "[a](tg://user?id=1) [b](javascript:b)"),
    ("[a] (https://x.org) [](https://x.org)", "[a] (https://x.org) [](https://x.org)"),
    ("😀 **😀a** `😀`", "😀 <b>😀a</b> <code>😀</code>"),
    ("a\r\n```py\r\nb\r\n```\r\n**c**\r\n", "a\r\n<pre py>b</pre>\r\n<b>c</b>\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("markdown", "seen"), SEEN)
def test_markup_is_seen_and_not_read(markdown, seen):
    assert seen == looks(markdown)


@pytest.mark.parametrize(
    "text", ["<b>bold</b> &amp; <script>", "<a href='tg://user?id=1'>you</a>", "/start@bot $x #y"]
)
def test_what_would_be_markup_elsewhere_is_text(text):
    """
    The text goes out with spans of its own; nothing in it is read as HTML.
    """
    assert text == looks(text)


@pytest.mark.parametrize("markdown", ["```\n```", "#  ", "", " \n"])
def test_a_text_of_nothing_but_markup_stays(markdown):
    """
    An empty message is refused.
    """
    assert markdown == format_markdown(markdown).text


PIECES = st.sampled_from(
    ["*", "**", "***", "_", "__", "~~", "`", "``", "```", "\n", "\n\n", " ", "a", "b c", "😀", "# ",
     "- ", "> ", "[", "](https://x.org)", "](", ")", "\\", "```py\n", "\n```\n", "!", "\r\n", "é"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_text_gives_spans_that_telegram_takes(markdown):
    """
    And a text that is no longer: the length that was counted is that of the source.
    """
    formatted = format_markdown(markdown)

    check_entities(formatted.text, entities(formatted))
    assert utf16_length(formatted.text) <= utf16_length(markdown)


@given(st.text(st.sampled_from("ab é😀\n.,<>&@/:'\""), max_size=80))
def test_a_text_without_markup_stays_as_it_is(text):
    assert (text, ()) == (format_markdown(text).text, format_markdown(text).spans)


LIVE = (
    "Some **bold *and italic* text**, `code()`, ~~gone~~ [a link](https://x.org).\n\n"
    "```py\nx = '*'\n```\n\nThen ***both** of* it.\n"
)


def test_no_delimiter_is_read_while_a_text_grows():
    """
    What the splitter closes is understood here, at each place.
    """
    splitter = Splitter(4096)
    for character in LIVE:
        splitter.feed(character)
        shown = format_markdown(splitter.shown).text.replace("x = '*'", "").replace("x = '*", "")

        assert not set("*`~") & set(shown)


def test_delimiters_without_end_take_no_time():
    """
    Each is looked at a few times, whatever a model repeats.
    """
    for each in ("*a ", "**", "`a ``b ", "[", "[a](https://x", "_a*b~~c", "```\n"):
        format_markdown(each * 3000)
