"""The log of a gateway under faults: files rotate, lines are whole, and nowhere stands a secret or a prompt."""

import json
import signal
import sys
from pathlib import Path

import aiohttp

from llamaproxy.telemetry.redaction import MASK
from tests.faults.conftest import KEY, Start
from tests.gateway import PROMPT, Client, GatewayProcess, Table, fake_model

CONFIGURED = "correct-horse-battery"
IN_ENVIRONMENT = "staple-of-the-engine"
FOREIGN = "sk-proj-Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA"
PASSWORD = "hunter22"
SECRETS = (KEY, CONFIGURED, IN_ENVIRONMENT, FOREIGN, PASSWORD, PROMPT)

TALKER = f"""
import os, sys
print(dict(os.environ), sys.argv)
for name, value in os.environ.items():
    print(f"{{name}}={{value}}")
print("E cannot reach https://admin:{PASSWORD}@10.0.0.1/")
print("\\x1b[31m" + "E it ends badly " * 1000)
sys.exit(1)
"""


def models(folder: Path) -> dict[str, Table]:
    dying = {"FAKE_DIE_BEFORE_FIRST_BYTE_TIMES": "2", "FAKE_DIE_SIGNAL": "SEGV", "HF_TOKEN": IN_ENVIRONMENT}
    return {
        "org/dies": fake_model(folder, "dies", env=dying),
        "garbles": fake_model(folder, "garbles", env={"FAKE_MALFORMED": "status"}),
        "talks": {
            "command": [sys.executable, "-c", TALKER, "${port}"],
            "env": {"SERVICE_API_KEY": "${api_key}", "HF_TOKEN": IN_ENVIRONMENT},
        },
        "far": {"url": "http://127.0.0.1:9", "api_key": CONFIGURED},
    }


async def provoke(client: Client) -> None:
    """Everything that goes wrong, with secrets where clients put them."""
    shown = {"x-api-key": FOREIGN, "Cookie": f"session={FOREIGN}", "X-Request-Id": "r-fault"}
    for name in ("org/dies", "garbles", "talks", "far", f"no\x1b[31m{FOREIGN}"):
        await client.chat(name, api_key=FOREIGN, user=PASSWORD)
    for path in (
        f"/v1/chat/completions?api_key={FOREIGN}",
        f"/nowhere/{FOREIGN}?password={PASSWORD}",
        "/%1b[31m%0aforged",
    ):
        async with client.session.post(client.gateway.url + path, data=b'{"broken', headers=shown) as response:
            assert response.status >= 400
    async with client.session.get(
        client.gateway.url + "/api/models", headers={"Authorization": f"Bearer {FOREIGN}"}
    ) as response:
        assert response.status == 401


async def text(client: Client, path: str) -> str:
    async with client.session.get(client.gateway.url + path) as response:
        return await response.text()


async def test_no_secret_and_no_prompt_stands_in_any_log(start: Start, tmp_path: Path) -> None:
    told = tmp_path / "told"
    telemetry = {"log_level": "debug", "log_dir": str(told), "log_format": "json", "captures": True}
    async with start({"models": models(tmp_path), "telemetry": telemetry, "breaker": {"start_failures": 1}}) as client:
        await provoke(client)
        answered = await text(client, "/api/logs?limit=1000")
        log = client.gateway.log
    files = {path.name: path.read_text() for path in told.iterdir()}
    database = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("llamaproxy.db*")).decode("latin-1")
    assert f"SERVICE_API_KEY={MASK}\n" in "".join(files.values()), "the engine has printed its environment"
    assert f"https://{MASK}@10.0.0.1/" in answered
    assert "ends badly" in answered and "r-fault" in database
    for secret in SECRETS:
        for place, content in {"stderr": log, "api": answered, "database": database, **files}.items():
            assert secret not in content, f"{secret} in {place}"
    for line in log.splitlines():
        assert {"time", "level", "source", "message"} <= json.loads(line).keys()
    assert all(character.isprintable() or character == "\n" for character in log + "".join(files.values()))


async def test_lines_of_engines_are_in_files_that_rotate(tmp_path: Path) -> None:
    """With files of the real size: a line of an engine has 4 KiB at most, so it prints many."""
    script = "for n in range(14_000): print(f'{n:05d} ' + 'x' * 4000)"
    talker = {"command": [sys.executable, "-c", script, "${port}"]}
    telemetry = {"log_dir": str(tmp_path / "told"), "database": "off"}
    gateway = GatewayProcess(tmp_path, {"models": {"org/talks": talker}, "telemetry": telemetry})
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        assert (await client.chat("org/talks"))[0] == 503
        gateway.signal(signal.SIGTERM)
        await gateway.wait()
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "told").iterdir()}
    assert len(sizes) == 5
    assert max(sizes.values()) <= 10 * 1024**2
    assert sum(sizes.values()) > 35 * 1024**2
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "told").iterdir()} == {"0o600"}
