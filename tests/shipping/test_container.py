"""The image: its file says what is true, and what it would run runs.

No engine for containers is needed: the entrypoint is run here with the image's variables, its folders elsewhere.
"""

import asyncio
import hashlib
import os
import re
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession

import llamaproxy
from llamaproxy import secretfiles, variables
from llamaproxy.cli.verbs import parser
from llamaproxy.config import Config
from tests.gateway import FAKE_ENGINE, PATIENCE
from tests.models.ggufs import write
from tests.shipping.dockerfile import Stage, stages

ROOT = Path(__file__).parents[2]
STAGES = stages((ROOT / "Dockerfile").read_text("utf-8"))
TARGETS = [STAGES["cpu"], STAGES["cuda"]]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
KEY = "lp-container"

every_target = pytest.mark.parametrize("stage", TARGETS, ids=lambda stage: stage.name)


def ignored(name: str) -> bool:
    """Whether .dockerignore keeps a name at the top outside: the last line that matches it wins."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    fits = [line for line in lines if line in ("*", name, f"!{name}")]
    return bool(fits) and not fits[-1].startswith("!")


class TestSources:
    def copied(self) -> Iterator[str]:
        for stage in STAGES.values():
            for rest in stage.all("COPY"):
                yield from (word.rstrip("/") for word in rest.split()[:-1])

    def test_what_is_copied_is_there_and_not_ignored(self) -> None:
        names = list(self.copied())
        assert [name for name in names if not (ROOT / name).exists()] == []
        assert [name for name in names if ignored(name)] == []

    def test_nothing_else_reaches_the_builder(self) -> None:
        wanted = {name for name in os.listdir(ROOT) if not ignored(name)}
        assert wanted == set(self.copied())

    def test_a_wheel_needs_no_more(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        forced = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
        named = {project["project"]["readme"], *project["project"]["license-files"], *forced}
        assert named <= set(self.copied())

    @every_target
    def test_versions_are_those_of_the_package(self, stage: Stage) -> None:
        assert stage.pairs("ARG")["VERSION"] == llamaproxy.__version__
        assert stage.pairs("LABEL")["org.opencontainers.image.version"] == "${VERSION}"

    def test_the_model_is_that_of_make_run(self) -> None:
        (model,) = re.findall(r"^MODEL := (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert STAGES["cpu"].pairs("ARG")["MODEL"] == model


@every_target
class TestTarget:
    def test_it_is_nobody_in_particular(self, stage: Stage) -> None:
        user, group = map(int, stage.last("USER").split(":"))
        assert min(user, group) >= 10000
        assert f"--uid {user} " in "".join(stage.all("RUN"))

    def test_it_is_ended_as_the_gateway_expects(self, stage: Stage) -> None:
        assert stage.last("STOPSIGNAL") == "SIGTERM"
        assert stage.command("ENTRYPOINT") == ["tini", "--", "llamaproxy"]

    def test_what_it_runs_are_verbs(self, stage: Stage) -> None:
        assert parser().parse_args(stage.command("CMD")).verb == "serve"
        program, *words = stage.command("HEALTHCHECK")
        assert (program, parser().parse_args(words).verb) == ("llamaproxy", "health")

    def test_its_port_is_the_gateways(self, stage: Stage) -> None:
        assert int(stage.last("EXPOSE")) == Config().server.port

    def test_its_folders_are_made(self, stage: Stage) -> None:
        made = "".join(stage.all("RUN"))
        assert "-o 10001 -g 10001 -m 0700 /data" in made
        assert "/models" in made
        assert stage.last("VOLUME") == '["/data"]'

    def test_lists_of_packages_do_not_stay(self, stage: Stage) -> None:
        for run in stage.all("RUN"):
            if "apt-get" in run:
                assert "--no-install-recommends" in run
                assert "rm -rf /var/lib/apt/lists/*" in run
            if "pip install" in run:
                assert run.count("pip install") == run.count("--no-cache-dir")


def test_both_targets_are_told_the_same() -> None:
    told = [{k: v for k, v in stage.pairs("ENV").items() if k != "PATH"} for stage in TARGETS]
    assert told[0] == told[1]


class TestRunning:
    """What the image runs, with nothing but what the image and its user say."""

    def environment(self, folder: Path, **own: str) -> dict[str, str]:
        told = STAGES["cpu"].pairs("ENV")
        told = {name: re.sub(r"^(?=/(data|models)\b)", str(folder), value) for name, value in told.items()}
        return {**told, "PATH": os.defpath, "LLAMAPROXY_SERVER__PORT": "0", **own}

    @asynccontextmanager
    async def run(self, folder: Path, *words: str, **own: str) -> AsyncIterator[asyncio.subprocess.Process]:
        (folder / "data").mkdir(mode=0o700, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "llamaproxy", *words),
            cwd=folder / "data",
            env=self.environment(folder, **own),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.communicate(), PATIENCE)

    def key(self, folder: Path) -> dict[str, str]:
        """As compose.yaml hands it over."""
        (folder / "admin.sha256").write_text(f"{hashlib.sha256(KEY.encode()).hexdigest()}\n")
        environment = COMPOSE["services"]["llamaproxy"]["environment"]
        return {name: value.replace("/run/secrets", str(folder)) for name, value in environment.items()}

    async def test_without_a_key_it_does_not_start(self, tmp_path: Path) -> None:
        async with self.run(tmp_path, "serve") as process:
            _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 78
        assert b"llamaproxy keys create" in said

    async def test_it_serves_read_only_models_and_keeps_its_state_in_data(self, tmp_path: Path) -> None:
        models = tmp_path / "models"
        models.mkdir()
        write(models / "qwen.gguf")
        models.chmod(0o555)
        own = {**self.key(tmp_path), "LLAMAPROXY_ENGINE__BINARY": str(FAKE_ENGINE)}
        async with self.run(tmp_path, *STAGES["cpu"].command("CMD"), **own) as process:
            assert process.stdout
            line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()
            url = re.sub(r"0\.0\.0\.0", "127.0.0.1", line.split("listening on ")[1].split()[0])
            assert await self.answer(url) == ["qwen"]
            await self.is_healthy(tmp_path, url)
            process.terminate()
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        kept = {path.name for path in (tmp_path / "data").iterdir()}
        assert "llamaproxy.db" in kept
        assert {path.name for path in models.iterdir()} == {"qwen.gguf"}

    async def answer(self, url: str) -> list[str]:
        header = {"Authorization": f"Bearer {KEY}"}
        async with ClientSession() as session, session.get(f"{url}/v1/models", headers=header) as response:
            return [model["id"] for model in (await response.json())["data"]]

    async def is_healthy(self, folder: Path, url: str) -> None:
        """HEALTHCHECK finds the gateway by the same variables."""
        _, *words = STAGES["cpu"].command("HEALTHCHECK")
        port = {"LLAMAPROXY_SERVER__PORT": url.rpartition(":")[2]}
        async with self.run(folder, *words, **port) as check:
            said, _ = await asyncio.wait_for(check.communicate(), PATIENCE)
        assert (check.returncode, said) == (0, b"ok\n")


class TestCompose:
    def services(self) -> dict[str, Any]:
        found: dict[str, Any] = COMPOSE["services"]
        return found

    def test_targets_exist(self) -> None:
        assert {service["build"]["target"] for service in self.services().values()} == {"cpu", "cuda"}

    def test_models_are_read_only_and_state_is_kept(self) -> None:
        for service in self.services().values():
            assert service["volumes"] == ["./models:/models:ro", "data:/data"]
            assert service["read_only"]
        assert "data" in COMPOSE["volumes"]

    def test_variables_exist(self) -> None:
        for service in self.services().values():
            named = secretfiles.files(environment := service["environment"])
            assert [str(path) for path in named.values()] == [f"/run/secrets/{name}" for name in service["secrets"]]
            assert set(service["secrets"]) == set(COMPOSE["secrets"])
            plain = {name.removesuffix(secretfiles.SUFFIX): value for name, value in environment.items()}
            assert list(variables.unknown(plain)) == []

    def test_it_is_not_killed_while_requests_end(self) -> None:
        config = Config()
        longest = config.server.drain_timeout + config.kv.save_timeout + config.engine.stop_timeout
        for service in self.services().values():
            assert int(service["stop_grace_period"].removesuffix("s")) > longest
