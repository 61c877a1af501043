"""The faults of one fake llama-server, the journal, and the ways in which its process ends.

Owns the reading of FAKE_* (the table is in llama_server.py), the counts shared between spawns, and everything that
kills, exits or writes to stderr. Must not know HTTP, and must import little: it is loaded before the socket opens.
"""

import os
import signal
import sys
import time
from typing import NoReturn

_NUMBERS = (
    "LOAD_SECONDS PREFILL_SECONDS TOKEN_SECONDS TOKEN_BYTES SLOT_SECONDS KEEPALIVE LIFE_SECONDS "
    "EXIT_AT_START CRASH_IDLE_SECONDS DIE_AFTER_TOKENS HANG_AFTER_TOKENS STDERR_FLOOD_BYTES"
).split()
_TEXTS = "STATE DIE_SIGNAL POISON MALFORMED RESTORE".split()
_SWITCHES = (
    "OUTLIVE_PARENT OOM SOCKET_TAKEN HEALTH_ALWAYS_503 INFERENCE_500 HANG_BEFORE_FIRST_BYTE CLOSE_REUSED "
    "IGNORE_SIGTERM GRANDCHILD RECORD"
).split()
_TIMES = (
    "EXIT_AT_START OOM SOCKET_TAKEN KILL_DURING_LOAD DIE_BEFORE_FIRST_BYTE DIE POISON INFERENCE_500 "
    "HANG_BEFORE_FIRST_BYTE HANG_AFTER_TOKENS MALFORMED"
).split()
KNOWN = {*_NUMBERS, *_TEXTS, *_SWITCHES, *(f"{name}_TIMES" for name in _TIMES)}
_VALUES = {
    "MALFORMED": {
        *("status", "nul_header", "both_lengths", "early_close", "slow_header"),
        *("short_body", "short_chunk", "bad_chunk"),
    },
    "DIE_SIGNAL": {"KILL", "SEGV", "ABRT"},
    "RESTORE": {"useless", "fail"},
}


class Process:
    """This process towards the outside: journal, stderr, and its end."""

    def __init__(self, started: float, state: str | None) -> None:
        self.pid = os.getpid()
        self.parent = os.getppid()
        self.started = started
        self._journal: int | None = None
        if state is not None:
            self._journal = os.open(f"{state}/journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def record(self, what: str, *fields: str) -> None:
        if self._journal is not None:
            words = [what, str(self.pid), *(field.replace(" ", "%20") for field in fields)]
            os.write(self._journal, f"{' '.join(words)}\n".encode())

    def log(self, *lines: str) -> None:
        """Writes in llama-server's format, and blocks as it does when nobody reads the pipe."""
        elapsed = int((time.monotonic() - self.started) * 1e6)
        minutes, rest = divmod(elapsed, 60_000_000)
        stamp = f"{minutes}.{rest // 1_000_000:02}.{rest // 1000 % 1000:03}.{rest % 1000:03}"
        self.write("".join(f"{stamp} {line}\n" for line in lines).encode())

    def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(2, data) :]
            except OSError:
                return

    def exit(self, code: int) -> NoReturn:
        self.record("exit")
        os._exit(code)

    def die(self, name: str) -> NoReturn:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if name == "ABRT":
            self.write(b"ggml/src/ggml.c:1644: GGML_ASSERT(ctx->mem_buffer != NULL) failed\n")
        os.kill(self.pid, signal.Signals[f"SIG{name}"])
        while True:  # another thread may be the one that takes the signal
            time.sleep(1)


class Faults:
    """What was asked for in the environment of this process."""

    def __init__(self, environ: dict[str, str], model: str) -> None:
        self._set = {name[5:]: value for name, value in environ.items() if name.startswith("FAKE_")}
        self._model = model.replace("/", "_")
        self.state = self._set.get("STATE")
        self.die_signal = self._set.get("DIE_SIGNAL", "KILL")
        self._refuse_mistakes()

    def _refuse_mistakes(self) -> None:
        wrong = [name for name in self._set if name not in KNOWN]
        wrong += [name for name, values in _VALUES.items() if self._set.get(name, next(iter(values))) not in values]
        if self.state is None:
            wrong += [name for name in self._set if name.endswith("_TIMES") or name == "SOCKET_TAKEN"]
        if wrong:
            names = ", ".join(f"FAKE_{name}" for name in wrong)
            sys.stderr.write(f"fake llama-server: no such variable or value, or FAKE_STATE is missing: {names}\n")
            sys.exit(64)

    def on(self, name: str) -> bool:
        return name in self._set

    def text(self, name: str) -> str:
        return self._set.get(name, "")

    def number(self, name: str, default: float = 0) -> float:
        return float(self._set.get(name, default))

    def strikes(self, name: str, times: str | None = None, default_times: int | None = None) -> bool:
        """Whether fault `name` happens now; a fault that is limited in number uses one of its times up."""
        limit = self._set.get(f"{times or name}_TIMES", default_times)
        if limit is None or not (name in self._set or f"{name}_TIMES" in self._set):
            return name in self._set
        return any(self._claim(f"{name}.{at}") for at in range(int(limit)))

    def _claim(self, name: str) -> bool:
        # Exclusive creation is the one counter that needs no lock between processes.
        try:
            os.close(os.open(f"{self.state}/{self._model}.{name}", os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            return False
        return True

    def before_socket(self, process: Process) -> None:
        if self.on("IGNORE_SIGTERM"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.on("GRANDCHILD"):
            os.posix_spawnp("sleep", ["sleep", "60"], os.environ)
        if self.strikes("EXIT_AT_START"):
            process.log("E srv  llama_server: exiting due to FAKE_EXIT_AT_START")
            process.exit(int(self.number("EXIT_AT_START", 1)))

    def after_socket(self, process: Process, model: str) -> None:
        if self.strikes("OOM"):
            time.sleep(self.number("LOAD_SECONDS", 0.05) / 2)
            process.log(
                "E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 68719476736",
                f"E srv    load_model: failed to load model, '{model}'",
                "E srv  llama_server: exiting due to model loading error",
            )
            process.exit(1)

    def in_load(self, process: Process) -> None:
        if self.strikes("KILL_DURING_LOAD"):
            process.die("KILL")

    def before_first_byte(self, process: Process, body: bytes) -> None:
        poison = self.text("POISON").encode()
        if poison and poison in body and self.strikes("POISON"):
            process.die("SEGV")
        if self.strikes("DIE_BEFORE_FIRST_BYTE"):
            process.die(self.die_signal)

    def dies_after(self, tokens: int) -> bool:
        return tokens == self.number("DIE_AFTER_TOKENS", -1) and self.strikes("DIE_AFTER_TOKENS", times="DIE")

    def hangs_after(self, tokens: int) -> bool:
        return tokens == self.number("HANG_AFTER_TOKENS", -1) and self.strikes("HANG_AFTER_TOKENS")
