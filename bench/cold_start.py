"""What the gateway adds to an engine's own start: `python -m bench.cold_start [ROUNDS]`.

In turn, the same engine with the same arguments is started directly and asked for its health every 2 ms, and started
by a first request to a gateway, whose engine is watched in the same way. Two figures come of it: from the engine's
being ready to the client's having its answer, which is the gateway's alone, and the difference of the whole, in which
the engine's own load varies by more than what is looked for.
"""

import http.client
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from llamaproxy.backends import command, engine
from llamaproxy.backends.command import Address
from llamaproxy.config import EngineConfig
from llamaproxy.modelconfig import ModelConfig

POLL = 0.002
PATIENCE = 60.0
"""Seconds after which an engine that is not ready, or not gone, never will be."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def direct(binary: str, model: ModelConfig, folder: Path, number: int) -> float:
    """Seconds from starting the engine to its being ready."""
    address = Address(socket=folder / f"{number}.sock")
    built = command.build(engine.find(binary).program, "m", model, EngineConfig(), address, os.environ)
    begun = time.perf_counter()
    process = subprocess.Popen(
        built.argv, env=dict(built.environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _until(lambda: _status(address.socket) == 200, "the engine is ready")
        return time.perf_counter() - begun
    finally:
        process.kill()
        process.wait()


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.perf_counter() + PATIENCE
    while not condition():
        if time.perf_counter() > end:
            raise SystemExit(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(POLL)


def _status(path: Path | None) -> int | None:
    assert path
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _call(port: int, path: str, body: object = None) -> Mapping[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    method = "GET" if body is None else "POST"
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer: Mapping[str, object] = json.load(response)
    connection.close()
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status} {answer}")
    return answer


def _watch(folder: Path, seen: list[float]) -> None:
    """Notes when the engine of a gateway that runs below `folder` was first ready."""
    _until(lambda: any(_status(path) == 200 for path in folder.glob("llamaproxy/gw-*/*.sock")), "an engine is ready")
    seen.append(time.perf_counter())


def through_gateway(port: int, folder: Path) -> tuple[float, float]:
    """Seconds of a first request that costs the engine nothing, and those of them after the engine was ready.

    The model is stopped again.
    """
    ready: list[float] = []
    watching = threading.Thread(target=_watch, args=(folder, ready))
    watching.start()
    begun = time.perf_counter()
    _call(port, "/tokenize", {"model": "m", "content": "one"})
    ended = time.perf_counter()
    watching.join()
    if not ready:
        raise SystemExit("the engine answered, and was never seen to be ready")
    _call(port, "/models/unload", {"model": "m"})
    _until(lambda: "stopped" in json.dumps(_call(port, "/api/models")), "the model is stopped")
    return ended - begun, ended - ready[0]


def measure(rounds: int, binary: str = "auto") -> Mapping[str, list[float]]:
    """Seconds of every round: of a direct start, of one through a gateway, and those of the latter after readiness.

    `binary` is what `engine.binary` may be.
    """
    file = engine.bundled_model()
    if file is None:
        raise SystemExit("the bundled model is not installed: make run installs it")
    model = ModelConfig(path=str(file), ctx_size=2048)
    folder = Path(tempfile.mkdtemp(prefix="lp-bench-"))
    configuration = folder / "llamaproxy.toml"
    configuration.write_text(
        f"[engine]\nbinary = {json.dumps(binary)}\n[models.m]\npath = {json.dumps(str(file))}\nctx_size = 2048\n"
    )
    gateway = subprocess.Popen(
        (sys.executable, "-m", "llamaproxy", "serve", "--port", "0", "--config", str(configuration)),
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder), "XDG_CACHE_HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert gateway.stdout
    port = int(gateway.stdout.readline().split("127.0.0.1:")[1].split()[0])
    times: dict[str, list[float]] = {"direct": [], "gateway": [], "ready to answer": []}
    try:
        for number in range(rounds):
            times["direct"].append(direct(binary, model, folder, number))
            whole, after = through_gateway(port, folder)
            times["gateway"].append(whole)
            times["ready to answer"].append(after)
    finally:
        gateway.terminate()
        gateway.wait(PATIENCE)
        shutil.rmtree(folder)
    return times


def _report(times: Mapping[str, list[float]]) -> None:
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {engine.find('auto').kind}"
    )
    print(f"{'cold start, ms':<16}{'min':>9}{'median':>9}{'max':>9}")
    for name, seconds in times.items():
        figures = (min(seconds), statistics.median(seconds), max(seconds))
        print(f"{name:<16}" + "".join(f"{figure * 1000:9.1f}" for figure in figures))
    added = statistics.median(times["gateway"]) - statistics.median(times["direct"])
    least = min(times["gateway"]) - min(times["direct"])
    print(f"gateway - direct: {added * 1000:.1f} ms (medians), {least * 1000:.1f} ms (minima)")


if __name__ == "__main__":
    _report(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
