"""llamaproxy.models.hub: addresses, the token, redirects, and what the hub's answers mean."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import RawTestServer
from huggingface_hub import HfApi, ModelInfo

from llamaproxy.errors import (
    ChecksumMismatch,
    ConfigError,
    GatewayError,
    HubBusy,
    HubDenied,
    HubError,
    InvalidRequest,
    RepositoryNotFound,
)
from llamaproxy.models.hub import ENDPOINT, Access, Hub, access, is_final
from llamaproxy.models.repository import HubFile, Repository
from tests.models.fakehub import COMMIT, REPOSITORY, TOKEN, FakeHub
from tests.models.hubs import access as access_to

CONTENT = bytes(range(256)) * 8
FILE = HubFile("sub/m-Q8_0.gguf", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
SOURCE = Repository(REPOSITORY, COMMIT)


@pytest.fixture
async def fake() -> AsyncIterator[FakeHub]:
    async with FakeHub({FILE.path: CONTENT}).running() as hub:
        yield hub


async def fetched(hub: Hub, start: int = 0, end: int = len(CONTENT), etag: str | None = None) -> tuple[int, bytes]:
    async with hub.piece(SOURCE, FILE, start, end, etag) as piece:
        return piece.start, await piece.content.read()


class TestAccess:
    def test_is_the_hubs_own_without_a_token(self, tmp_path: Path) -> None:
        assert access({"HF_HOME": str(tmp_path)}) == Access(ENDPOINT, None)

    def test_a_token_of_the_environment_goes_before_that_of_a_login(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        assert access({"HF_HOME": str(tmp_path)}).token == TOKEN
        assert access({"HF_HOME": str(tmp_path), "HF_TOKEN": "other"}).token == "other"
        assert access({"HF_TOKEN_PATH": str(tmp_path / "token")}).token == TOKEN
        assert access({"XDG_CACHE_HOME": str(tmp_path)}).token is None

    @pytest.mark.parametrize(
        "environ",
        [
            {"HF_ENDPOINT": "ftp://x"},
            {"HF_ENDPOINT": "huggingface.co"},
            {"HF_ENDPOINT": "http://u:p@h"},
            {"HF_TOKEN": "a\nb"},
        ],
    )
    def test_that_cannot_be_used(self, environ: dict[str, str]) -> None:
        with pytest.raises(ConfigError):
            access(environ)

    def test_a_mirror_may_be_below_a_path(self) -> None:
        assert access({"HF_ENDPOINT": "https://mirror.test/hf/", "HF_TOKEN": "t"}).endpoint == "https://mirror.test/hf"


class TestRepository:
    async def test_is_described(self, fake: FakeHub) -> None:
        async with Hub(access_to(fake)) as hub:
            found = await hub.repository(REPOSITORY)
        assert (found.commit, [each.files for each in found.quantisations]) == (COMMIT, [(FILE,)])

    async def test_that_nobody_knows(self, fake: FakeHub) -> None:
        async with Hub(access_to(fake)) as hub:
            with pytest.raises(RepositoryNotFound, match="HF_TOKEN"):
                await hub.repository("org/other")
            with pytest.raises(InvalidRequest):
                await hub.repository("../../etc")
        assert [seen.path for seen in fake.seen] == ["/api/models/org/other/revision/main"]

    async def test_that_is_gated(self, fake: FakeHub) -> None:
        fake.gated = True
        async with Hub(access_to(fake)) as hub:
            with pytest.raises(HubDenied, match="conditions"):
                await hub.repository(REPOSITORY)
        async with Hub(access_to(fake, TOKEN)) as hub:
            assert (await hub.repository(REPOSITORY)).quantisations

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (web.Response(status=429, headers={"Retry-After": "7"}), HubBusy),
            (web.Response(status=403), HubDenied),
            (web.Response(status=404), RepositoryNotFound),
            (web.Response(status=503), HubError),
            (web.Response(status=204), HubError),
            (web.Response(text="<html>"), HubError),
            (web.Response(text="[]"), HubError),
            (web.Response(body=b" " * (16 * 1024**2 + 1)), HubError),
            (web.Response(status=302, headers={"Location": "file:///etc/passwd"}), HubError),
            (web.Response(status=302), HubError),
        ],
        ids=["busy", "denied", "none", "down", "empty", "html", "list", "endless", "file", "nowhere"],
    )
    async def test_refusals(self, fake: FakeHub, answer: web.Response, error: type[GatewayError]) -> None:
        fake.refusals.append(answer)
        async with Hub(access_to(fake)) as hub:
            with pytest.raises(error) as raised:
                await hub.repository(REPOSITORY)
        assert type(raised.value) is error
        if error is HubBusy:
            assert raised.value.retry_after == 7

    @pytest.mark.parametrize("user", ["user:hidden@", "user@", ":hidden@"])
    async def test_redirects_with_a_password_are_not_followed_nor_told(
        self, fake: FakeHub, user: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        fake.refusals.append(web.Response(status=302, headers={"Location": f"http://{user}127.0.0.1:9/hidden"}))
        async with Hub(access_to(fake, TOKEN)) as hub:
            with pytest.raises(HubError, match="with a password") as raised:
                await hub.repository(REPOSITORY)
        assert "hidden" not in raised.value.message + caplog.text

    @pytest.mark.parametrize("host", ["a" * 64 + ".example", "..example"])
    async def test_redirects_to_what_is_no_host(self, fake: FakeHub, host: str) -> None:
        fake.refusals.append(web.Response(status=302, headers={"Location": f"http://{host}/"}))
        async with Hub(access_to(fake)) as hub:
            with pytest.raises(HubError, match="no host"):
                await hub.repository(REPOSITORY)

    async def test_redirects_without_end(self, fake: FakeHub) -> None:
        fake.refusals += [web.Response(status=307, headers={"Location": f"/api/models/{REPOSITORY}"}) for _ in range(9)]
        async with Hub(access_to(fake)) as hub:
            with pytest.raises(HubError, match="without end"):
                await hub.repository(REPOSITORY)
        assert len(fake.seen) == 6

    async def test_nobody_there(self) -> None:
        async with Hub(Access("http://127.0.0.1:9")) as hub:
            with pytest.raises(HubError):
                await hub.repository(REPOSITORY)


class TestNetrc:
    """Nobody said that its passwords are for the hub, or for those it redirects to."""

    @pytest.fixture(autouse=True)
    def netrc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "netrc"
        path.write_text("machine 127.0.0.1 login me password secret\ndefault login all password secret\n")
        path.chmod(0o600)
        monkeypatch.setenv("NETRC", str(path))

    @pytest.mark.parametrize(("token", "shown"), [(TOKEN, f"Bearer {TOKEN}"), (None, None)])
    async def test_is_not_read(self, fake: FakeHub, token: str | None, shown: str | None) -> None:
        async with Hub(access_to(fake, token)) as hub:
            assert await fetched(hub) == (0, CONTENT)
        assert [seen.headers.get("Authorization") for seen in fake.of("hub")] == [shown]
        assert [seen.headers.get("Authorization") for seen in fake.of("storage")] == [None]


class TestProxies:
    @pytest.fixture
    async def proxied(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[tuple[str, str | None]]]:
        """Addresses that a proxy was asked for, and who asked: it answers everything itself."""
        asked: list[tuple[str, str | None]] = []

        async def answer(request: web.BaseRequest) -> web.Response:
            asked.append((request.raw_path, request.headers.get("Proxy-Authorization")))
            return web.Response(status=404)

        async with RawTestServer(answer) as server:
            for variable in ("http_proxy", "https_proxy"):
                monkeypatch.setenv(variable, f"http://me:secret@127.0.0.1:{server.port}")
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            yield asked

    async def test_of_the_environment_are_asked(self, proxied: list[tuple[str, str | None]]) -> None:
        async with Hub(Access("http://hub.invalid")) as hub:
            with pytest.raises(RepositoryNotFound):
                await hub.repository(REPOSITORY)
        ((path, who),) = proxied
        assert path.startswith(f"http://hub.invalid/api/models/{REPOSITORY}")
        assert who == encode_basic_auth("me", "secret")

    async def test_their_password_is_told_nobody_else(self, proxied: list[tuple[str, str | None]]) -> None:
        async with Hub(Access("https://hub.invalid")) as hub:
            with pytest.raises(HubError, match="404") as raised:
                await hub.repository(REPOSITORY)
        assert proxied == [("hub.invalid:443", encode_basic_auth("me", "secret"))]
        assert "secret" not in raised.value.message

    async def test_unless_it_says_otherwise(
        self, fake: FakeHub, proxied: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with Hub(access_to(fake)) as hub:
            assert await fetched(hub) == (0, CONTENT)
        assert proxied == []

    async def test_over_tls_are_left_alone(self, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "https://127.0.0.1:9")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with Hub(access_to(fake)) as hub:
            assert await fetched(hub) == (0, CONTENT)


class TestPieces:
    async def test_the_token_is_for_the_hub_alone(self, fake: FakeHub) -> None:
        async with Hub(access_to(fake, TOKEN)) as hub:
            assert await fetched(hub) == (0, CONTENT)
        assert [seen.headers.get("Authorization") for seen in fake.of("hub")] == [f"Bearer {TOKEN}"]
        assert [seen.headers.get("Authorization") for seen in fake.of("storage")] == [None]

    async def test_the_rest_of_a_file(self, fake: FakeHub) -> None:
        async with Hub(access_to(fake)) as hub:
            assert await fetched(hub, 100, 300, fake.etag) == (100, CONTENT[100:300])

    async def test_of_another_version_it_begins_anew(self, fake: FakeHub) -> None:
        async with Hub(access_to(fake)) as hub:
            assert await fetched(hub, 100, 300, '"v0"') == (0, CONTENT)

    async def test_another_file_than_was_chosen(self, fake: FakeHub) -> None:
        fake.files[FILE.path] = b"other" + CONTENT
        async with Hub(access_to(fake)) as hub:
            with pytest.raises(ChecksumMismatch):
                await fetched(hub)

    @pytest.mark.parametrize("said", ["bytes 0-99/2048", "bytes 5-99/2048", "bytes 100-299/9", "bytes x", ""])
    async def test_another_part_than_was_asked_for(self, fake: FakeHub, said: str) -> None:
        fake.storage = lambda *_: web.Response(status=206, body=b"x", headers={"Content-Range": said})
        async with Hub(access_to(fake)) as hub:
            with pytest.raises(HubError, match="another part"):
                await fetched(hub, 100, 300)

    async def test_an_expired_address_is_no_denial(self, fake: FakeHub) -> None:
        fake.storage = lambda *_: web.Response(status=403)
        async with Hub(access_to(fake)) as hub:
            with pytest.raises(HubError) as raised:
                await fetched(hub)
        assert not is_final(raised.value)

    async def test_a_hub_that_is_not_there(self) -> None:
        async with Hub(Access("http://127.0.0.1:9")) as hub:
            with pytest.raises(HubError, match=r"^127\.0\.0\.1 cannot be reached: "):
                await hub.repository("a/b", "main")

    async def test_a_silent_storage_is_given_up(self, fake: FakeHub) -> None:
        async def silence(path: str, request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=206, headers={"Content-Range": f"bytes 0-2047/{len(CONTENT)}"})
            await response.prepare(request)
            await response.write(CONTENT[:10])
            await asyncio.Event().wait()
            return response

        fake.storage = silence
        async with Hub(access_to(fake), stall=0.2) as hub:
            with pytest.raises(HubError, match="broke off"):
                await fetched(hub)


def test_huggingface_hub_takes_the_fake_for_the_hub(tmp_path: Path) -> None:
    """What the tests rest on is what the hub's own client sees."""

    async def ask() -> tuple[ModelInfo, str]:
        async with FakeHub({FILE.path: CONTENT}).running() as fake:
            api = HfApi(endpoint=fake.endpoint, token=False)
            info = await asyncio.to_thread(api.model_info, REPOSITORY, files_metadata=True)
            path = await asyncio.to_thread(
                api.hf_hub_download, REPOSITORY, FILE.path, revision=COMMIT, cache_dir=tmp_path
            )
            return info, path

    info, path = asyncio.run(ask())
    (sibling,) = (each for each in info.siblings or [] if each.rfilename == FILE.path)
    assert sibling.lfs and (sibling.lfs.sha256, sibling.lfs.size) == (FILE.sha256, FILE.size)
    assert Path(path).read_bytes() == CONTENT
