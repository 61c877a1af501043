"""Files that the gateway writes for its own next start: where they lie, and how they stay whole.

A file is written beside its place and renamed, readable for nobody else; gateways that share one change it one at a
time. Knows no content.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """For what outlives the process.

    systemd names a service's own directory in $STATE_DIRECTORY (systemd.exec(5)); else it is the user's, as the XDG
    Base Directory Specification has it.
    """
    own, _, _ = environ.get("STATE_DIRECTORY", "").partition(":")
    return Path(own) if own else platformdirs.user_state_path("llamaproxy")


def replace(path: Path, content: str) -> None:
    """Raises OSError, and then the file is as it was."""
    # mkstemp makes it for nobody but this user.
    fd, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:  # a draft is of no use to anybody, whatever cut it off
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Among processes and threads; makes the directory. The file itself is replaced, so that a lock on it would hold
    nobody. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        try:
            import fcntl
        except ImportError:  # on Windows, where nobody shares it but by intention
            pass
        else:
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
