"""The composition root: builds every part of one running gateway, and joins them.

Owns how a backend is prepared, and what a changed configuration means for each part. Must not answer requests: `app`
does.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

from llamaproxy.backends import arguments, command, engine, foreign, orphans
from llamaproxy.backends.carrier import Carrier
from llamaproxy.backends.command import Address
from llamaproxy.backends.life import Life
from llamaproxy.backends.pool import Pool
from llamaproxy.backends.ports import free_port
from llamaproxy.backends.readahead import ReadAhead
from llamaproxy.backends.spawn import Spawn
from llamaproxy.config import Config
from llamaproxy.configfile import Fixed, Source
from llamaproxy.core.events import News
from llamaproxy.core.footprint import Footprint
from llamaproxy.edits import RESTART
from llamaproxy.effective import model_values
from llamaproxy.errors import ConfigError, EngineMissing, GatewayError, InvalidModelFile, ModelStartFailed
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models import staging
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.models.estimate import Read, estimate, files
from llamaproxy.models.headers import Headers
from llamaproxy.server import keyfile
from llamaproxy.server import loaded as disk
from llamaproxy.server.current import Current
from llamaproxy.server.downloads import Downloads
from llamaproxy.server.flights import Flights
from llamaproxy.server.guard import check_exposure
from llamaproxy.server.keyring import Keyring
from llamaproxy.server.loaded import Changes, Loaded
from llamaproxy.server.monitor import Monitor
from llamaproxy.server.reload import Reloader
from llamaproxy.tasks import spawn
from llamaproxy.telemetry.captures import Captures
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.logs import Logs
from llamaproxy.telemetry.modelhistory import ModelHistory
from llamaproxy.telemetry.modelsettings import ModelSettings, Setting
from llamaproxy.telemetry.traffic import Traffic

log = logging.getLogger(__name__)


def check(config: Config) -> None:
    """Whether the configuration can be served at all. Raises ConfigError with one line per fault."""
    check_exposure(config)
    keyfile.read(keyfile.location(config.server.keys_file))
    if config.engine.allow_unsafe_args:
        return
    faults = [f"engine.args: {fault}" for fault in arguments.faults(config.engine.args)]
    for name, model in config.models.items():
        faults += (f"models.{name}.args: {fault}" for fault in arguments.faults(model.args))
    if faults:
        raise ConfigError("\n".join(faults))


def _settings(catalogue: Catalogue) -> Iterable[Setting]:
    """Of all models, secrets masked."""
    for model in catalogue.models.values():
        yield Setting(model.name, model.config.kind, model_values(model.config.model_dump(mode="json")))


class Gateway:
    """All parts of one running gateway. Must be made inside a running event loop."""

    def __init__(self, config: Config, runtime_base: Path | None = None, source: Source | None = None) -> None:
        check(config)
        source = source or Fixed(config)
        loaded = disk.load(config, origins=source.origins, edited=source.found)
        disk.tell_problems(loaded.found)
        self.traffic = Traffic()
        self.history = History(config.telemetry, self.traffic.ended)
        self.ledger = self.history.ledger
        self.model_history = ModelHistory(self.history)
        self._model_settings = ModelSettings(self.history)
        self._model_settings.tell(_settings(loaded.catalogue))
        self.logs = Logs(config, self.history)
        self.logs.attach()
        self.captures = Captures(config.telemetry.captures)
        self.current = Current(config, loaded.catalogue)
        self.keyring = Keyring(self.current, self._name_in_labels)
        self.reloader = Reloader(source, self._apply, loaded)
        self.downloads = Downloads(self.reloader.reload)
        self.headers = Headers()
        self.created = int(time.time())
        for pid in orphans.reap(runtime_base):
            log.warning("ended process %d, left behind by an earlier gateway", pid)
        self._run_directory = orphans.RunDirectory(runtime_base)
        self._watchdog = orphans.watch(self._run_directory.path) if orphans.NEEDS_WATCHDOG else None
        self._read_ahead = ReadAhead()
        self.carrier = Carrier(config.kv, config.engine)
        self.pool = Pool(
            *(loaded.catalogue.configs, config, self._launch, self._check_startable, self._expect),
            observe=self._observe,
        )
        self.flights = Flights()
        self.monitor = Monitor(self.current, self.pool, self.history, self.traffic, self.flights)
        self.draining = False
        self.history.start()
        self.monitor.start()

    @property
    def config(self) -> Config:
        return self.current.config

    @property
    def catalogue(self) -> Catalogue:
        return self.current.catalogue

    def _apply(self, loaded: Loaded, changes: Changes) -> None:
        """Raises ConfigError. The address stays: changing it needs a new process."""
        server = self.config.server
        address = {key: getattr(server, key) for _, key in RESTART}
        if changed := [
            f"server.{key}" for key, value in address.items() if getattr(loaded.config.server, key) != value
        ]:
            log.warning("taken over by a restart only: %s", ", ".join(changed))
        kept = loaded.config.server.model_copy(update=address)
        config = loaded.config.model_copy(update={"server": kept})
        check(config)
        self.current.replace(config, loaded.catalogue)
        self._model_settings.tell(_settings(loaded.catalogue))
        self.keyring.refresh()
        self.carrier.reconfigure(config.kv, config.engine, changes.removed)
        self.pool.reconfigure(loaded.catalogue.configs, config, frozenset(changes.changed))
        self.history.reconfigure(config.telemetry)
        self.logs.reconfigure(config)
        self.captures.switch(config.telemetry.captures)
        self.read_headers()
        self._preload(changes.added)

    def _observe(self, news: News) -> None:
        self.traffic.observe(news)
        self.model_history.observe(news)

    def _name_in_labels(self) -> None:
        """Models and keys, those made at run time among them."""
        self.traffic.allow(self.catalogue.models, {*self.config.keys, *self.current.stored_keys})

    def preload(self) -> None:
        self._preload(self.catalogue.models)

    def _preload(self, names: Iterable[str]) -> None:
        for name in names:
            if self.catalogue.models[name].config.preload:
                try:
                    self.pool.start(name)
                except GatewayError as error:
                    log.error("preload: %s", error.message)

    def read_headers(self) -> None:
        """Have all model files looked at, in a thread: what they hold can be shown, and nobody waits for it later."""
        paths = [path for model in self.catalogue.configs.values() if model.path for path in files(model)]
        self.headers.keep(paths)
        spawn(asyncio.to_thread(self.headers.read_ahead, paths), name="read-headers")

    def tidy(self) -> None:
        """Have downloads that nobody goes on with removed, in a thread."""
        if directory := self.config.catalog.models_dir:
            spawn(asyncio.to_thread(staging.sweep, Path(directory)), name="tidy-downloads")

    async def close(self, drain_timeout: float) -> bool:
        """Drain, then stop everything; False where requests had to be cut off."""
        self.draining = True
        self._read_ahead.cancel()
        await self.downloads.close()
        drained = await self.pool.close(drain_timeout)
        if self._watchdog:
            self._watchdog.kill()
            self._watchdog.wait()
        self._run_directory.close()
        return drained

    async def settle(self) -> None:
        """Write down how the last requests ended; after the last one was answered."""
        await self.downloads.close()
        await self.monitor.close()
        await self.history.close()
        await self.logs.close()

    def missing_engine(self) -> str | None:
        """What to install, where there is no engine and a model needs one."""
        models = self.catalogue.models.values()
        if models and not any(model.config.path for model in models):
            return None
        try:
            engine.find(self.config.engine.binary)
        except EngineMissing as error:
            return error.message
        return None

    def _expect(self, name: str) -> None:
        """It may have been removed since somebody was asked to make room for it."""
        model = self.catalogue.models.get(name)
        if model and model.config.path:
            self._read_ahead.expect(files(model.config))

    def _check_startable(self, name: str) -> Footprint | None:
        """How much memory it will take. Raises EngineMissing or ModelStartFailed for what can be seen from here."""
        model = self.catalogue.models[name].config
        if model.path is None:
            foreign.check(name, model, self.config.engine, os.environ)
            return None
        engine.find(self.config.engine.binary)
        path = Path(model.path)
        try:
            complete = self.headers.get(path).complete
        except FileNotFoundError as error:
            raise ModelStartFailed(f"{name}: the model file {path} does not exist") from error
        except OSError as error:
            raise ModelStartFailed(f"{name}: the model file {path} cannot be read: {error.strerror}") from error
        if not complete:
            raise ModelStartFailed(f"{name}: the model file {path} is not complete")
        return self._estimate(model, self.headers.get)

    def expected(self, name: str) -> Footprint | None:
        """How much memory a start would take, from headers that were read already; None where that is not known."""
        model = self.catalogue.models[name].config
        return self._estimate(model, self.headers.known) if model.path else None

    def _estimate(self, model: ModelConfig, read: Read) -> Footprint | None:
        """None where it cannot be told; the engine will have its own words about what is wrong."""
        config = self.config
        try:
            return estimate(model, (*config.engine.args, *model.args), config.limits.vram_budgets, read)
        except (OSError, ValueError, InvalidModelFile):
            return None

    def _launch(self, name: str, number: int) -> Life:
        life = self._prepare(name, number)
        life.log.told = self.logs.listener(name)
        return life

    def _prepare(self, name: str, number: int) -> Life:
        """Prepare a spawn. The engine is looked for each time: it may have been installed meanwhile."""
        model = self.catalogue.models[name].config
        if model.path is None:
            return foreign.prepare(name, number, model, self.config.engine, self._run_directory, os.environ)
        found = engine.find(self.config.engine.binary)
        carry = self.carrier.prepare(name, model, found)
        address = Address(socket=self._run_directory.socket(name, number))
        if model.port or not orphans.UNIX_SOCKETS:
            address = Address(port=model.port or free_port(), key=os.urandom(20).hex())
        slots = carry.directory if carry else None
        built = command.build(found.program, name, model, self.config.engine, address, os.environ, slots)
        return Spawn(name, number, address, built, self.config.engine, self._run_directory, carry=carry)
