"""chatstream.bots.markup: what is open where a text ends."""

import pytest

from chatstream.bots.markup import (
    LONGEST_FENCE_LINE,
    LONGEST_RUN,
    MOST_OPEN,
    Boundary,
    MarkupScanner,
)
from chatstream.bots.splitting import graphemes


def places(text):
    return list(MarkupScanner().read(graphemes(text)))


def open_after(text):
    """What is open after *text*, however it goes on; "|" stands between opening and closing."""
    markup = places(text)[-1].markup
    return f"{markup.opening}|{markup.closing}"


INLINE = [
    ("plain ", "|"),
    ("**bold ", "**|**"),
    ("**bold** ", "|"),
    ("**bold *and italic ", "***|***"),
    ("**bold *and italic* ", "**|**"),
    ("***both ", "***|***"),
    ("***both* bold ", "**|**"),
    ("***both** italic ", "*|*"),
    ("***both*** ", "|"),
    ("*italic **text* ", "|"),
    ("**a *b*** ", "|"),
    ("__bold ", "__|__"),
    ("_italic ", "_|_"),
    ("*italic **bold ", "***|***"),
    ("~~gone ", "~~|~~"),
    ("~~gone~~ ", "|"),
    ("~5 min ", "|"),
    ("`code ", "`|`"),
    ("`code` ", "|"),
    ("``code ` ", "``|``"),
    ("``code `` ", "|"),
    ("`code **not bold` ", "|"),
    ("**bold `code ", "**`|`**"),
    ("`a\\` ", "|"),  # a backslash is nothing special in code
    ("\\*plain ", "|"),
    ("\\\\*italic ", "*|*"),
    ("\\`plain ", "|"),
    ("\\a*italic ", "|"),
    ("2 * 3 ", "|"),
    ("2*3 ", "|"),
    ("snake_case_name ", "|"),
    ("half**bold ", "**|**"),
    ("half**bold**half ", "|"),
    ("a ** b ", "|"),
    ("**** ", "|"),
    ("a ****b ", "|"),
    ("[link **bold ", "**|**"),
    ("[link](http://a_b_c/*d ", "|"),
    ("[link](http://a_(b)_c) _d ", "_|_"),
    ("[**a](x) ", "|"),  # what a link leaves open was text
    ("a](x) *b ", "*|*"),
    ("[1] (no link) *b ", "*|*"),
]


@pytest.mark.parametrize(("text", "expected"), INLINE)
def test_marks_are_open_until_they_are_closed(text, expected):
    """
    As CommonMark has it, where a model's answer shows the difference.
    """
    assert expected == open_after(text)


BLOCKS = [
    ("```python\nx", "```python\n|\n```"),
    ("```python\nx\n```\n", "|"),
    ("````md\n```py\nx\n```\n", "````md\n|\n````"),
    ("```\nx\n`````\n", "|"),
    ("```\nx\n~~~\n", "```\n|\n```"),
    ("~~~ruby a=`b`\nx", "~~~ruby a=`b`\n|\n~~~"),
    ("```\nx\n``` y\n", "```\n|\n```"),
    ("```\n**x\n```\n", "|"),
    ("**a\n```\nx\n```\n", "|"),
    ("```a``` b\nx", "|"),
    ("```a\nx", "```a\n|\n```"),
    ("a ```b\nx", "```|```"),
    ("  ```\n  x", "  ```\n|\n  ```"),
    ("- ```py\n  x", "  ```py\n|\n  ```"),
    ("1. ```py\n   x\n   ```\n", "|"),
    ("> ```py\n> x", "> ```py\n|\n> ```"),
    ("> ```py\n> x\n> ```\n", "|"),
    ("> ```py\n> x\ny *z ", "*|*"),
    ("```\n        ```\nx", "```\n|\n```"),
    ("```\n" + "`" * (LONGEST_FENCE_LINE + 1) + "\n", "```\n|\n```"),
    ("```\n" + "x" * (LONGEST_FENCE_LINE + 9), "```\n|\n```"),
    ("> quoted **bold ", "> **|**"),
    ("> quoted\n", "|"),
    ("**not closed\n\nnext ", "|"),
    ("**over\nlines ", "**|**"),
    ("**not closed\n- item ", "|"),
    ("**not closed\n## head ", "|"),
    ("[not closed\n*next ", "*|*"),
    ("* item *a ", "*|*"),
    ("```" + "x" * LONGEST_FENCE_LINE + " ", "```|```"),
    ("a" + "`" * (LONGEST_RUN + 1) + "x ", "`|`"),
]


@pytest.mark.parametrize(("text", "expected"), BLOCKS)
def test_blocks_begin_and_end_with_their_lines(text, expected):
    assert expected == open_after(text)


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("a **", 2),
        ("a **b", 5),
        ("a\n```py", 2),
        ("a\n```py\n", 8),
        ("```\nx\n``", 6),
        ("```\nx\n``y", 9),
        ("```\nx\n  ", 6),
        ("a\\", 1),
        ("a\\*", 3),
        ("~~~", 0),
    ],
)
def test_what_cannot_be_told_yet_waits(text, understood):
    """
    So that nobody sees a fence flicker.
    """
    found = places(text)

    assert understood == (found[-1].end if found else 0)


@pytest.mark.parametrize(
    ("text", "closing"),
    [
        ("```\nx\n```", ""),
        ("```\nx\n``", "\n```"),
        ("```py", "\n```"),
        ("**a **", "**"),
        ("**a**", ""),
        ("x\\", ""),
    ],
)
def test_the_end_tells_the_rest(text, closing):
    scanner = MarkupScanner()
    list(scanner.read(graphemes(text)))
    *_, last = scanner.finish()

    assert (len(text), closing) == (last.end, last.markup.closing)


P, L, S, C, W, N = (
    Boundary.PARAGRAPH, Boundary.LINE, Boundary.SENTENCE, Boundary.CODE, Boundary.WORD,
    Boundary.WITHIN,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b. c\n\nd", [(2, W), (5, S), (7, L), (8, P)]),
        ('He said "Go!" and', [(3, W), (8, W), (14, S)]),
        ("はい。いいえ", [(3, S)]),
        ("**はい。いいえ", []),
        ("- one two\n", [(6, W), (10, L)]),
        ("12. one\n", [(8, L)]),
        ("  indented\n", [(11, L)]),
        ("**a b** c", [(4, N), (8, W)]),
        ("**a\nb** c", [(4, N), (8, W)]),
        ("[a b](c d) e", [(11, W)]),
        ("```\n  a b\n\nc\n```\nd", [(8, N), (10, C), (11, C), (13, C), (17, L)]),
        ("> a\n>\n> b", [(4, L), (6, P)]),
        ("a\r\n\r\nb", [(3, L), (5, P)]),
    ],
)
def test_some_places_are_better_to_cut_at(text, expected):
    """
    None within a link, an indent or what makes an item of a list.
    """
    assert expected == [(p.end, p.boundary) for p in places(text) if p.boundary is not None]


@pytest.mark.parametrize("opening", ["[", "[a](", "[a]((", "**a _b ", "~~a *b ", "*a **b "])
def test_no_more_is_open_than_can_be_looked_through(opening):
    """
    A model that says nothing but brackets must not keep a bot busy for minutes.
    """
    text = opening * 1000
    most = max(len(place.markup.marks) for place in places(text))

    assert most <= MOST_OPEN
    assert len(text) == places(text + "\n")[-1].end - 1
