"""Whether the kernel ends processes for want of memory.

Owns one number. It counts the whole machine's, so that it tells of a killed process only that this may have been why.
"""

from pathlib import Path

_COUNTERS = Path("/proc/vmstat")
_NAME = "oom_kill"


def kills(counters: Path = _COUNTERS) -> int:
    """Processes that the kernel has killed so since it was started; 0 where it does not say."""
    try:
        lines = counters.read_text("ascii").splitlines()
    except (OSError, ValueError):
        return 0
    found = (line.split() for line in lines if line.startswith(_NAME))
    return next((int(words[1]) for words in found if words[0] == _NAME and words[1:2] and words[1].isdigit()), 0)
