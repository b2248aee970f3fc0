"""chatstream.cli.conversation."""

import fcntl
import os
import pty
import select
import struct
import sys
import termios

import pytest

from chatstream import ChatCompletion, to_dict
from chatstream.cli.answer import Outcome
from chatstream.cli.conversation import converse
from chatstream.completion import CompletionChoice, Message

AT_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from chatstream.cli import main
sys.exit(main())
"""


@pytest.fixture
def talk(monkeypatch, capsys):
    """Let a user type lines, and a model give answers: what was asked, then what was shown."""

    def talk_(*lines, answers=(), system=None):
        lines, answers, asked = iter(lines), iter(answers), []

        def type_line(_):
            line = next(lines, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        def ask(messages):
            asked.append([to_dict(message) for message in messages])
            message = next(answers)
            choices = () if message is None else (CompletionChoice(0, message),)
            return Outcome(0, ChatCompletion(choices=choices))

        monkeypatch.setattr("builtins.input", type_line)
        monkeypatch.setitem(sys.modules, "readline", None)
        assert converse(ask, system=system, title="m at h.") == 0
        return asked, capsys.readouterr().err

    return talk_


def said(role, content):
    return {"role": role, "content": content}


def test_each_question_brings_along_what_was_said(talk):
    asked, _ = talk("a", "  ", "b", answers=[Message(content="A"), Message(content="B")])

    assert [
        [said("user", "a")],
        [said("user", "a"), said("assistant", "A"), said("user", "b")],
    ] == asked


def test_the_history_can_be_cleared_but_for_the_instructions(talk):
    asked, notes = talk(
        "a", "/clear", "b", answers=[Message(content="A"), Message(content="B")], system="S"
    )

    assert [
        [said("system", "S"), said("user", "a")],
        [said("system", "S"), said("user", "b")],
    ] == asked
    assert "[forgotten]" in notes


def test_a_question_without_an_answer_is_forgotten(talk):
    """
    Servers refuse two questions in a row; and the user will ask again.
    """
    asked, _ = talk("a", "b", "c", answers=[None, Message(content=None), Message(content="C")])

    assert [[said("user", text)] for text in "abc"] == asked


def test_a_refusal_is_an_answer(talk):
    asked, _ = talk("a", "b", answers=[Message(refusal="No."), Message(content="B")])

    assert {"role": "assistant", "refusal": "No."} == asked[1][1]


@pytest.mark.parametrize("last", ["/quit", "/exit", " /quit ", EOFError()])
def test_the_user_can_leave(talk, last):
    asked, notes = talk(last, "a")

    assert [] == asked
    assert "m at h. /help tells more, Ctrl-D leaves.\n" == notes


def test_ctrl_c_at_the_prompt_begins_a_new_line(talk):
    asked, notes = talk(KeyboardInterrupt(), "a", answers=[Message(content="A")])

    assert [[said("user", "a")]] == asked
    assert "[Ctrl-D or /quit leaves]" in notes


def test_commands_are_explained_and_questions_with_slashes_asked(talk):
    asked, notes = talk("/help", "/nope", "/usr/bin?", answers=[None])

    assert "/clear   forget what was said\n" in notes
    assert "[no command /nope, /help lists them]" in notes
    assert [[said("user", "/usr/bin?")]] == asked


def test_what_cant_be_encoded_is_replaced(talk):
    """
    A terminal in another encoding gives lone surrogates.
    """
    asked, _ = talk("a\udcff", answers=[None])

    assert [[said("user", "a?")]] == asked


class Terminal:
    """The side of a terminal where the user sits."""

    def __init__(self, start, *arguments, **streams):
        self.fd, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        streams = {"stdin": other, "stdout": other, "stderr": other, **streams}
        self.process = start(*arguments, code=AT_TERMINAL, start_new_session=True, **streams)
        os.close(other)
        self.seen = ""

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def until(self, text):
        """Wait until the screen shows *text*; what came up to there."""
        while text not in self.seen:
            assert select.select([self.fd], [], [], 20)[0], self.seen
            self.seen += os.read(self.fd, 4096).decode()
        before, self.seen = self.seen.split(text, 1)
        return before + text


@pytest.fixture
def terminal(child):
    opened = []

    def terminal_(*arguments, **streams):
        opened.append(Terminal(child, *arguments, **streams))
        return opened[-1]

    yield terminal_
    for one in opened:
        os.close(one.fd)


def test_a_conversation_at_a_terminal(terminal):
    """
    Ctrl-C stops an answer, not the conversation, whose history has what had come.
    """
    user = terminal("chat", "--simulate", "--gap", "0.01")
    user.until("> ")
    user.type("say A\n")
    user.until("A\r\n")
    user.until("> ")
    user.type("count to 9000\n")
    user.until("1, 2")
    user.type("\x03")
    user.until("\r\n[stopped]\r\n")
    user.until("> ")
    user.type("sayy C\x1b[D\x1b[D\x08\n")  # two to the left, rub out: readline edits
    user.until("C\r\n")
    user.until("> ")
    user.type("\x04")

    assert 0 == user.process.wait()


CONTROLS = {
    "a␛]0;title␇b␍c": "a\x1b]0;title\x07b\rc",
    "d␛]52;c;aGk=␇e": "d\x1b]52;c;aGk=\x07e",  # the clipboard
    "f\ufffd31mg\ufffdh": "f\x9b31mg\x85h",  # C1
    "i\ufffdj\ufffdk": "i\u202ej\u2066k",  # bidirectional
}


def test_a_terminal_is_not_controlled(terminal):
    """
    K16: escape sequences, C1, CR and bidirectional controls are shown, not obeyed.
    """
    text = " ".join(CONTROLS.values())
    user = terminal("chat", "--simulate", "--preset", "instant", "say", text)

    assert f"{' '.join(CONTROLS)}\r\n" == user.until("k\r\n")
    assert 0 == user.process.wait()


@pytest.mark.parametrize(
    ("complaint", "options"),
    [
        ("--raw needs a file or a pipe as output", ("--raw", "hi")),
        ("--json needs a prompt", ("--json",)),
    ],
)
def test_what_is_not_for_terminals(run, monkeypatch, complaint, options):
    for name in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{name}.isatty", lambda: True, raising=False)
    status, shown, complaints = run("chat", "--simulate", *options)

    assert (2, "") == (status, shown)
    assert complaint in complaints


def test_a_terminal_whose_output_goes_elsewhere_gives_a_prompt(terminal, tmp_path):
    """
    As with ``chatstream chat > answer.txt``: there is nobody to converse with.
    """
    path = tmp_path / "answer.txt"
    with path.open("w") as output:
        user = terminal("chat", "--simulate", "--preset", "instant", stdout=output)
    user.until("Type the prompt, then Ctrl-D.\r\n")
    user.type("say two\nlines\n\x04")

    assert 0 == user.process.wait()
    assert "two\nlines\n" == path.read_text()
