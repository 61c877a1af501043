"""What README and docs tell people to type, write and run: it parses, loads, and where it can be run it runs."""

import argparse
import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import yaml

from llamaproxy import configfile
from llamaproxy.backends.ports import free_port
from llamaproxy.cli.verbs import parser
from tests.gateway import GatewayProcess, Table, fake_model

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SERVED_HERE = "http://127.0.0.1:8080"


class Snippet(NamedTuple):
    where: str
    language: str
    text: str


def snippets(*languages: str) -> list[Snippet]:
    return [
        Snippet(f"{page.name}:{text[: match.start()].count(chr(10)) + 1}", match[2], match[3])
        for page in PAGES
        for text in [page.read_text("utf-8")]
        for match in BLOCK.finditer(text)
        if match[2] in languages
    ]


def each(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("snippet", snippets(*languages), ids=lambda snippet: snippet.where)


def commands(text: str) -> Iterator[list[str]]:
    """One for each line, without comments and without what follows a pipe."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            stop = next((at for at, word in enumerate(words) if word in ("|", "&&", ";", ">")), len(words))
            yield words[:stop]


def judge(words: list[str]) -> None:
    """Raises SystemExit where the command line would."""
    in_container = words[:2] == ["docker", "run"] or words[:3] == ["docker", "compose", "run"]
    if words[0] == "llamaproxy" or in_container:
        # Without words of its own a container runs the image's.
        parser().parse_args(words[words.index("llamaproxy") + 1 :] or ["serve"])


def is_known(words: list[str]) -> bool:
    known: dict[str, Callable[[str], object]] = {
        "make": lambda word: re.search(rf"^{re.escape(word)}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE),
        "./install.sh": lambda word: f"  {word} " in (ROOT / "install.sh").read_text("utf-8"),
    }
    program, *rest = words
    return all(known[program](word) for word in rest) if program in known else True


@each("sh")
def test_commands_parse(snippet: Snippet) -> None:
    for words in commands(snippet.text):
        judge(words)
        assert is_known(words), words


def test_a_wrong_command_would_be_seen() -> None:
    """The test's own eyes."""
    assert list(commands("a b # c\nd \\\n e | f")) == [["a", "b"], ["d", "e"]]
    with pytest.raises(SystemExit):
        judge(["llamaproxy", "keys", "creat", "x"])
    assert not is_known(["make", "ruin"])


def test_verbs_in_sentences_exist() -> None:
    (verbs,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for page in PAGES:
        named = set(re.findall(r"`llamaproxy ([a-z][a-z-]+)", page.read_text("utf-8")))
        assert named <= set(verbs.choices), page.name


@each("toml")
def test_configuration_loads(snippet: Snippet, tmp_path: Path) -> None:
    file = tmp_path / "llamaproxy.toml"
    file.write_text(snippet.text, "utf-8")
    configfile.load(file)


@each("json")
def test_json_parses(snippet: Snippet) -> None:
    """A document, or one on each line."""
    try:
        json.loads(snippet.text)
    except json.JSONDecodeError:
        assert all(json.loads(line) for line in snippet.text.splitlines())


@each("yaml")
def test_yaml_parses(snippet: Snippet) -> None:
    assert isinstance(yaml.safe_load(snippet.text), dict)


@each("python")
def test_python_compiles(snippet: Snippet) -> None:
    compile(snippet.text, snippet.where, "exec")


OPENAI = [snippet for snippet in snippets("python") if "from openai" in snippet.text]


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=60)


async def test_what_uses_openai_runs(tmp_path: Path) -> None:
    """Each before a real gateway with an engine that is none."""
    models = {
        "qwen": fake_model(tmp_path, "qwen", aliases=["smollm2-135m"]),
        "embed": fake_model(tmp_path, "embed", args=["--embeddings"]),
    }
    assert len(OPENAI) == 3
    async with GatewayProcess(tmp_path, {"models": models}).running() as gateway:
        for snippet in OPENAI:
            assert SERVED_HERE in snippet.text
            here = snippet.text.replace(SERVED_HERE, gateway.url)
            done = await asyncio.to_thread(run, here)
            assert (done.returncode, bool(done.stdout.strip())) == (0, True), snippet.where + done.stderr


async def test_what_uses_ollama_runs(tmp_path: Path) -> None:
    """As it stands, but for the port."""
    (snippet,) = (snippet for snippet in snippets("python") if "from ollama" in snippet.text)
    port = free_port()
    models = {"qwen": fake_model(tmp_path, "qwen")}
    config: dict[str, Table] = {"server": {"port": 0, "ollama_port": port}, "models": models}
    async with GatewayProcess(tmp_path, config).running():
        assert ":11434" in snippet.text
        done = await asyncio.to_thread(run, snippet.text.replace(":11434", f":{port}"))
        assert (done.returncode, bool(done.stdout.strip())) == (0, True), snippet.where + done.stderr


async def test_routes_of_the_api_are_those_of_its_page(tmp_path: Path) -> None:
    """What a gateway says of itself, beside docs/api.md. Actions of one thing may share a line."""
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    async with (
        GatewayProcess(tmp_path, {}).running() as gateway,
        aiohttp.request("GET", f"{gateway.url}/api/openapi.json") as response,
    ):
        paths = set((await response.json())["paths"])
    told = set(re.findall(r"`(?:[A-Z]+ )?(/api/[^`?]+)`", text))
    assert told <= paths | {"/api/openapi.json"}
    for path in paths - told:
        head, _, action = path.rpartition("/")
        assert [line for line in text.splitlines() if f"{head}/" in line and f"`{action}`" in line], path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """As hosts of repositories name headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
