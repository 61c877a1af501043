"""Free TCP ports for engines that cannot listen on a Unix socket.

Below the ephemeral range: a probe of an unbound ephemeral port can connect to itself, and the engine then cannot
bind. Owns nothing afterwards: who gets a port must be ready to lose it.
"""

import random
import socket

FIRST, LAST = 20_000, 32_767
_TRIES = 200


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago. Raises OSError where none is found."""
    for port in random.sample(range(FIRST, LAST + 1), _TRIES):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {FIRST} and {LAST}")
