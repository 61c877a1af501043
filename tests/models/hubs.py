"""Pieces that tests of downloads share: a hub that runs, and rules without patience."""

from pathlib import Path

from llamaproxy.models.download import Rules
from llamaproxy.models.hub import Access, Hub
from llamaproxy.models.repository import Selection, choose
from tests.models import ggufs
from tests.models.fakehub import REPOSITORY, FakeHub

QUICK = Rules(margin=0, tries=3, progress=1, delay=0.001, longest_delay=0.001)


def access(fake: FakeHub, token: str | None = None) -> Access:
    return Access(fake.endpoint, token)


async def selected(hub: Hub, quantisation: str | None = None, name: str | None = "tiny") -> Selection:
    return choose(await hub.repository(REPOSITORY), quantisation, name)


def model(folder: Path) -> bytes:
    return ggufs.write(folder / "made.gguf", block_count=1, context_length=2048).read_bytes()


def sharded(folder: Path) -> dict[str, bytes]:
    paths = ggufs.shards(folder / "made", "tiny-Q8_0", 3, block_count=1)
    return {f"Q8_0/{path.name}": path.read_bytes() for path in paths}
