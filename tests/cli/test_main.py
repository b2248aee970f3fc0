"""chatstream.cli, its __main__, exits and app."""

import os
import subprocess
import sys

import pytest

import chatstream
from chatstream.cli import main
from chatstream.cli.app import COMMANDS


def test_says_its_version(run):
    assert (0, f"chatstream {chatstream.__version__}\n", "") == run("--version")


def test_runs_as_a_module():
    command = [sys.executable, "-W", "error", "-m", "chatstream", "--version"]

    assert f"chatstream {chatstream.__version__}\n" == subprocess.check_output(command, text=True)


def test_takes_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["chatstream", "--version"])

    assert 0 == main()
    assert "chatstream " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_command(run, arguments):
    status, shown, complaint = run(*arguments)

    assert (0, "") == (status, complaint)
    for command in COMMANDS:
        assert f" {command} " in shown
    assert "Ask a model" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(run, command, monkeypatch):
    """
    A newcomer has nothing but the help: no option may stand there without words.
    """
    monkeypatch.setenv("COLUMNS", "200")
    status, shown, _ = run(command, "--help")
    options = [line.strip("│ ") for line in shown.splitlines() if line.startswith("│ --")]

    assert 0 == status
    assert options
    for option in options:
        assert "  " in option, option


def test_an_unknown_command_is_named(run):
    status, shown, complaint = run("chta")

    assert (2, "") == (status, shown)
    assert complaint.startswith('chatstream: Unknown command "chta". Did you mean "chat"?')
    assert complaint.endswith("See chatstream --help.\n")
    assert 1 == complaint.count("\n")


def test_an_unknown_option_points_to_the_commands_help(run):
    assert (
        2,
        "",
        "chatstream: Unknown option: --foo. See chatstream chat --help.\n",
    ) == run("chat", "--foo")


def test_a_wrong_number_is_named(run):
    status, _, complaint = run("chat", "hi", "--top-p", "x")

    assert 2 == status
    assert '--top-p: unable to convert "x" into float.' in complaint


@pytest.mark.parametrize("part", ["cyclopts", "rich"])
def test_a_missing_part_names_the_extra(run, monkeypatch, part):
    """
    The base install has no command line; its script is there all the same.
    """
    monkeypatch.delitem(sys.modules, "chatstream.cli.app")
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    if part == "rich":

        class Broken:
            def find_spec(self, name, *_):
                if name == "cyclopts":
                    raise ModuleNotFoundError(name="rich.console")

        monkeypatch.delitem(sys.modules, "cyclopts")
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    status, shown, complaint = run("--version")

    assert (1, "") == (status, shown)
    assert complaint.endswith(": pip install 'chatstream-sdk[cli]'\n")
    assert f"needs {part}" in complaint


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
from chatstream.cli import main
print(*(main(line.split()) for line in sys.argv[1:]))
"""


def test_without_numpy_what_needs_it_says_so_in_a_line(child):
    lines = ("bench --simulate", "report here", "compare a b")
    shown, complaint = child(*lines, code=WITHOUT_NUMPY).communicate()

    assert "2 2 2\n" == shown
    assert ["chatstream: this command needs numpy: pip install 'chatstream-sdk[bench]'"] * 3 == (
        complaint.splitlines()
    )


def test_another_missing_module_is_no_excuse(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "chatstream.cli.app")
    monkeypatch.setitem(sys.modules, "chatstream.cli.app", None)

    with pytest.raises(ModuleNotFoundError):
        run("--version")


def test_a_closed_pipe_ends_quietly(child):
    """
    K16: as with ``| head``: status 141, no traceback, and no word at the interpreter's end.
    """
    process = child("chat", "--simulate", "--preset", "instant", "--timings", "count", "to", "9000")
    first = process.stdout.readline()
    process.stdout.close()
    complaint = process.stderr.read()

    assert first.endswith('{"role": "assistant"}\n')
    assert (141, "") == (process.wait(), complaint)


def test_a_full_disk_is_one_line(child):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = child("chat", "--simulate", "--preset", "instant", "hi", stdout=full)
        _, complaint = process.communicate()

    assert (1, "chatstream: No space left on device\n") == (process.returncode, complaint)


def test_a_closed_stdout_is_no_fault(child):
    """
    K16: a service may start us with ``>&-``; Python has no stdout then.
    """
    script = f'exec "{sys.executable}" -m chatstream chat --simulate --preset instant hi >&-'
    done = subprocess.run(["sh", "-c", script], capture_output=True, env=os.environ, check=False)

    assert (0, b"") == (done.returncode, done.stderr)


def test_an_odd_encoding_is_no_fault(child):
    process = child(
        "chat",
        "--simulate",
        "--preset",
        "instant",
        "say",
        "naïve",
        "✓",
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    shown, complaint = process.communicate()

    assert (0, "na?ve ?\n", "") == (process.returncode, shown, complaint)


def test_an_interrupt_between_two_things_is_quiet(run, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("chatstream.cli.app.run", interrupted)

    assert (130, "", "") == run("chat")
