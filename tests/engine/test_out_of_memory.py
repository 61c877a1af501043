"""An engine that may not have the memory it needs: its own words are understood, and learned from."""

import shlex
import sys
from pathlib import Path

import aiohttp
import pytest

from llamaproxy.backends.engine import EMBEDDED_MODULE
from tests.gateway import Client, GatewayProcess, Table

MIB = 1024**2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere address space cannot be limited")


@pytest.fixture
def limited(binary: str, tmp_path: Path) -> str:
    """The engine, with as much address space as LIMIT_KIB says, for those that have it."""
    program = (sys.executable, "-m", EMBEDDED_MODULE) if binary == "embedded" else (binary,)
    script = tmp_path / "engine"
    limit = '[ -z "$LIMIT_KIB" ] || ulimit -v "$LIMIT_KIB"'
    script.write_text(f'#!/bin/sh\n{limit}\nexec {shlex.join(program)} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def gateway(limited: str, model_file: Path, tmp_path: Path) -> GatewayProcess:
    """The same model twice. The model fits the limit, and a context of 1.4 GiB does not."""
    large = {"path": str(model_file), "ctx_size": 1 << 16, "parallel": 1}
    config: dict[str, Table] = {
        "engine": {"binary": limited, "args": ["--threads", "1", "--cache-ram", "0"]},
        "breaker": {"start_failures": 2},
        "models": {"tight": {**large, "env": {"LIMIT_KIB": str(1600 * 1024)}}, "roomy": {**large, "ctx_size": 2048}},
    }
    return GatewayProcess(tmp_path, config)


async def test_it_is_told_with_the_reason_and_the_footprint_grows(gateway: GatewayProcess) -> None:
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        sizes = []
        for _ in range(2):
            status, body = await client.chat("tight")
            assert (status, body["error"]["code"]) == (503, "model_out_of_memory"), body
            assert "insufficient memory" in body["error"]["message"]
            assert body["error"]["detail"]
            footprint = (await client.model("tight"))["footprint"]
            assert footprint["measured"], "a death is a measurement"
            sizes.append(footprint["ram"])
        assert sizes[1] > sizes[0] > 1000 * MIB
        assert (await client.model("tight"))["breaker"]["state"] == "open"
        assert (await client.chat("roomy", max_tokens=1))[0] == 200
        assert len(gateway.children()) == 1
