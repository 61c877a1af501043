"""llamaproxy.cli.terminal: what stdout is, and the JSON on it."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from llamaproxy.cli import terminal

LOOK = (
    "from llamaproxy.cli import terminal; import sys;"
    "print(terminal.width(), terminal.is_coloured(), file=sys.stderr); terminal.clear()"
)


def on_a_terminal(**environment: str) -> str:
    """What the process sees."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", LOOK],
            env={"PATH": os.environ["PATH"], "COLUMNS": "77", "TERM": "xterm", **environment},
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
        assert os.read(ours, 100) == b"\x1b[H\x1b[J"
    finally:
        os.close(ours)
        os.close(theirs)
    return done.stderr.strip()


def test_a_terminal_has_a_width_and_colours() -> None:
    assert on_a_terminal() == "77 True"


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_declined(variable: dict[str, str]) -> None:
    assert on_a_terminal(**variable) == "77 False"


def test_an_empty_no_color_declines_nothing() -> None:
    assert on_a_terminal(NO_COLOR="") == "77 True"


def test_a_pipe_has_neither(capsys: pytest.CaptureFixture[str]) -> None:
    assert (terminal.width(), terminal.is_coloured()) == (None, False)
    terminal.clear()
    assert capsys.readouterr().out == ""


def test_documents_begin_with_their_version(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_json({"a": "ü"})
    out = capsys.readouterr().out
    assert (json.loads(out), out.splitlines()[1].strip()) == ({"schema_version": 1, "a": "ü"}, '"schema_version": 1,')
    terminal.print_json({"a": [1]}, None)
    assert capsys.readouterr().out == '{"schema_version": 1, "a": [1]}\n'


def test_a_line_that_is_written_over_is_no_wider_than_its_terminal() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 10, 0, 0))
    code = "from llamaproxy.cli import terminal; terminal.rewrite('0123456789abc'); terminal.rewrite()"
    try:
        subprocess.run([sys.executable, "-c", code], stderr=theirs, timeout=60, check=True)
        assert os.read(ours, 100) == b"\r\x1b[K012345678\r\x1b[K"
    finally:
        os.close(ours)
        os.close(theirs)
