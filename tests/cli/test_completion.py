"""llamaproxy.cli.completion: shells get scripts that they can read, with every verb."""

import shutil
import subprocess

import pytest

from llamaproxy import cli
from tests.cli.test_package import verbs

SYNTAX = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", SYNTAX)
def test_every_verb_is_in_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert [verb for verb in verbs() if verb not in text] == []


@pytest.mark.parametrize("shell", SYNTAX)
def test_the_shell_can_read_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    subprocess.run(SYNTAX[shell], input=script(shell, capsys), text=True, timeout=60, check=True)


def test_bash_completes_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    if not (bash := shutil.which("bash")):
        pytest.skip("bash is not installed")
    ask = 'COMP_WORDS=(llamaproxy rel); COMP_CWORD=1; _shtab_llamaproxy; echo "${COMPREPLY[@]}"'
    command = [bash, "-c", f"{script('bash', capsys)}\n{ask}"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "reload\n"


def test_another_shell_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["completion", "cmd"])
    assert caught.value.code == 2
