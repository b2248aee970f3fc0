"""chatstream.cli.answer, seen through ``chatstream chat``."""

import json

import pytest

from chatstream.cli.answer import TextDisplay
from tests.cli.conftest import event

ROLE = event({"role": "assistant"})
STOP = event(finish_reason="stop")
DONE = "data: [DONE]\n\n"
HOSTILE = "\x1b]52;c;aGk=\x07\x9b2J\r\u202e"


@pytest.fixture
def hear(run, serve):
    """Chat with a server that answers these events."""

    def hear_(*events, options=()):
        server = serve(*events)
        return run("chat", "hi", "--base-url", server.url, "--retries", "0", *options)

    return hear_


def test_text_ends_in_one_newline(hear):
    assert (0, "Hello\n", "") == hear(
        ROLE, event({"content": "Hel"}), event({"content": "lo"}), STOP
    )
    assert (0, "Hello\n", "") == hear(event({"content": "Hello\n"}), STOP, DONE)


def test_text_is_shown_as_it_comes(child):
    """
    Each piece is flushed: whoever pipes it sees it at once.
    """
    process = child("chat", "--simulate", "--gap", "0.01", "count", "to", "9000")

    assert "1, 2" == process.stdout.read(4)


def test_halves_of_a_character_wait_for_each_other(hear):
    halves = (event({"content": half}) for half in ("a\ud83d", "\ude00b\ud83d"))

    assert (0, "a😀b\ufffd\n", "") == hear(*halves, STOP)


@pytest.mark.parametrize("options", [(), ("--timings",), ("--json",), ("--show-reasoning",)])
def test_no_display_lets_a_control_through(hear, options):
    """
    K16: neither in the text, nor cut over many chunks, nor in a name, reasoning, or a refusal.
    """
    call = {"index": 0, "id": HOSTILE, "function": {"name": HOSTILE, "arguments": HOSTILE}}
    events = [
        event({"reasoning_content": HOSTILE}, model=HOSTILE),
        *(event({"content": character}) for character in HOSTILE),
        event({"refusal": HOSTILE}),
        event({"tool_calls": [call]}),
        event(finish_reason="tool_calls"),
    ]
    status, shown, complaint = hear(*events, options=options)

    assert 0 == status
    for character in set(HOSTILE) - set("52;caGk=J]"):
        assert character not in shown + complaint


def test_an_error_lets_no_control_through(hear):
    error = json.dumps({"error": {"message": HOSTILE, "type": HOSTILE}})
    status, _, complaint = hear(event({"content": "a"}), f"data: {error}\n\n")

    assert 1 == status
    assert not set("\x1b\x07\x9b\r\u202e") & set(complaint)


def test_raw_lets_it_through_to_a_pipe(hear):
    assert (0, f"{HOSTILE}\ufffd\n", "") == hear(
        event({"content": f"{HOSTILE}\ud800"}), STOP, options=["--raw"]
    )


def test_reasoning_is_shown_on_stderr_if_asked_for(hear):
    events = [
        event({"reasoning": "Hm"}),
        event({"reasoning": "m\n"}),
        event({"content": "Hi"}),
        STOP,
    ]

    assert (0, "Hi\n", "") == hear(*events)
    assert (0, "Hi\n", "Hmm\n\n\n") == hear(*events, options=["--show-reasoning"])


def test_reasoning_may_come_again(hear):
    events = [event({"content": "a"}), event({"reasoning": "r"}), event({"content": "b"}), STOP]

    assert (0, "a\nb\n", "r\n\n") == hear(*events, options=["--show-reasoning"])


def test_a_refusal_is_text(hear):
    assert (0, "No.\n", "") == hear(event({"refusal": "No."}), STOP)


def test_a_tool_call_is_shown_when_it_is_whole(hear):
    first = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": "{"}}
    second = {"index": 0, "function": {"arguments": "}"}}
    status, shown, _ = hear(
        event({"content": "Well."}),
        event({"tool_calls": [first]}),
        event({"tool_calls": [second]}),
        event(finish_reason="tool_calls"),
    )
    text, call = shown.splitlines()

    assert (0, "Well.") == (status, text)
    assert {"name": "f", "arguments": "{}"} == json.loads(call)["function"]


def test_choices_follow_one_another(hear):
    """
    They come interleaved; the first is shown as it comes.
    """
    events = [
        event({"content": "b1"}, index=1),
        event({"content": "a1"}),
        event({"content": "b2\n"}, index=1),
        event({"content": "c"}, index=2),
        event({"content": "a2"}),
        *(event(finish_reason="stop", index=index) for index in range(3)),
    ]

    assert (0, "[choice 0]\na1a2\n[choice 1]\nb1b2\n[choice 2]\nc\n", "") == hear(
        *events, options=["-n", "3"]
    )


@pytest.mark.parametrize(
    ("status", "words", "events"),
    [
        (0, "[cut by the token limit]\n", [event({"content": "a"}, "length")]),
        (3, "[cut by the content filter]\n", [event({"content": "a"}, "content_filter")]),
        (3, "[cut by the server]\n", [event({"content": "a"}, "abort")]),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",), ("--timings",)])
def test_a_cut_answer_is_told(hear, status, words, events, options):
    status_, shown, complaint = hear(*events, DONE, options=options)

    assert (status, words) == (status_, complaint)
    assert shown


def test_no_answer_is_told(hear):
    assert (3, "", "[the server gave no answer]\n") == hear(DONE)


def test_a_broken_stream_keeps_its_worth(hear):
    events = [ROLE, event({"content": "Hel"})]
    sentence = "chatstream: stream ended without finish_reason or [DONE], after 2 events\n"

    assert (1, "Hel\n", sentence) == hear(*events)
    status, shown, complaint = hear(*events, options=["--json"])
    document = json.loads(shown)
    assert (1, sentence) == (status, complaint)
    assert "Hel" == document["completion"]["choices"][0]["message"]["content"]
    assert "truncated" == document["report"]["verdict"]
    assert "InterruptedStreamError" == document["error"]["type"]
    assert document["error"]["message"] in sentence
    status, shown, complaint = hear(*events, options=["--timings"])
    assert (1, sentence) == (status, complaint)
    assert "\nFull message received: Hel\n" in shown
    assert "truncated (InterruptedStreamError)" in shown


def test_json_is_one_line_with_everything(ask):
    status, shown, complaint = ask("--json", "count to 3", "--logprobs")
    document = json.loads(shown)

    assert (0, "") == (status, complaint)
    assert 1 == shown.count("\n")
    assert shown.isascii()
    assert {"completion", "report"} == document.keys()
    assert "1, 2, 3" == document["completion"]["choices"][0]["message"]["content"]
    assert 5 == len(document["completion"]["choices"][0]["logprobs"]["content"])
    assert "finished" == document["report"]["verdict"]
    assert 4 == len(document["report"]["inter_chunk_latencies"])
    assert 0 < document["report"]["time_to_first_token"]


def test_timings_tell_each_delta_then_the_whole_then_the_latencies(ask):
    """
    The main job of the project: its first lines are known to the letter.
    """
    status, shown, complaint = ask("--timings", "--time-to-first-token", "0", "Count to 100")
    lines = shown.splitlines()
    deltas, (blank, whole, *table) = lines[:201], lines[201:]

    assert (0, "") == (status, complaint)
    for line, delta in zip(deltas, ['{"role": "assistant"}', '{"content": "1"}'], strict=False):
        before, after = line.split(": ", 1)
        elapsed = before.removeprefix("Message received ").removesuffix(" seconds after request")
        assert delta == after
        assert elapsed == f"{float(elapsed):.2f}"
    assert deltas[200].endswith(" seconds after request: {}")
    assert "" == blank
    assert "Full message received: " + ", ".join(map(str, range(1, 101))) == whole
    assert ["", "Latencies of this answer:"] == table[:2]
    assert {"verdict", "time to first token", "inter-chunk latency"} <= {
        line.split("  ")[0] for line in table[2:]
    }


def test_timings_tell_the_choices_apart(ask):
    _, shown, _ = ask("--timings", "-n", "2", "say hi")

    assert "\nFull message received (choice 0): hi\n" in shown
    assert "\nFull message received (choice 1): hi\n" in shown


def test_timings_of_a_message_without_text_show_its_json(hear):
    call = {"index": 0, "id": "x", "function": {"name": "f", "arguments": "{}"}}
    _, shown, _ = hear(
        event({"tool_calls": [call]}), event(finish_reason="tool_calls"), options=["--timings"]
    )
    said = next(line for line in shown.splitlines() if line.startswith("Full message received: "))

    assert "f" == json.loads(said.split(": ", 1)[1])["tool_calls"][0]["function"]["name"]


def test_reasoning_is_dimmed_on_a_terminal(monkeypatch, capsys):
    class Terminal:
        shown = ""

        def isatty(self):
            return True

        def write(self, text):
            self.shown += text

        def flush(self):
            pass

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    display = TextDisplay(reasoning=True)
    display._reason("hm")
    display._end_reasoning()
    monkeypatch.setenv("NO_COLOR", "1")
    display._reason("hm")
    display._end_reasoning()

    assert "\x1b[2mhm\x1b[0m\n\nhm\n\n" == terminal.shown
