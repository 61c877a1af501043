"""llamaproxy.cli.completion: shells get scripts that complete verbs, actions, options and their values."""

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from llamaproxy import cli
from tests.cli.test_package import verbs

SHELLS = ("bash", "zsh", "fish")
CASES = {
    "rel": "reload",
    "service st": "status",
    "config show --ori": "--origin",
    "logs --lev": "--level",
    "logs --level w": "warning",
    "completion f": "fish",
    "start --dry": "--dry-run",
    "keys create bob --adm": "--admin",
    "serve --config giv": "given.toml",
    "pull --dir pla": "place/",
}
every_case = pytest.mark.parametrize(("typed", "last"), CASES.items())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a file and a folder are."""
    (tmp_path / "given.toml").touch()
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


def found(shell: str) -> str:
    return shutil.which(shell) or pytest.skip(f"{shell} is not installed")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_verb_is_in_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert [verb for verb in verbs() if verb not in text] == []


@every_case
def test_bash_completes(typed: str, last: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the function that the script has registered for the command."""
    words = f"llamaproxy {typed}".split()
    ask = (
        'read -r _ _ _ _ function _ <<< "$(complete -p llamaproxy)"\n'
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; $function\n"
        'echo "${COMPREPLY[@]}"'
    )
    command = [found("bash"), "-c", f"{script('bash', capsys)}\n{ask}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == ([last.rstrip("/")], "")


@every_case
def test_fish_completes(typed: str, last: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file := folder / "llamaproxy.fish").write_text(script("fish", capsys))
    command = [found("fish"), "--no-config", "-c", f"source {file}; complete -C 'llamaproxy {typed}'"]
    done = subprocess.run(command, env={**os.environ, "HOME": str(folder)}, capture_output=True, text=True, timeout=60)
    assert ([line.split("\t")[0] for line in done.stdout.splitlines()], done.stderr) == ([last], "")


@every_case
def test_zsh_completes(typed: str, last: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It does so on a terminal only: Tab is pressed, and then a key that writes the line down."""
    (folder / "_llamaproxy").write_text(script("zsh", capsys))
    os.mkfifo(line := folder / "line")
    start = (
        f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D\n"
        f"written() {{ print -r -- $BUFFER > {line} }}; zle -N written; bindkey '^X' written\n"
    )
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder)}
    process = subprocess.Popen(
        [found("zsh"), "-f", "-i"], env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    try:
        os.write(ours, f"{start}llamaproxy {typed}\t\x18".encode())
        assert line.read_text().split() == ["llamaproxy", *typed.split()[:-1], last]
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_another_shell_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["completion", "cmd"])
    assert caught.value.code == 2
