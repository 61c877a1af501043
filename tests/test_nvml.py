"""llamaproxy.nvml: a driver that is there, and the words for one that is not. It is played, as NVML answers."""

import pynvml
import pytest

from llamaproxy import nvml


def fail_with(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def failing() -> None:
        raise pynvml.NVMLError(code)

    monkeypatch.setattr(pynvml, "nvmlInit", failing)


def test_devices_come_in_the_drivers_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: f"device {index}")
    assert nvml.connect() == ["device 0", "device 1", "device 2"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver is installed"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "is not loaded"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "different versions"),
        (pynvml.NVML_ERROR_UNKNOWN, "does not answer: Unknown Error"),
    ],
)
def test_why_there_is_none(code: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, code)
    with pytest.raises(nvml.NoDriver, match=words):
        nvml.connect()
