#!/usr/bin/env python3
"""A llama-server that needs no model and fails on command: the `engine.binary` of the tests.

Owns the order of the start; the files beside it do the work. It copies what llama.cpp b11434 was seen to do: life
cycle, slots, answers, errors. It must not be kinder than the real one, and must not import anything of llamaproxy or
from outside the standard library. Every flag that it does not know is accepted and ignored. A symbolic link to it
works, a copy does not.

An answer is `max_tokens` words; the first is `MODEL:PID` (the alias, or the stem of the file), and every response has
the header `X-Fake-Pid`. Behaviour is changed by environment variables; one that is not in this table stops the process
with status 64, so that a misspelt fault cannot pass for a survived one. Switches are on with any value.

| variable | effect |
|---|---|
| FAKE_STATE=DIR | keeps the journal and, per model, the counts of the `…_TIMES` faults in DIR |
| FAKE_LOAD_SECONDS=0.05 | from start of the process to `model loaded` |
| FAKE_PREFILL_SECONDS=0 | from the granting of a slot to the first byte |
| FAKE_TOKEN_SECONDS=0 | for each token |
| FAKE_TOKEN_BYTES=0 | pads every token to this length, for large replies |
| FAKE_SLOT_SECONDS=0 | for each save, restore or erase of a slot |
| FAKE_KEEPALIVE=5 | seconds until an idle connection is closed |
| FAKE_LIFE_SECONDS=600 | hard limit of the process's life |
| FAKE_OUTLIVE_PARENT | do not die with the parent: needed to see whether the gateway reaps its children |
| FAKE_EXIT_AT_START=CODE | says why on stderr and exits before the socket exists; FAKE_EXIT_AT_START_TIMES |
| FAKE_OOM | socket, then a failed allocation on stderr, exit 1; FAKE_OOM_TIMES |
| FAKE_SOCKET_TAKEN | cannot bind, exit 1; FAKE_SOCKET_TAKEN_TIMES, 1 unless given, so it needs FAKE_STATE |
| FAKE_KILL_DURING_LOAD_TIMES=N | SIGKILL half-way through the load, for the first N spawns |
| FAKE_HEALTH_ALWAYS_503 | never ends loading: 503 on every route |
| FAKE_CRASH_IDLE_SECONDS=S | dies S seconds after the load |
| FAKE_DIE_SIGNAL=KILL | the signal of all deaths below and of the one above: KILL, SEGV, ABRT |
| FAKE_DIE_BEFORE_FIRST_BYTE_TIMES=N | the first N inferences kill it after the prefill |
| FAKE_DIE_AFTER_TOKENS=N | dies when N tokens of an answer are written; FAKE_DIE_TIMES |
| FAKE_POISON=WORD | an inference whose body contains WORD kills it by SIGSEGV after the prefill; FAKE_POISON_TIMES |
| FAKE_INFERENCE_500 | every inference answers 500; FAKE_INFERENCE_500_TIMES |
| FAKE_HANG_BEFORE_FIRST_BYTE | inference never answers, not even with SSE pings; FAKE_HANG_BEFORE_FIRST_BYTE_TIMES |
| FAKE_HANG_AFTER_TOKENS=N | goes silent after N tokens, also without pings; FAKE_HANG_AFTER_TOKENS_TIMES |
| FAKE_MALFORMED=KIND | inference answers malformed, KIND as listed below; FAKE_MALFORMED_TIMES |
| FAKE_RECORD | `request` lines end with TARGET and SHA256 of the body, `aborted` ones with when the client left |
| FAKE_CLOSE_REUSED | closes a kept-alive connection at the first bytes of its second request |
| FAKE_RESTORE=useless or fail | restoring a slot reports success and reuses nothing, or answers 400 |
| FAKE_IGNORE_SIGTERM | only SIGKILL ends it |
| FAKE_GRANDCHILD | leaves a `sleep 60` in its process group, holding its stdout and stderr |
| FAKE_STDERR_FLOOD_BYTES=N | after the load, writes N bytes without a newline to stderr from a thread |

KIND is status (a garbage status line), nul_header, both_lengths, early_close (in the headers), slow_header (one byte a
second), and after a good head short_body, or after the first event of a stream short_chunk and bad_chunk.

`X_TIMES=N` limits fault X to its first N strikes over all spawns of a model and needs FAKE_STATE. The file DIR/journal
has one line each for
`spawn PID MODEL MONOTONIC`, `request PID METHOD PATH X-REQUEST-ID` (`-` if absent), `done PID METHOD PATH ID STATUS`,
`aborted PID METHOD PATH ID` (the client left, or the answer was broken off on purpose) and `exit PID` (not after a
signal), in the order in which they happened. Blanks within a field are written as `%20`, times are MONOTONIC.

`/fake/body` takes any request and tells its body's length and SHA-256.
"""

import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fake.faults import Faults, Process
    from tests.fake.flags import Flags


def main(argv: list[str]) -> None:
    started = time.monotonic()
    # The socket opens before asyncio is imported, which is most of the start: llama-server's opens at once, too.
    from tests.fake.faults import Faults, Process
    from tests.fake.flags import Flags

    flags = Flags(argv)
    faults = Faults(dict(os.environ), flags.name)
    process = Process(started, faults.state)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, faults.number("LIFE_SECONDS", 600))
    process.record("spawn", flags.name, f"{started:.6f}")
    process.log("I srv  llama_server: initializing ...")
    faults.before_socket(process)
    listener = _listen(flags, faults, process)
    process.log(f"I srv    load_model: loading model '{flags.model}'")
    faults.after_socket(process, flags.model)

    from tests.fake.life import serve

    serve(flags, faults, process, listener)


def _listen(flags: "Flags", faults: "Faults", process: "Process") -> socket.socket:
    from tests.fake.flags import bind

    try:
        if faults.strikes("SOCKET_TAKEN", default_times=1):
            raise OSError
        return bind(flags)
    except OSError:
        process.log(
            f"E srv         start: couldn't bind HTTP server socket, hostname: {flags.host}, port: {flags.port}",
            "E srv  llama_server: exiting due to HTTP server error",
        )
        process.exit(1)


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    main(sys.argv[1:])
