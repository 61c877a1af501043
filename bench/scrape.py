"""What one scrape of `/metrics` costs the event loop, with a hundred models in use.

    python -m bench.scrape [MODELS]

Makes the page of a gateway whose models have all served requests of several kinds, again and again: where nothing
happened since the page before, and where all models were used. Tells the processor time of the median page, and of its
longest family: nobody else has a turn within one.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from llamaproxy.backends.slots import Counts
from llamaproxy.config import Config
from llamaproxy.core.events import BackendReady, Start, Stop, StopReason
from llamaproxy.core.footprint import Footprint
from llamaproxy.core.scheduler import Scheduler
from llamaproxy.server.metrics import Metrics
from llamaproxy.telemetry.engines import Engine
from llamaproxy.telemetry.exposition import Reading
from llamaproxy.telemetry.ledger import RequestRow, RequestState
from llamaproxy.telemetry.traffic import Traffic

MODELS = 100
ENGINE_METRICS = 15
PAGES = 200
ENDPOINTS = ("chat/completions", "embeddings")
ENDS = ((RequestState.OK, 200), (RequestState.CLIENT_ABORT, None), (RequestState.REJECTED, 429))


class Busy:
    """A gateway that has served each of so many models, and its page."""

    def __init__(self, models: int) -> None:
        self._names = [f"model-{number}" for number in range(models)]
        config = Config.model_validate({"models": {name: {"path": f"/{name}.gguf"} for name in self._names}})
        backends = Scheduler(config.models, config.limits, config.breaker).backends
        for backend in backends.values():
            backend.footprint = Footprint(2**30, (2**31,))
        self._traffic = Traffic()
        self._traffic.allow(self._names, ["alice", "bob"])
        self._engines: dict[str, Engine] = {}
        # Only what a page reads of them.
        nothing = SimpleNamespace(value=None)
        engines = SimpleNamespace(known=lambda: self._engines)
        monitor: Any = SimpleNamespace(engines=engines, gpus=(), host=nothing, disk=nothing, started_at=0.0)
        pool: Any = SimpleNamespace(backends=backends)
        history: Any = SimpleNamespace(spooled=0)
        live: Any = SimpleNamespace(pages=0, dropped=0)
        self.page = Metrics(pool, history, self._traffic, monitor, Counts(), live)
        self.use()

    def use(self) -> None:
        """Each model starts, serves requests of several kinds and is evicted, and its engine is asked."""
        for name in self._names:
            self._traffic.observe(Start(name, 1))
            self._traffic.observe(BackendReady(name, 1))
            self._traffic.observe(Stop(name, 1, StopReason.EVICTED))
            for row in rows(name):
                self._traffic.ended(row)
        self._traffic.settle()
        self._engines = {name: Engine(0, readings(), {"x_per_second": 1.5}) for name in self._names}


def readings() -> tuple[Reading, ...]:
    return tuple(Reading(f"metric_{number}", "gauge", "a number", number * 1.5) for number in range(ENGINE_METRICS))


def rows(name: str) -> Iterator[RequestRow]:
    for endpoint in ENDPOINTS:
        for key in ("alice", "bob"):
            for state, status in ENDS:
                row = RequestRow("r", endpoint, "openai", "::1", model=name, key=key, state=state, status=status)
                row.queue_ms, row.ttfb_ms, row.duration_ms = 1.5, 20.25, 500.125
                row.prompt_tokens, row.cached_tokens, row.completion_tokens = 10, 2, 5
                yield row


def measure(page: Metrics) -> tuple[float, float, int]:
    """Seconds of processor time for a page and for its longest family, and how many lines it has."""
    whole, longest, lines = 0.0, 0.0, 0
    families = page.families()
    while True:
        begun = time.process_time()
        text = next(families, None)
        took = time.process_time() - begun
        whole, longest = whole + took, max(longest, took)
        if text is None:
            return whole, longest, lines
        lines += text.count("\n")


def report(what: str, busy: Busy, before: Callable[[], None], pages: int = PAGES) -> str:
    measured = []
    for _ in range(pages):
        before()
        measured.append(measure(busy.page))
    whole, longest, lines = (statistics.median(column) for column in zip(*measured, strict=True))
    return f"{what}: {lines:.0f} lines, {whole * 1000:.2f} ms a page, {longest * 1000:.2f} ms its longest family"


def main() -> None:
    busy = Busy(int(sys.argv[1]) if len(sys.argv) > 1 else MODELS)
    print(report("nothing has happened since the page before", busy, lambda: None))
    print(report("all models were used since", busy, busy.use, PAGES // 4))


if __name__ == "__main__":
    main()
