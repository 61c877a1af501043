"""What pages cost the gateway: `python -m bench.live [--seconds N] [--tabs N] [--lines N]`.

Owns a table of processor time and of the time to the first byte in four turns of one gateway: at rest, under a flood of
log lines, with pages, and with both. Each page watches everything; one of them never reads. What the pages cost is the
difference between two turns: lines are taken in whether anybody watches or not.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from bench import rivals
from bench.load import Ask, percentile, send

_PAUSE = 0.02
"""Seconds between two requests."""
_SUBSCRIBE = {
    "type": "request",
    "event": "subscribe",
    "data": {"topics": ["models", "metrics", "requests", "logs", "config"]},
}
_TALKER = """
import http.server, sys, threading, time
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"{{}}")
    def log_message(self, *_): pass
def talk():
    line = "0.01.234.567 I srv  log_server_r: done request: POST /v1/chat/completions 127.0.0.1 200 number "
    begun, said = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begun) * {lines})
        sys.stdout.write("".join(f"{{line}}{{number}}\\n" for number in range(said, due))); sys.stdout.flush()
        said = due
        time.sleep(0.01)
threading.Thread(target=talk, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """Percent of one core; time to the first byte in milliseconds."""

    name: str
    cpu: float
    median: float
    slow: float
    dropped: float


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="lpb-") as folder:
        turns = asyncio.run(_measure(Path(folder), arguments))
    print(f"{arguments.tabs} pages that watch everything, one of them never reads; {arguments.lines} lines a second")
    print(f"{'turn':24}{'CPU, % of a core':>18}{'first byte p50, ms':>20}{'p95, ms':>10}{'dropped':>10}")
    for turn in turns:
        print(f"{turn.name:24}{turn.cpu:18.1f}{turn.median:20.2f}{turn.slow:10.2f}{turn.dropped:10.0f}")
    rest, flood, pages, both = turns
    print(f"pages cost {pages.cpu - rest.cpu:.1f} % of a core, in a flood {both.cpu - flood.cpu:.1f} %")
    print(f"first byte: times {pages.median / rest.median:.2f}, in a flood {both.median / flood.median:.2f}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.live", description="What pages cost the gateway.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--tabs", type=int, default=50)
    parser.add_argument("--lines", type=int, default=10_000, help="a second")
    return parser.parse_args()


async def _measure(folder: Path, arguments: argparse.Namespace) -> list[Turn]:
    received: Counter[str] = Counter()
    with _gateway(folder, arguments.lines) as (url, process):
        meter = _Meter(url, process, arguments.seconds)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await meter.turn(session, "", seconds=1.0)
            rest = await meter.turn(session, "at rest")
            async with _flood(session, url):
                flood = await meter.turn(session, "flood of lines")
            async with _tabs(session, url, arguments.tabs, received):
                pages = await meter.turn(session, "pages")
                async with _flood(session, url):
                    both = await meter.turn(session, "pages and flood")
    print(f"pages were sent {received['messages']:,} messages, {received['bytes'] / 1e6:.0f} MB in all")
    return [rest, flood, pages, both]


@contextmanager
def _gateway(folder: Path, lines: int) -> Iterator[tuple[str, psutil.Process]]:
    """With the engine of `bench.engine` as `m`, and a program that does nothing but talk as `talker`."""
    script = folder / "talker.py"
    script.write_text(_TALKER.format(lines=lines))
    talker = f'[models.talker]\ncommand = ["{sys.executable}", "{script}", "${{port}}"]\nhealth_path = "/"\n'
    with rivals.llamaproxy(more=talker).start(folder) as running:
        assert running.process
        yield f"http://127.0.0.1:{running.port}", running.process


class _Meter:
    """One turn after the other, of the same gateway."""

    def __init__(self, url: str, process: psutil.Process, seconds: float) -> None:
        self._url = url
        self._process = process
        self._seconds = seconds

    async def turn(self, session: aiohttp.ClientSession, name: str, seconds: float | None = None) -> Turn:
        dropped, firsts = await self._dropped(session), list[float]()
        begun, before = time.monotonic(), sum(self._process.cpu_times()[:2])
        while time.monotonic() - begun < (seconds or self._seconds):
            answer = await send(session, self._url, Ask("m", max_tokens=2, timeout=10.0), stream=True)
            if not answer.ok or answer.first_token is None:
                raise SystemExit(f"a request failed: {answer.error}")
            firsts.append(answer.first_token * 1000)
            await asyncio.sleep(_PAUSE)
        cpu = 100 * (sum(self._process.cpu_times()[:2]) - before) / (time.monotonic() - begun)
        lost = await self._dropped(session) - dropped
        return Turn(name, cpu, statistics.median(firsts), percentile(firsts, 0.95), lost)

    async def _dropped(self, session: aiohttp.ClientSession) -> float:
        async with session.get(f"{self._url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("llamaproxy_websocket_dropped_total ")))


@asynccontextmanager
async def _flood(session: aiohttp.ClientSession, url: str) -> AsyncIterator[None]:
    """Lines of a model that talks, as long as this lasts."""
    await _told(session, f"{url}/api/models/talker/start", "ready", url)
    try:
        yield
    finally:
        await _told(session, f"{url}/api/models/talker/stop", "stopped", url)


async def _told(session: aiohttp.ClientSession, action: str, state: str, url: str) -> None:
    async with session.post(action, json={}):
        pass
    for _ in range(300):
        async with session.get(f"{url}/api/models/talker") as response:
            if (await response.json())["state"] == state:
                return
        await asyncio.sleep(0.1)
    raise SystemExit(f"the talker is not {state}")


@asynccontextmanager
async def _tabs(session: aiohttp.ClientSession, url: str, count: int, received: Counter[str]) -> AsyncIterator[None]:
    """The last of them never reads."""
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(session.ws_connect(f"{url}/llamaproxws")) for _ in range(count)]
        for socket in sockets:
            await socket.send_json(_SUBSCRIBE)
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(_read(socket, received)) for socket in sockets[:-1]]
            yield
            for reader in readers:
                reader.cancel()


async def _read(socket: "aiohttp.ClientWebSocketResponse[bool]", received: Counter[str]) -> None:
    async for message in socket:
        received["bytes"] += len(message.data)
        received["messages"] += 1


if __name__ == "__main__":
    sys.exit(main())
