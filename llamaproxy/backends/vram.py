"""Memory of NVIDIA devices by process, as the driver tells it.

Looks for the driver once; where there is none there are no devices. Reads only.
"""

import contextlib
import logging
from collections.abc import Mapping

import pynvml

from llamaproxy import nvml

log = logging.getLogger(__name__)


class Devices:
    """All devices of the machine; none where there is no driver."""

    def __init__(self) -> None:
        self._handles: list[object] = []
        try:
            self._handles = nvml.connect()
        except nvml.NoDriver as reason:
            log.debug("no NVIDIA devices: %s", reason)

    def __len__(self) -> int:
        return len(self._handles)

    def used(self, pids: set[int]) -> tuple[int, ...]:
        """Bytes that these processes hold of each device; empty where none of them is known to the driver.

        In a container the driver may know processes under other ids than theirs here.
        """
        tables = [self._processes(handle) for handle in self._handles]
        if not any(pids & table.keys() for table in tables):
            return ()
        return tuple(sum(table[pid] for pid in pids & table.keys()) for table in tables)

    def _processes(self, handle: object) -> Mapping[int, int]:
        """Bytes by process; one whose memory the driver does not tell is left out."""
        with contextlib.suppress(pynvml.NVMLError):
            listed = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            return {entry.pid: entry.usedGpuMemory for entry in listed if entry.usedGpuMemory}
        return {}
