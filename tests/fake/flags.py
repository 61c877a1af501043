"""The command line of the fake llama-server: flags to values, values to a listening socket.

Owns the names of the flags. Must import little: it is loaded before the socket opens.
"""

import os
import socket


class Flags:
    """The part of llama-server's command line that changes what the fake does."""

    def __init__(self, argv: list[str]) -> None:
        self.model = _value(argv, "-m", "--model") or "model.gguf"
        alias = _value(argv, "-a", "--alias")
        self.aliases = sorted(alias.split(",")) if alias else []
        self.host = _value(argv, "--host") or "127.0.0.1"
        self.port = int(_value(argv, "--port") or 8080)
        self.parallel = int(_value(argv, "-np", "--parallel") or -1)
        self.context = int(_value(argv, "-c", "--ctx-size") or 0) or 4096
        automatic = self.parallel <= 0
        self.unified = (automatic or _any(argv, "-kvu", "--kv-unified")) and not _any(
            argv, "-no-kvu", "--no-kv-unified"
        )
        self.slots_number = 4 if automatic else self.parallel
        self.prompt_cache = _value(argv, "-cram", "--cache-ram") != "0"
        self.cache_idle_slots = self.prompt_cache and _idle_slots_are_cached(argv)
        self.ping_seconds = float(_value(argv, "--sse-ping-interval") or 30)
        self.slot_save_path = _value(argv, "--slot-save-path")
        keys = _value(argv, "--api-key") or os.environ.get("LLAMA_API_KEY")
        self.api_keys = keys.split(",") if keys else []
        self.metrics = "--metrics" in argv
        self.slots = "--no-slots" not in argv
        self.embeddings = _any(argv, "--embeddings", "--embedding")

    @property
    def name(self) -> str:
        """What the text of the answers and the journal call the model."""
        return self.aliases[0] if self.aliases else os.path.splitext(os.path.basename(self.model))[0]

    @property
    def served_as(self) -> str:
        """The `model` of the answers: without an alias the path as it was given."""
        return self.aliases[0] if self.aliases else self.model

    @property
    def slot_context(self) -> int:
        """Tokens of one slot: a unified cache is whole for each, otherwise the slots divide it."""
        return self.context if self.unified else self.context // self.slots_number

    @property
    def unix(self) -> bool:
        return self.host.endswith(".sock") or "/" in self.host

    @property
    def address(self) -> str:
        return f"unix://{self.host}" if self.unix else f"http://{self.host}:{self.port}"


def _any(argv: list[str], *names: str) -> bool:
    return any(name in argv for name in names)


def _idle_slots_are_cached(argv: list[str]) -> bool:
    # Of the two flags the last counts, and a flag before the variable.
    given = [flag for flag in argv if flag in ("--cache-idle-slots", "--no-cache-idle-slots")]
    variable = os.environ.get("LLAMA_ARG_CACHE_IDLE_SLOTS", "1")
    return given[-1] == "--cache-idle-slots" if given else variable not in ("0", "off", "false", "disabled")


def _value(argv: list[str], *names: str) -> str | None:
    # Of a repeated flag the last counts, as in llama-server.
    found = [argv[at + 1] for at, flag in enumerate(argv[:-1]) if flag in names]
    return found[-1] if found else None


def bind(flags: Flags) -> socket.socket:
    if flags.unix:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(flags.host)
    else:
        listener = socket.socket(socket.AF_INET6 if ":" in flags.host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((flags.host, flags.port))
    listener.listen(1024)
    return listener
