"""Records what engines send, for the tests of `core/sse` and `core/usage`: `python -m tests.core.record`.

Needs a `llama-server` on PATH, the embedded engine and its model (`make .venv/.test`); takes half a minute. Every
answer goes to `recordings/NAME.txt`, its content as it came; some are kept with the framing of their chunks, too
(`.raw`). The index beside them says what was asked, and what the engine's own counters (`/metrics`) rose by meanwhile:
they tell the truth also where an answer does not, or was left before its end.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llamaproxy.backends.engine import bundled_model
from llamaproxy.core.framing import ChunkedBody
from llamaproxy.core.response import Framing, parse

RECORDINGS = Path(__file__).parent / "recordings"
TEMPLATE = RECORDINGS / "template.jinja"
COUNTERS = {
    "prompt": "llamacpp:prompt_tokens_total",
    "cached": "llamacpp:prompt_tokens_cached_total",
    "completion": "llamacpp:tokens_predicted_total",
}
BUSY = "llamacpp:requests_processing"
PATIENCE = 60.0

HELLO = [{"role": "user", "content": "Say hello"}]
EMOJI = [{"role": "user", "content": "Repeat: 😀😍🎉 你好世界 and déjà vu"}]
THINKING = 'root ::= "I see: it is fine.\\n</think>\\n\\nIt is sunny."'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI_TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}]
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}


def _calls() -> list[dict[str, Any]]:
    """A conversation that the small model goes on with in the only way it has seen: by a call."""
    turns: list[dict[str, Any]] = []
    for city in ("Rome", "Berlin", "Oslo", "Madrid"):
        function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
        turns.append({"role": "user", "content": f"Weather in {city}?"})
        calls = [{"id": city, "type": "function", "function": function}]
        turns.append({"role": "assistant", "content": "", "tool_calls": calls})
    return [*turns, {"role": "user", "content": "Weather in Paris?"}]


def _anthropic_calls() -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for turn in _calls():
        uses = [
            {
                "type": "tool_use",
                "id": call["id"],
                "name": call["function"]["name"],
                "input": json.loads(call["function"]["arguments"]),
            }
            for call in turn.get("tool_calls", ())
        ]
        turns.append({"role": turn["role"], "content": uses or turn["content"]})
    return turns


def _chat(messages: Any = HELLO, tokens: int = 8, **more: Any) -> dict[str, Any]:
    return {"messages": messages, "max_tokens": tokens, "temperature": 0, **more}


STREAM: dict[str, Any] = {"stream": True}
Case = tuple[str, dict[str, Any]]

PLAIN: dict[str, Case] = {
    "chat": ("/v1/chat/completions", _chat(**STREAM)),
    "chat-usage": ("/v1/chat/completions", _chat(**STREAM, **USAGE)),
    "chat-unary": ("/v1/chat/completions", _chat()),
    "chat-choices": ("/v1/chat/completions", _chat(**STREAM, n=2)),
    "chat-choices-usage": ("/v1/chat/completions", _chat(**STREAM, **USAGE, n=2)),
    "chat-choices-unary": ("/v1/chat/completions", _chat(n=2)),
    "chat-progress": ("/v1/chat/completions", _chat(**STREAM, timings_per_token=True, return_progress=True)),
    "chat-logprobs": ("/v1/chat/completions", _chat(**STREAM, logprobs=True, top_logprobs=1)),
    "chat-stop": ("/v1/chat/completions", _chat(tokens=64, **STREAM, stop=["help"])),
    "chat-emoji": ("/v1/chat/completions", _chat(EMOJI, 20, **STREAM)),
    "chat-emoji-timings": ("/v1/chat/completions", _chat(EMOJI, 20, **STREAM, timings_per_token=True)),
    "completions": ("/v1/completions", {"prompt": "Once upon a", "max_tokens": 6, "stream": True}),
    "completions-unary": ("/v1/completions", {"prompt": "Once upon a", "max_tokens": 6}),
    "completions-prompts": ("/v1/completions", {"prompt": ["Once upon", "Two"], "max_tokens": 5, "stream": True}),
    "completions-prompts-unary": ("/v1/completions", {"prompt": ["Three little", "Four"], "max_tokens": 5}),
    "native": ("/completion", {"prompt": "Once upon a time", "n_predict": 6, "stream": True}),
    "native-unary": ("/completion", {"prompt": "Once upon a time", "n_predict": 6}),
    "native-prompts": ("/completion", {"prompt": ["Five large", "Six"], "n_predict": 5, "stream": True}),
    "native-prompts-unary": ("/completion", {"prompt": ["Seven seas", "Eight"], "n_predict": 5}),
    "native-probabilities-unary": ("/completion", {"prompt": "Nine lives", "n_predict": 4, "n_probs": 2}),
    "infill": ("/infill", {"input_prefix": "def f(", "input_suffix": "return", "n_predict": 6, "stream": True}),
    "responses": ("/v1/responses", {"input": "Say hello", "max_output_tokens": 8, "stream": True}),
    "responses-unary": ("/v1/responses", {"input": "Say hello", "max_output_tokens": 8}),
    "messages": ("/v1/messages", _chat(**STREAM)),
    "messages-unary": ("/v1/messages", _chat()),
    "messages-emoji": ("/v1/messages", _chat(EMOJI, 12, **STREAM)),
    "count": ("/v1/messages/count_tokens", _chat()),
    "tokenize": ("/tokenize", {"content": "Hello there"}),
    "refused": ("/v1/chat/completions", _chat([{"role": "user", "content": "Hello " * 3000}])),
}
LEFT: dict[str, tuple[str, dict[str, Any], int]] = {
    "chat-left": ("/v1/chat/completions", _chat(tokens=400, **STREAM), 12),
    "completions-left": ("/v1/completions", {"prompt": "Once upon", "max_tokens": 400, "stream": True}, 12),
    "native-left": ("/completion", {"prompt": "Once upon a time", "n_predict": 400, "stream": True}, 12),
    "responses-left": ("/v1/responses", {"input": "Tell me a story", "stream": True}, 16),
    "messages-left": ("/v1/messages", _chat(tokens=400, **STREAM), 14),
    "chat-emoji-left": ("/v1/chat/completions", _chat(EMOJI, 400, **STREAM, timings_per_token=True), 9),
}
"""Where the client leaves after so many bytes `data:`."""
TEMPLATED: dict[str, Case] = {
    "chat-thinking": (
        "/v1/chat/completions",
        _chat(tokens=40, **STREAM, grammar=THINKING, chat_template_kwargs={"thinking": True}),
    ),
    "messages-thinking": (
        "/v1/messages",
        _chat(tokens=40, **STREAM, grammar=THINKING, chat_template_kwargs={"thinking": True}),
    ),
    "chat-tools": ("/v1/chat/completions", _chat(_calls(), 60, **STREAM, tools=OPENAI_TOOLS)),
    "chat-tools-usage": ("/v1/chat/completions", _chat(_calls(), 60, **STREAM, **USAGE, tools=OPENAI_TOOLS)),
    "chat-tools-unary": ("/v1/chat/completions", _chat(_calls(), 60, tools=OPENAI_TOOLS)),
    "messages-tools": (
        "/v1/messages",
        _chat(_anthropic_calls(), 60, **STREAM, tools=[{"name": "get_weather", "input_schema": SCHEMA}]),
    ),
    "messages-tools-unary": (
        "/v1/messages",
        _chat(_anthropic_calls(), 60, tools=[{"name": "get_weather", "input_schema": SCHEMA}]),
    ),
}
FRAMED = ("chat-usage", "chat-choices-usage")
EMBEDDING: dict[str, Case] = {
    "embeddings": ("/v1/embeddings", {"input": ["Hello", "there"]}),
    "embeddings-native": ("/embedding", {"content": "Hello"}),
}
RERANKING: dict[str, Case] = {
    "rerank": ("/v1/rerank", {"query": "Hello", "documents": ["Hello there", "Good bye"]}),
}
EMBEDDED: dict[str, Case] = {
    name: PLAIN[name.removeprefix("embedded-")]
    for name in (
        "embedded-chat",
        "embedded-chat-usage",
        "embedded-chat-choices-usage",
        "embedded-chat-unary",
        "embedded-completions",
        "embedded-native",
        "embedded-responses",
        "embedded-messages",
        "embedded-messages-unary",
    )
}
ENDLESS = {"max_tokens": 400, "ignore_eos": True, "stream": True}
OVERFLOWING = (
    ("/v1/chat/completions", {"messages": HELLO, **ENDLESS}),
    ("/v1/completions", {"prompt": "Once upon", **ENDLESS}),
)
"""Together they need more context than there is: the engine breaks both off with an error event."""


class Engine:
    """One engine on a Unix socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def send(self, method: str, path: str, body: Any = None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            raise
        content = json.dumps(body).encode() if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        return connection

    def ask(self, method: str, path: str, body: Any = None, most: int | None = None) -> tuple[bytes, bytes]:
        """The body with the framing it came with, and without; `most` bytes `data:` of it."""
        raw = b""
        with self.send(method, path, body) as connection:
            while received := connection.recv(65536):
                raw += received
                if most and raw.count(b"data:") >= most:
                    break
        head, _, rest = raw.partition(b"\r\n\r\n")
        parts: list[bytes] = []
        framing = parse(head + b"\r\n\r\n", False).framing
        if framing is Framing.CHUNKED:
            ChunkedBody(parts.append).feed(rest)
        return rest, b"".join(parts) or rest

    def counters(self) -> dict[str, float]:
        _, text = self.ask("GET", "/metrics")
        lines = [line.split() for line in text.decode().splitlines() if line.startswith("llamacpp:")]
        return {name: float(value) for name, value in lines}

    def settled(self) -> dict[str, float]:
        """Once nothing is being processed any more."""
        while (counters := self.counters())[BUSY]:
            time.sleep(0.1)
        return counters

    def measure(self, path: str, body: Any, most: int | None = None) -> tuple[bytes, bytes, dict[str, int]]:
        """As `ask`, and what the engine's counters rose by meanwhile."""
        before = self.settled()
        raw, content = self.ask("POST", path, body, most)
        after = self.settled()
        return raw, content, {what: int(after[counter] - before[counter]) for what, counter in COUNTERS.items()}

    def ready(self) -> bool:
        try:
            return b'"ok"' in self.ask("GET", "/health")[1]
        except OSError:
            return False


@contextmanager
def engine(*command: str) -> Iterator[Engine]:
    """Run it for so long, beside its model, so that no answer has a path of this machine in it."""
    if not (model := bundled_model()):
        raise SystemExit("the bundled model is missing: make .venv/.test")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/engine.sock"
        arguments = (*command, "-m", model.name, "--host", path, "--metrics", "--threads", "2")
        quiet = subprocess.DEVNULL
        with subprocess.Popen(arguments, cwd=model.parent, stdout=quiet, stderr=quiet) as process:
            try:
                this = Engine(path)
                deadline = time.monotonic() + PATIENCE
                while not this.ready():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise SystemExit(f"the engine did not start: {' '.join(arguments)}")
                    time.sleep(0.05)
                yield this
            finally:
                process.kill()


class Recorder:
    def __init__(self, version: str) -> None:
        self.version = version
        self.index: dict[str, dict[str, Any]] = {}

    def record(self, on: Engine, name: str, path: str, body: dict[str, Any], most: int | None = None) -> None:
        raw, content, rise = on.measure(path, body, most)
        if name in FRAMED:
            (RECORDINGS / f"{name}.raw").write_bytes(raw)
        self.keep(name, path, body, content, rise, left=most is not None)

    def keep(
        self, name: str, path: str, body: dict[str, Any], content: bytes, rise: dict[str, int] | None, left: bool
    ) -> None:
        (RECORDINGS / f"{name}.txt").write_bytes(content)
        stream = body.get("stream", False)
        entry = {"engine": self.version, "path": path, "stream": stream, "left": left, "counters": rise}
        self.index[name] = entry
        print(f"{name}: {len(content)} bytes, {rise}")


def overflow(on: Engine, recorder: Recorder) -> None:
    threads = [threading.Thread(target=_overflow, args=(on, recorder, path, body)) for path, body in OVERFLOWING]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _overflow(on: Engine, recorder: Recorder, path: str, body: dict[str, Any]) -> None:
    """Both at once: whose tokens the counters tell cannot be known."""
    _, content = on.ask("POST", path, body)
    name = "broken-chat" if "chat" in path else "broken-completions"
    recorder.keep(name, path, body, content, None, left=False)


def main() -> None:
    binary = shutil.which("llama-server")
    if not binary:
        raise SystemExit("there is no llama-server on PATH")
    said = subprocess.run((binary, "--version"), capture_output=True, text=True, check=True)
    recorder = Recorder("llama-server " + (said.stdout + said.stderr).split("version:")[1].split("\n")[0].strip())
    middle = "tokenizer.ggml.fim_{}_token_id=int:{}"
    fim = ",".join(middle.format(part, number) for part, number in (("pre", 3), ("suf", 4), ("mid", 5)))
    with engine(binary, "-c", "8192", "-np", "4", "--override-kv", fim) as plain:
        for name, (path, body) in PLAIN.items():
            recorder.record(plain, name, path, body)
        for name, (path, body, most) in LEFT.items():
            recorder.record(plain, name, path, body, most)
    with engine(binary, "-c", "4096", "-np", "2", "--jinja", "--chat-template-file", str(TEMPLATE)) as templated:
        for name, (path, body) in TEMPLATED.items():
            recorder.record(templated, name, path, body)
    with engine(binary, "-c", "1024", "--embeddings", "--pooling", "mean") as embedding:
        for name, (path, body) in EMBEDDING.items():
            recorder.record(embedding, name, path, body)
    with engine(binary, "-c", "1024", "--reranking") as reranking:
        for name, (path, body) in RERANKING.items():
            recorder.record(reranking, name, path, body)
    with engine(binary, "-c", "128", "-np", "2", "-kvu") as tight:
        overflow(tight, recorder)
    recorder.version = f"xllamacpp {version('xllamacpp')}"
    with engine(sys.executable, "-m", "llamaproxy.backends.embedded", "-c", "4096", "-np", "4") as embedded:
        for name, (path, body) in EMBEDDED.items():
            recorder.record(embedded, name, path, body)
    (RECORDINGS / "index.json").write_text(json.dumps(recorder.index, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
