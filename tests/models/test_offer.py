"""llamaproxy.models.offer: what would fit, told from the first bytes of one file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from llamaproxy.models import offer
from llamaproxy.models.fit import Fits, Room
from llamaproxy.models.hub import Hub
from llamaproxy.models.repository import Repository
from tests.models.fakehub import COMMIT, REPOSITORY, FakeHub
from tests.models.hubs import access, model

ROOM = Room(8 * 1024**3)


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeHub]:
    small, large = model(tmp_path), model(tmp_path) + bytes(100)
    async with FakeHub({"m-Q8_0.gguf": large, "m-Q4_K_M.gguf": small, "mmproj-F16.gguf": b"x" * 50}).running() as hub:
        yield hub


async def asked(fake: FakeHub) -> list[offer.Offer]:
    async with Hub(access(fake)) as hub:
        return await offer.offers(hub, await hub.repository(REPOSITORY), ROOM)


async def test_the_smallest_first_with_its_projector_and_context(fake: FakeHub) -> None:
    small, large = await asked(fake)
    assert (small.quantisation.name, large.quantisation.name) == ("Q4_K_M", "Q8_0")
    assert (small.fit.fits, small.fit.context) == (Fits.YES, 2048)
    assert large.fit.needed - small.fit.needed == 100
    assert small.fit.needed > small.quantisation.size + 50
    assert len(fake.of("storage")) == 1


async def test_a_header_that_needs_more_bytes(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer, "_HEADERS", (10, 100, 4096))
    assert [one.fit.context for one in await asked(fake)] == [2048, 2048]
    assert [span.split("-")[0] for span in fake.ranges()] == ["bytes=0", "bytes=10", "bytes=100"]


async def test_a_storage_that_knows_no_ranges(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer, "_HEADERS", (10, 4096))
    fake.storage = lambda path, _: web.Response(body=fake.files[path])
    assert [one.fit.context for one in await asked(fake)] == [2048, 2048]


@pytest.mark.parametrize("content", [b"", b"<html>" * 20, b"GGUF" + b"\xff" * 60])
async def test_what_is_no_header_leaves_the_sizes(fake: FakeHub, content: bytes) -> None:
    fake.storage = lambda path, _: web.Response(body=content)
    fake.told = {"m-Q4_K_M.gguf": {"lfs": {"sha256": "0" * 64, "size": len(content) or 1}}}
    assert [one.fit.context for one in await asked(fake)] == [None, None]


async def test_who_may_list_but_not_read(fake: FakeHub) -> None:
    async with Hub(access(fake)) as hub:
        found = await hub.repository(REPOSITORY)
        fake.gated = True
        assert [one.fit.context for one in await offer.offers(hub, found, ROOM)] == [None, None]


async def test_nothing_of_nothing(fake: FakeHub) -> None:
    async with Hub(access(fake)) as hub:
        assert await offer.offers(hub, Repository(REPOSITORY, COMMIT), ROOM) == []
