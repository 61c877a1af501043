"""llm, by its command line: `llm openai endpoint`."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.clients import check

PROGRAM = str(Path(sys.executable).with_name("llm"))


def command(*words: str, key: str = check.KEY) -> list[str]:
    return [PROGRAM, "openai", "endpoint", check.BASE, *words, "--key", key]


def say(*words: str, code: int = 0, key: str = check.KEY) -> str:
    done = subprocess.run(command(*words, key=key), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def ask(*words: str) -> str:
    return say(check.WORDS, "-m", check.MODEL, "-o", "max_tokens", str(check.SHORT), *words)


def models() -> None:
    assert check.MODEL in say("--models").split()


def chat() -> None:
    assert ask("--no-stream").strip()


def stream() -> None:
    assert ask().strip()


def tools() -> str:
    schema = json.dumps(check.WEATHER)
    answer = json.loads(say(check.WORDS, "-m", check.MODEL, "-o", "max_tokens", str(check.SHAPED), "--schema", schema))
    assert answer["city"] in ("Paris", "Rome")
    # Without a docstring llm sends `description: null`, at which llama-server b11434 answers 500.
    tool = 'def weather(city: str) -> str:\n    """Of a city."""\n    return "rain"\n'
    say(check.WORDS, "-m", check.MODEL, "-o", "max_tokens", str(check.SHORT), "--functions", tool)
    return "accepted, if the function has a docstring; --schema"


def errors() -> str:
    said = say(check.WORDS, "-m", check.NOBODY, code=1)
    assert check.NOBODY in said, said
    say("--models", code=1, key=check.WRONG_KEY)
    return "exit 1 and the gateway's words"


def cancel() -> str:
    words = [check.WORDS, "-m", check.MODEL, "-o", "max_tokens", str(check.LONG)]
    process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    return check.abandoned()


if __name__ == "__main__":
    check.run("llm", models=models, chat=chat, stream=stream, tools=tools, errors=errors, cancel=cancel)
