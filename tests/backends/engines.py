"""Engines for the tests of spawn and pool: the fake llama-server, and programs of a few lines.

The gateway finds nothing out about them that it would not find out about a real one.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from llamaproxy.backends import command
from llamaproxy.backends.command import Address, Command
from llamaproxy.config import EngineConfig
from llamaproxy.modelconfig import ModelConfig

FAKE = (sys.executable, "-S", str(Path(__file__).parents[1] / "fake" / "llama_server.py"))


def fake_command(
    address: Address, state: Path, name: str = "qwen", environment: Mapping[str, str] | None = None, *args: str
) -> Command:
    """The fake llama-server as the gateway would start it; `environment` holds its FAKE_* switches."""
    model = ModelConfig(path="qwen.gguf", args=args, env={"FAKE_STATE": str(state), **(environment or {})})
    return command.build(FAKE, name, model, EngineConfig(), address, os.environ)


def script(program: str, address: Address) -> Command:
    """A program in Python that gets the path of its socket as an argument."""
    argv = (sys.executable, "-S", "-c", program, str(address.socket))
    return Command(argv, {"PATH": os.environ["PATH"]})
