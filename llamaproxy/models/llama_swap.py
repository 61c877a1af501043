"""The configuration file of llama-swap.

Owns its keys, and which of ours they are. Must not check values (`presets` does) nor understand commands
(`swap_command` does).
"""

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from llamaproxy.errors import ConfigError
from llamaproxy.models.draft import Draft, Faults, Plan, shown
from llamaproxy.models.options import Option
from llamaproxy.models.swap_command import MACRO, PORT, Call, Fill, Unfit, call, filler, options, split

_OWN_ADDRESSES = tuple(f"http://{host}:{PORT}" for host in ("localhost", "127.0.0.1", "[::1]"))
_FIXED_ADDRESS = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\]):(\d{1,5})/?")
_HEALTH = ("/health", "/v1/health")
_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "error": "error"}
_SHORTEST_START = 15
"""Seconds; llama-swap takes less for this."""
_ELSEWHERE = frozenset("macros models globalTTL startPort hooks".split())
"""Keys that are read where they are needed, or that need no place: ports are the gateway's business."""


def parse(text: str, faults: Faults, environ: Mapping[str, str]) -> Plan:
    """The models of a llama-swap configuration; `environ` fills in `${env.NAME}`. Raises ConfigError."""
    return _Import(_loaded(text), faults, environ).run()


def _loaded(text: str) -> dict[Any, Any]:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError as error:
        raise ConfigError("to read llama-swap's configuration, PyYAML is needed: `pip install pyyaml`") from error
    try:
        document = yaml.safe_load(text)  # not the faster CSafeLoader: deep nesting overflows its stack
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"not valid YAML: {shown(error)}") from error
    if not isinstance(document, dict):
        raise ConfigError("not a configuration of llama-swap: it has no keys")
    return document


class _Import:
    def __init__(self, document: Mapping[Any, Any], faults: Faults, environ: Mapping[str, str]) -> None:
        self._document = document
        self._faults = faults
        self._macros = {f"env.{name}": value for name, value in environ.items()} | _scalars(document.get("macros"))
        self._plan = Plan()
        self._programs: set[str] = set()

    def run(self) -> Plan:
        for name, settings in _table(self._document.get("models")).items():
            try:
                self._model(str(name), _table(settings))
            except Unfit as reason:
                self._tell(f"models.{shown(name)}: left out: {reason}")
        for key, value in self._document.items():
            if value and key not in _ELSEWHERE and not self._section(key, value):
                self._tell(shown(key))
        self._engine()
        self._at_once()
        self._preload()
        return self._plan

    def _tell(self, what: str) -> None:
        self._plan.unmapped.append(what)

    def _model(self, name: str, settings: Mapping[Any, Any]) -> None:
        fill = filler(self._macros | _scalars(settings.get("macros")) | {"MODEL_ID": name})
        draft = Draft(name, f"models.{shown(name)}")
        words = split(fill(_string(settings.get("cmd"))))
        command = call(words)
        if command:
            self._call(draft, command)
        else:
            _run(draft, words, settings.get("proxy"))
        for key, value in sorted(settings.items(), key=lambda item: str(item[0])):  # "description" before "name"
            if value and not self._setting(draft, key, value, fill):
                self._tell(f"{draft.origin}.{shown(key)}")
        self._environment(draft, command.environment if command else ())
        self._idle(draft, settings.get("ttl"))
        self._plan.models.append(draft)

    def _call(self, draft: Draft, command: Call) -> None:
        if command.wrapper:
            self._tell(f"{draft.origin}.cmd: {shown(command.wrapper)}, by which llama-server is started")
        for option, words in options(command.words):
            self._option(draft, option, words)
        self._programs.add(command.program)

    def _peer(self, name: str, settings: Mapping[Any, Any]) -> None:
        """A server elsewhere, under the names of its models."""
        origin = f"peers.{shown(name)}"
        fields: dict[str, Any] = {"url": _string(settings.get("proxy"))}
        secret = _filled(filler(self._macros), settings.get("apiKey"))
        if MACRO.search(secret):
            self._tell(f"{origin}.apiKey")
        elif secret:
            fields["api_key"] = SecretStr(secret)
        names = settings.get("models")
        if not names or not isinstance(names, list):
            return self._tell(f"{origin}: left out: it names no models")
        for model in map(str, names):
            self._plan.models.append(Draft(model, origin, {**fields, "upstream_name": model}))
        for key in sorted(map(str, settings.keys() - {"proxy", "apiKey", "models"})):
            self._tell(f"{origin}.{shown(key)}")

    def _option(self, draft: Draft, option: Option | None, words: list[str]) -> None:
        if option and option.name == "--flash-attn" and len(words) == 1:
            words = [*words, "on"]  # older builds took no value
        if not words[0].startswith("-"):
            self._tell(f"{draft.origin}: the command's {shown(words[0])} belongs to no option")
        elif PORT in "".join(words) and not (option and option.name in ("--port", "--host")):
            self._tell(f"{draft.origin}: the argument {shown(words[0])} needs the engine's port")
        else:
            self._plan.unmapped += draft.add(option, words, self._faults)

    def _setting(self, draft: Draft, key: object, value: object, fill: Fill) -> bool:
        """Whether the setting finds its place."""
        match key, value:
            case ("cmd" | "macros" | "ttl", _):
                return True
            case ("name" | "description", str()):
                return bool(draft.fields.setdefault("description", value) == value)
            case ("unlisted", bool()):
                draft.fields["unlisted"] = value
            case ("concurrencyLimit", int()) if value > 0:
                draft.fields["concurrency"] = value
            case ("aliases", list()):
                self._aliases(draft, value)
            case ("checkEndpoint", str()) if "command" in draft.fields and value.startswith("/"):
                draft.fields["health_path"] = value
            case ("useModelName", str()) if "command" in draft.fields:
                draft.fields["upstream_name"] = value
            case ("proxy", str()) if "port" in draft.fields:
                return True
            case ("filters", dict()):
                self._filters(draft, value)
            case ("env", list()):
                self._environment(draft, [_filled(fill, entry) for entry in value])
            case _:
                return (key == "proxy" and value in _OWN_ADDRESSES) or (key == "checkEndpoint" and value in _HEALTH)
        return True

    def _aliases(self, draft: Draft, entries: Sequence[object]) -> None:
        for number, entry in enumerate(entries, 1):
            name = _table(entry).get("id", entry)
            if isinstance(name, str | int | float):
                draft.fields.setdefault("aliases", []).append(str(name))
            else:
                self._tell(f"{draft.origin}.aliases: entry {number}")
            for key, value in _table(entry).items():
                if key != "id" and value and value != name:
                    self._tell(f"{draft.origin}.aliases.{shown(name)}.{shown(key)}")

    def _filters(self, draft: Draft, filters: Mapping[Any, Any]) -> None:
        for key, value in filters.items():
            match key, value:
                case "stripParams", str():
                    # It keeps the model's name by itself, whatever stands there.
                    names = (name.strip() for name in value.split(","))
                    draft.fields["strip_params"] = [name for name in names if name and name != "model"]
                case "setParams", dict() if not _has_null(value):
                    draft.fields["set_params"] = {str(name): item for name, item in value.items() if name != "model"}
                case _ if value:
                    self._tell(f"{draft.origin}.filters.{shown(key)}")

    def _environment(self, draft: Draft, entries: Sequence[str]) -> None:
        for number, entry in enumerate(entries, 1):
            name, equals, value = entry.partition("=")
            if equals and not MACRO.search(value):
                draft.fields.setdefault("env", {})[name] = value
            else:
                self._tell(f"{draft.origin}.env: entry {number}")

    def _idle(self, draft: Draft, ttl: object) -> None:
        if seconds := self._document.get("globalTTL") if ttl in (None, -1) else ttl:
            draft.fields["ttl"] = seconds

    def _section(self, key: object, value: object) -> bool:
        """Whether a key beside the models finds its place."""
        match key, value:
            case ("healthCheckTimeout", int() | float()):
                self._set("engine", "start_timeout", max(value, _SHORTEST_START))
            case ("unloadTimeout", int() | float()):
                self._set("engine", "stop_timeout", value)
            case ("logLevel", str()) if value in _LEVELS:
                self._set("telemetry", "log_level", _LEVELS[value])
            case ("apiKeys", list()):
                self._keys(value)
            case ("peers", dict()):
                for name, settings in value.items():
                    self._peer(str(name), _table(settings))
            case _:
                return False
        return True

    def _set(self, section: str, key: str, value: object) -> None:
        self._plan.sections.setdefault(section, {})[key] = value

    def _keys(self, entries: Sequence[object]) -> None:
        for number, entry in enumerate(entries, 1):
            secret = _filled(filler(self._macros), entry)
            if secret and not MACRO.search(secret):
                self._plan.keys.append(secret)
            else:
                self._tell(f"apiKeys: entry {number}")

    def _engine(self) -> None:
        """One engine for all models can be kept; without a path the gateway looks for its own."""
        paths = sorted(program for program in self._programs if "/" in program)
        if len(self._programs) == 1 and paths:
            self._set("engine", "binary", paths[0])
        elif paths:
            self._plan.unmapped += [f"models: {shown(path)}, which is not the engine of all models" for path in paths]

    def _at_once(self) -> None:
        """Left to itself, llama-swap runs one model at a time."""
        if not self._document.get("groups") and not self._document.get("matrix"):
            self._set("limits", "models_max", 1)
        for settings in map(_table, _table(self._document.get("groups")).values()):
            if settings.get("persistent") is True and settings.get("swap") is False:
                for draft in self._named(settings.get("members")):
                    draft.fields |= {} if "url" in draft.fields else {"pinned": True}

    def _preload(self) -> None:
        hooks = _table(self._document.get("hooks"))
        startup = _table(hooks.get("on_startup"))
        for draft in self._named(startup.get("preload")):
            draft.fields["preload"] = True
        self._plan.unmapped += [f"hooks.{shown(key)}" for key in hooks if key != "on_startup"]
        self._plan.unmapped += [f"hooks.on_startup.{shown(key)}" for key in startup if key != "preload"]

    def _named(self, names: object) -> list[Draft]:
        wanted = names if isinstance(names, list) else []
        return [draft for draft in self._plan.models if draft.name in wanted]


def _run(draft: Draft, words: Sequence[str], proxy: object) -> None:
    """A command that calls no llama-server of this machine, with the port that llama-swap finds it at. Raises Unfit."""
    if not words:
        raise Unfit("it has no command")
    draft.fields["command"] = [word.replace(PORT, "${port}") for word in words]
    if not any(PORT in word for word in words):
        fixed = _FIXED_ADDRESS.fullmatch(_string(proxy))
        if not fixed:
            raise Unfit(f"its command calls no llama-server, and has no {PORT}")
        draft.fields["port"] = fixed[1]


def _table(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}


def _has_null(value: object) -> bool:
    """TOML has none."""
    match value:
        case dict():
            return any(map(_has_null, value.values()))
        case list():
            return any(map(_has_null, value))
        case _:
            return value is None


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _scalars(value: object) -> dict[str, str]:
    """Macros: numbers are written as YAML does, truth in small letters."""
    return {
        str(key): str(item).lower() if isinstance(item, bool) else str(item)
        for key, item in _table(value).items()
        if isinstance(item, str | int | float)
    }


def _filled(fill: Fill, entry: object) -> str:
    """The text with its macros, or with what is not known of them left as it is."""
    try:
        return fill(_string(entry))
    except Unfit:
        return _string(entry)
