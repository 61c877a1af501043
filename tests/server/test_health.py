"""llamaproxy.server.health: what an operator should look at."""

import orjson
import pytest
from aiohttp.test_utils import make_mocked_request

from llamaproxy.config import Config, TelemetryConfig
from llamaproxy.configfile import Fixed
from llamaproxy.server.health import Health
from llamaproxy.server.loaded import load
from llamaproxy.server.reload import Reloader
from llamaproxy.telemetry.history import History


@pytest.fixture
async def reloader() -> Reloader:
    return Reloader(Fixed(Config()), lambda loaded, changes: None, load(Config()))


async def look(reloader: Reloader) -> dict[str, object]:
    health = Health(History(TelemetryConfig(database="off")), reloader)
    response = await health.show(make_mocked_request("GET", "/api/health"))
    assert isinstance(response.body, bytes)
    found: dict[str, object] = orjson.loads(response.body)
    return found


async def test_well(reloader: Reloader) -> None:
    answer = await look(reloader)
    assert (answer["status"], answer["tasks"]) == ("ok", 1)
    assert answer["requests"] == {"database": None, "spooled_rows": 0, "lost_rows": 0, "error": None}


async def test_degraded_where_rows_cannot_be_written(reloader: Reloader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History, "trouble", "disk full")
    answer = await look(reloader)
    assert answer["status"] == "degraded"
    assert isinstance(answer["requests"], dict)
    assert answer["requests"]["error"] == "disk full"


async def test_degraded_where_the_newest_configuration_is_no_good(reloader: Reloader) -> None:
    reloader.error = "server.prot: unknown key"
    answer = await look(reloader)
    assert answer["status"] == "degraded"
    assert isinstance(answer["config"], dict)
    assert (answer["config"]["error"], answer["config"]["file"]) == ("server.prot: unknown key", None)
