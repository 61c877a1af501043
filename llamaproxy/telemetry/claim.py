"""Whose past a database tells: one gateway's at a time.

Rows of requests have the number of their process, so that several gateways may write them into one file. Lines of the
log, what happened to models and the machine's past have none: only who has the claim writes and reads them. Knows
nothing of the database; the claim is a lock on a file beside it, which ends with its process.
"""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


class Claim:
    """Taken when it is made, if nobody has it. Where no file can be made, no database can be written either."""

    def __init__(self, database: Path) -> None:
        self._fd = -1
        path = database.with_name(f"{database.name}.lock")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            self.held = _lock(self._fd)
        except OSError:
            self.held = True  # the writer will say what is wrong with the folder
        if not self.held:
            log.warning(
                "%s is another gateway's: requests are written there, but what happens to models, the log and the "
                "machine's past stay in memory; have telemetry.database elsewhere",
                database,
            )

    def close(self) -> None:
        """Somebody else may have it."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _lock(fd: int) -> bool:
    """Raises OSError where there are no locks."""
    try:
        import fcntl
    except ImportError:  # on Windows, where nobody shares it but by intention
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
