"""The way to NVIDIA's driver, for everybody who asks it something.

Owns how NVML is opened, and the words for why it cannot be. Asks nothing itself.
"""

import pynvml

_REASONS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver is installed: its library libnvidia-ml was not found",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded, or this container was not given the GPUs",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to ask the NVIDIA driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "NVIDIA's driver and its library have different versions; restart it",
}


class NoDriver(Exception):
    """There is nobody to ask; the message says why."""


def connect() -> list[object]:
    """Handles of all devices, in the driver's order. May be called again and again. Raises NoDriver."""
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise NoDriver(_REASONS.get(error.value, f"the NVIDIA driver does not answer: {error}")) from error
