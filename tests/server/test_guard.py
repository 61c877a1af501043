"""llamaproxy.server.guard: who comes in, with every trick that names, origins and keys allow."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from llamaproxy.config import Config
from llamaproxy.core.keys import Key
from llamaproxy.errors import ConfigError, Forbidden, ForbiddenOrigin, GatewayError, InvalidApiKey, InvalidRequest
from llamaproxy.server.guard import Guard, check_exposure, extract_key, fingerprint, is_loopback
from llamaproxy.server.sessions import COOKIE, Sessions

SECRET = "lp-abcdefghijklmnopqrstuvwxyz234567"
KEYS = {"alice": {"sha256": hashlib.sha256(SECRET.encode()).hexdigest()}}


def guard(keys: dict[str, Any] | None = None, **server: Any) -> Guard:
    return Guard(Config.model_validate({"server": server, "keys": keys or {}}))


def fields(**values: str) -> CIMultiDictProxy[str]:
    """Header fields by their names with _ for -; Host is a good one unless it is given."""
    given = CIMultiDict({"Host": "localhost:8080"})
    given.update({name.replace("_", "-"): value for name, value in values.items()})
    return CIMultiDictProxy(given)


def passes(judge: Guard, method: str = "GET", path: str = "/v1/models", **values: str) -> bool:
    try:
        judge.check(method, path, fields(**values))
    except GatewayError as error:
        assert error.status in (400, 401, 403)
        return False
    return True


class TestExposure:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
    def test_loopback_needs_no_key(self, host: str) -> None:
        assert is_loopback(host)
        check_exposure(Config.model_validate({"server": {"host": host}}))

    @pytest.mark.parametrize(
        "host", ["0.0.0.0", "::", "192.168.1.2", "gateway", "localhost.evil.com", "127.0.0.1.evil.com", "*", "127.1"]
    )
    def test_everything_else_does(self, host: str) -> None:
        assert not is_loopback(host)
        with pytest.raises(ConfigError, match="llamaproxy keys create"):
            check_exposure(Config.model_validate({"server": {"host": host}}))
        check_exposure(Config.model_validate({"server": {"host": host}, "keys": KEYS}))


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "localhost:8080",
            "LOCALHOST:1",
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
            "localhost:",
        ],
    )
    def test_names_of_this_machine(self, host: str) -> None:
        assert passes(guard(), Host=host)

    @pytest.mark.parametrize(
        "host",
        [
            " ",
            ":8080",
            "evil.com",
            "evil.com:8080",
            "evil.localhost",
            "localhost.evil.com",
            "localhost.",
            "localhost.:8080",
            "127.0.0.1.nip.io",
            "127.0.0.2",
            "192.168.1.2",
            "0.0.0.0:8080",
            "2130706433",
            "0x7f.1",
            "evil.com@localhost",
            "localhost:8080@evil.com",
            "evil.com:80@localhost:8080",
            "localhost:evil.com",
            "localhost:80:80",
            "localhost/evil.com",
            "localhost#evil.com",
            "localhost evil.com",
            "localhost,evil.com",
            "evil.com,localhost",
            "::1",
            "[::1",
            "::1]",
            "[::1]evil.com",
            "[::1].evil.com:80",
            "[localhost]",
            "[evil.com]",
            "[]",
            "[::ffff:127.0.0.1]",
            "localhost\x00",
            "local\u0131host",
            "\u2113ocalhost",
            "\udcff",
        ],
        ids=ascii,
    )
    def test_other_names(self, host: str) -> None:
        with pytest.raises(Forbidden, match=r"server\.allowed_hosts") as caught:
            guard().check("GET", "/", fields(Host=host))
        assert caught.value.message.isprintable()

    def test_a_request_without_one(self) -> None:
        """HTTP/1.0 can be without."""
        for nameless in (CIMultiDict[str](), CIMultiDict({"Host": ""})):
            with pytest.raises(InvalidRequest, match="Host"):
                guard().check("GET", "/health", CIMultiDictProxy(nameless))

    def test_a_long_one_is_cut(self) -> None:
        with pytest.raises(Forbidden) as caught:
            guard().check("GET", "/", fields(Host="x" * 8000))
        assert len(caught.value.message) < 350

    def test_names_that_are_allowed(self) -> None:
        judge = guard(allowed_hosts=["GW.example.com", "2001:DB8::1"])
        for host in ("gw.example.com", "gw.EXAMPLE.com:443", "[2001:db8::1]:8080", "localhost"):
            assert passes(judge, Host=host)
        for host in ("example.com", "a.gw.example.com", "gw.example.com.evil.com", "gw.example.com@evil.com"):
            assert not passes(judge, Host=host)

    def test_the_address_it_listens_on(self) -> None:
        assert passes(guard(host="127.0.0.2"), Host="127.0.0.2:8080")
        assert passes(guard(host="Gateway", keys=KEYS), Host="gateway:8080", path="/health")

    def test_where_others_can_reach_it_any_address_is_its_own_and_no_name_is(self) -> None:
        """Rebinding needs a name; what it listens on as 0.0.0.0 is not known to it."""
        judge = guard(host="0.0.0.0", keys=KEYS)
        for host in ("192.168.1.2:8080", "[fe80::1]:8080", "10.0.0.1"):
            assert passes(judge, path="/health", Host=host)
        for host in ("evil.com", "192.168.1.2.nip.io", "192.168.1.2@evil.com", ""):
            assert not passes(judge, path="/health", Host=host)

    @given(st.text(max_size=30))
    def test_no_text_fails_in_another_way(self, host: str) -> None:
        assert not passes(guard(allowed_hosts=["gw"]), Host=host) or host.lower().startswith(
            ("gw", "localhost", "127.0.0.1", "[::1]")
        )


class TestOrigin:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "BREW"])
    def test_a_foreign_page_changes_nothing(self, method: str) -> None:
        with pytest.raises(ForbiddenOrigin, match=r"server\.allowed_origins"):
            guard().check(method, "/models/load", fields(Origin="https://evil.com"))

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("http://localhost:8080", "localhost:8080"),
            ("https://localhost:8080", "localhost:8080"),
            ("http://LOCALHOST:8080", "localhost:8080"),
            ("http://localhost", "localhost"),
            ("http://[::1]:8080", "[::1]:8080"),
        ],
    )
    def test_its_own_page_may(self, origin: str, host: str) -> None:
        assert passes(guard(), "POST", Host=host, Origin=origin)

    @pytest.mark.parametrize(
        "origin",
        [
            "null",
            "http://localhost",
            "http://localhost:8081",
            "http://127.0.0.1:8080",
            "http://evil.com:8080",
            "http://localhost:8080.evil.com",
            "http://localhost:8080@evil.com",
            "http://evil.com@localhost:8080",
            "http://evil.com/localhost:8080",
            "http://evil.com#localhost:8080",
            "http://localhost:8080/",
            "http://localhost:8080 http://evil.com",
            "app://localhost:8080",
            "file://localhost:8080",
            "ws://localhost:8080",
            "localhost:8080",
            "//localhost:8080",
            "http://[",
            "http://[::1",
            "http://localhost\u2100:8080",
            "http://\udcff",
        ],
        ids=ascii,
    )
    def test_another_page_may_not(self, origin: str) -> None:
        with pytest.raises(ForbiddenOrigin) as caught:
            guard().check("POST", "/models/load", fields(Origin=origin))
        assert caught.value.message.isprintable()

    def test_a_client_that_is_no_page_sends_none(self) -> None:
        assert passes(guard(), "POST")
        assert passes(guard(), "POST", Origin="")

    def test_reading_is_another_matter(self) -> None:
        for method in ("GET", "HEAD", "OPTIONS"):
            assert passes(guard(), method, Origin="https://evil.com")

    @pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c"])
    def test_a_foreign_page_opens_no_websocket(self, upgrade: str) -> None:
        assert not passes(guard(), Upgrade=upgrade, Origin="https://evil.com")
        assert passes(guard(), Upgrade=upgrade, Origin="http://localhost:8080")
        assert passes(guard(), Upgrade=upgrade)

    def test_origins_that_are_allowed(self) -> None:
        judge = guard(allowed_origins=["https://Chat.example.com/", "app://obsidian.md"])
        for origin in ("https://chat.example.com", "HTTPS://CHAT.example.com", "app://obsidian.md"):
            assert judge.allows_origin(origin)
            assert passes(judge, "POST", Origin=origin)
        for origin in (
            "http://chat.example.com",
            "https://chat.example.com:444",
            "https://a.chat.example.com",
            "",
            "null",
        ):
            assert not judge.allows_origin(origin)
            assert not passes(judge, "POST", Origin=origin) or not origin

    def test_behind_tls_the_page_without_it_is_foreign(self) -> None:
        """Whoever sits between can write http://gw.example.com, and its pages would have the same name."""
        judge = guard(allowed_hosts=["gw.example.com"])
        for proto in ("https", "HTTPS", "https, http"):
            forwarded = {"Host": "gw.example.com", "X_Forwarded_Proto": proto}
            assert passes(judge, "POST", Origin="https://gw.example.com", **forwarded)
            assert not passes(judge, "POST", Origin="http://gw.example.com", **forwarded)
        for proto in ("", "http", "wss", "gopher"):
            forwarded = {"Host": "gw.example.com", "X_Forwarded_Proto": proto}
            assert passes(judge, "POST", Origin="https://gw.example.com", **forwarded)
            assert passes(judge, "POST", Origin="http://gw.example.com", **forwarded)
            assert not passes(judge, "POST", Origin="gopher://gw.example.com", **forwarded)


class TestSite:
    """What a page may fetch without CORS: images, frames, scripts. A GET for a model starts it."""

    def test_a_foreign_page_reaches_no_model(self) -> None:
        for destination in ("image", "script", "iframe", "empty", "document"):
            assert not passes(guard(), Sec_Fetch_Site="cross-site", Sec_Fetch_Dest=destination)
        assert not passes(guard(), Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="iframe", Sec_Fetch_User="?1")
        assert not passes(guard(), "HEAD", Sec_Fetch_Site="cross-site")

    @pytest.mark.parametrize("site", ["same-origin", "same-site", "none", ""])
    def test_its_own_page_and_the_address_bar_do(self, site: str) -> None:
        assert passes(guard(), Sec_Fetch_Site=site, Sec_Fetch_Dest="image")

    def test_a_person_may_follow_a_link_and_send_no_form(self) -> None:
        by_hand = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document", "Sec_Fetch_User": "?1"}
        assert passes(guard(), **by_hand)
        assert not passes(guard(), "POST", **by_hand)

    @pytest.mark.parametrize("path", ["/", "/health", "/ready"])
    def test_what_starts_nothing_is_open(self, path: str) -> None:
        assert passes(guard(), path=path, Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="image")

    def test_an_allowed_page_may(self) -> None:
        judge = guard(allowed_origins=["https://chat.example.com"])
        assert passes(judge, Sec_Fetch_Site="cross-site", Origin="https://chat.example.com")
        assert passes(judge, "OPTIONS", Sec_Fetch_Site="cross-site", Origin="https://chat.example.com")
        assert not passes(judge, Sec_Fetch_Site="cross-site", Origin="https://evil.com")

    def test_a_preflight_is_answered(self) -> None:
        assert passes(guard(), "OPTIONS", Sec_Fetch_Site="cross-site", Origin="https://evil.com")


class TestKeys:
    def test_without_keys_nobody_is_asked(self) -> None:
        assert guard().check("POST", "/v1/chat/completions", fields(Authorization="Bearer whatever")) is None

    @pytest.mark.parametrize(
        "shown",
        [
            {"Authorization": f"Bearer {SECRET}"},
            {"Authorization": f"bearer {SECRET}"},
            {"Authorization": f"BEARER   {SECRET} "},
            {"X_Api_Key": SECRET},
            {"Authorization": "Basic dTpw", "X_Api_Key": SECRET},
            {"Authorization": "Bearer   ", "X_Api_Key": SECRET},
        ],
    )
    def test_a_known_key_has_a_name(self, shown: dict[str, str]) -> None:
        assert guard(KEYS).check("POST", "/v1/chat/completions", fields(**shown)) == Key("alice")

    @pytest.mark.parametrize(
        "shown",
        [
            {"Authorization": "Bearer lp-wrong"},
            {"Authorization": f"Bearer {SECRET}x"},
            {"Authorization": f"Bearer {SECRET[:-1]}"},
            {"Authorization": f"Bearer {SECRET.upper()}"},
            {"Authorization": f"Bearer {KEYS['alice']['sha256']}"},
            {"Authorization": "Bearer alice"},
            {"Authorization": "Bearer lp-wrong", "X_Api_Key": SECRET},
            {"Authorization": "Bearer schlüssel"},
            {"Authorization": "Bearer \udcff\udcfe"},
            {"X_Api_Key": "\U0001f511"},
            {"X_Api_Key": "\x00"},
            {"X_Api_Key": "x" * 8000},
        ],
        ids=ascii,
    )
    def test_an_unknown_key(self, shown: dict[str, str]) -> None:
        with pytest.raises(InvalidApiKey, match="not known") as caught:
            guard(KEYS).check("POST", "/v1/chat/completions", fields(**shown))
        assert not any(value.removeprefix("Bearer ") in caught.value.message for value in shown.values())

    @pytest.mark.parametrize(
        "shown",
        [{}, {"Authorization": ""}, {"Authorization": SECRET}, {"Authorization": f"Token {SECRET}"}, {"X_Api_Key": ""}],
    )
    def test_no_key(self, shown: dict[str, str]) -> None:
        with pytest.raises(InvalidApiKey, match="Bearer"):
            guard(KEYS).check("GET", "/v1/models", fields(**shown))

    def test_a_key_of_any_bytes_is_told_by_them(self) -> None:
        """aiohttp reads header fields as UTF-8 and keeps the bytes that are not."""
        raw = b"lp-\xff\xc3\xa4"
        keys = {"odd": {"sha256": hashlib.sha256(raw).hexdigest()}}
        shown = fields(Authorization=f"Bearer {raw.decode('utf-8', 'surrogateescape')}")
        assert guard(keys).check("GET", "/v1/models", shown) == Key("odd")

    @pytest.mark.parametrize("path", ["/", "/health", "/ready"])
    def test_open_paths(self, path: str) -> None:
        assert guard(KEYS).check("GET", path, fields()) is None

    @pytest.mark.parametrize(
        "path", ["/healthy", "/health/x", "/api/models", "/models", "/v1/models", "/upstream/m/health"]
    )
    def test_paths_that_are_not(self, path: str) -> None:
        assert not passes(guard(KEYS), path=path)

    def test_a_preflight_shows_no_key(self) -> None:
        assert guard(KEYS).check("OPTIONS", "/v1/chat/completions", fields(Origin="https://evil.com")) is None

    def test_a_key_opens_neither_host_nor_origin(self) -> None:
        shown = {"Authorization": f"Bearer {SECRET}"}
        assert not passes(guard(KEYS), Host="evil.com", **shown)
        assert not passes(guard(KEYS), "POST", Origin="https://evil.com", **shown)

    def test_the_secret_is_not_kept(self) -> None:
        judge = guard(KEYS)
        judge.check("GET", "/v1/models", fields(X_Api_Key=SECRET))
        assert SECRET not in repr(vars(judge))

    def test_the_first_of_two_fields_counts(self) -> None:
        twice = CIMultiDictProxy(CIMultiDict([("Authorization", "Bearer a"), ("Authorization", "Bearer b")]))
        assert extract_key(twice) == "a"

    def test_an_expired_key_says_so(self) -> None:
        config = Config.model_validate({"keys": {"alice": {**KEYS["alice"], "expires": "1970-01-01T00:01:40Z"}}})
        with pytest.raises(InvalidApiKey, match="expired"):
            Guard(config, clock=lambda: 100.0).check("GET", "/v1/models", fields(X_Api_Key=SECRET))

    def test_fingerprint(self) -> None:
        assert fingerprint("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


ADMIN = {"sha256": hashlib.sha256(b"lp-admin").hexdigest(), "admin": True}


class TestAdmin:
    PATHS = (
        "/api/models",
        "/metrics",
        "/api/keys/bob",
        "/api/none",
        "/api",
        "/models/load",
        "/models/unload",
        "/llamaproxws",
    )

    @pytest.mark.parametrize("path", PATHS)
    def test_where_others_can_reach_it_a_plain_key_administers_nothing(self, path: str) -> None:
        with pytest.raises(Forbidden, match="admin = true"):
            guard(KEYS, host="0.0.0.0").check("POST", path, fields(X_Api_Key=SECRET))
        assert passes(guard({"root": ADMIN}, host="0.0.0.0"), "POST", path, X_Api_Key="lp-admin")

    @pytest.mark.parametrize("path", PATHS)
    def test_on_this_machine_any_key_does_until_one_is_an_admins(self, path: str) -> None:
        assert passes(guard(), path=path)
        assert passes(guard(KEYS), path=path, X_Api_Key=SECRET)
        assert not passes(guard({**KEYS, "root": ADMIN}), path=path, X_Api_Key=SECRET)
        assert passes(guard({"root": ADMIN}), path=path, X_Api_Key="lp-admin")

    def test_an_admin_key_that_has_expired_opens_nothing(self) -> None:
        judge = guard({**KEYS, "root": {**ADMIN, "expires": "2000-01-01T00:00:00Z"}})
        assert not any(passes(judge, path="/api/models", X_Api_Key=secret) for secret in (SECRET, "lp-admin"))

    @pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/chat/completions", "/upstream/api/x"])
    def test_models_are_for_every_key(self, path: str) -> None:
        assert passes(guard({**KEYS, "root": ADMIN}, host="0.0.0.0"), path=path, X_Api_Key=SECRET)


class TestCookie:
    """Whose page a browser asks for, it says; a cookie goes with every request, whoever made it."""

    def judge(self) -> tuple[Guard, str]:
        sessions = Sessions()
        config = Config.model_validate({"keys": KEYS})
        return Guard(config, sessions=sessions), f"{COOKIE}={sessions.begin(KEYS['alice']['sha256'])}"

    @pytest.mark.parametrize(
        ("method", "said"),
        [
            ("GET", {"Sec_Fetch_Site": "same-origin"}),
            ("POST", {"Sec_Fetch_Site": "same-origin", "Origin": "http://localhost:8080"}),
            ("GET", {"Sec_Fetch_Site": "none"}),
            ("GET", {}),
            ("POST", {"Origin": "http://localhost:8080"}),
            ("GET", {"Origin": "http://localhost:8080", "Upgrade": "websocket"}),
        ],
    )
    def test_own_pages(self, method: str, said: dict[str, str]) -> None:
        guard, cookie = self.judge()
        for path in ("/api/models", "/llamaproxws", "/v1/chat/completions"):
            assert passes(guard, method, path, Cookie=cookie, **said)
            assert not passes(guard, method, path, Cookie=f"{COOKIE}={'x' * 43}", **said)

    @pytest.mark.parametrize(
        ("method", "said"),
        [
            *(
                (method, {"Sec_Fetch_Site": site})
                for method in ("GET", "POST")
                for site in ("same-site", "cross-site", "x")
            ),
            ("POST", {"Sec_Fetch_Site": "none"}),
            ("POST", {}),
            ("GET", {"Upgrade": "websocket"}),
            ("GET", {"Sec_Fetch_Site": "none", "Upgrade": "websocket"}),
            ("GET", {"Origin": "http://localhost:3000"}),
            ("POST", {"Origin": "http://localhost:3000"}),
            ("POST", {"Origin": "null"}),
        ],
    )
    def test_all_others(self, method: str, said: dict[str, str]) -> None:
        guard, cookie = self.judge()
        for path in ("/api/models", "/llamaproxws", "/v1/chat/completions"):
            assert not passes(guard, method, path, Cookie=cookie, **said)

    @pytest.mark.parametrize("path", ["/metrics", "/models/load", "/upstream/m/v1/models", "/completion", "/apix"])
    def test_opens_nothing_else(self, path: str) -> None:
        guard, cookie = self.judge()
        assert not passes(guard, "GET", path, Cookie=cookie, Sec_Fetch_Site="same-origin")

    def test_key_that_is_shown_counts_and_no_other(self) -> None:
        guard, cookie = self.judge()
        assert not passes(guard, Cookie=cookie, Sec_Fetch_Site="same-origin", x_api_key="wrong")

    def test_signing_in_needs_no_key(self) -> None:
        guard, _ = self.judge()
        assert passes(guard, "POST", "/api/session")
        assert not passes(guard, "POST", "/api/session", Origin="http://evil.com")
        assert not passes(guard, "POST", "/api/session/")
