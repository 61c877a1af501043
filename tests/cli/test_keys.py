"""llamaproxy.cli.keys: a key that nobody can guess, the lines that configure it, and what a gateway is asked."""

import base64
import hashlib
import http.server
import json
import threading
import tomllib
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from llamaproxy import cli
from llamaproxy.cli import client
from llamaproxy.config import Config

KEY = {
    **{"name": "bob", "source": "stored", "models": ["m", "n"], "rpm": 5, "tpm": None, "concurrency": None},
    **{"priority": 0, "expires": None, "admin": True, "created_at": "2026-01-01T00:00:00Z"},
}
SUMS = {"requests": 3, "ok": 2, "rejected": 1, "prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 20}


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers as a gateway would, and remembers what it was asked."""

    asked: ClassVar[list[tuple[str, str, Any]]] = []
    answers: ClassVar[dict[str, tuple[int, Any]]] = {}

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.asked.append((self.command, self.path, body))
        status, content = self.answers[self.command]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gateway answers, unless a test has one."""
    monkeypatch.setenv(client.URL_VARIABLE, "http://127.0.0.1:9")


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Gateway]]:
    kind = type("Fresh", (Gateway,), {"asked": [], "answers": {}})
    with http.server.HTTPServer(("127.0.0.1", 0), kind) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        monkeypatch.setenv(client.URL_VARIABLE, f"http://127.0.0.1:{httpd.server_port}")
        yield kind
        httpd.shutdown()
        thread.join()


def create(name: str, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[str, str]:
    """The key and the configuration for it."""
    assert cli.main(["keys", "create", name, *flags]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    return out.strip(), err


class TestLines:
    """Where no gateway runs, or none is to be asked."""

    @pytest.mark.parametrize("name", ["alice", "ci-bot_2", "team.web", "me@example.com", "org/app:1"])
    def test_they_configure_the_key(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        secret, lines = create(name, capsys)
        keys = Config.model_validate(tomllib.loads(lines)).keys
        assert list(keys) == [name]
        assert keys[name].sha256 == hashlib.sha256(secret.encode()).hexdigest()

    def test_with_all_its_rules(self, capsys: pytest.CaptureFixture[str]) -> None:
        flags = "--models a,org/b --rpm 1 --tpm 2 --concurrency 3 --priority 4 --expires 2999-01-01T00:00:00Z --admin"
        _, lines = create("alice", capsys, *flags.split(), "--offline")
        key = Config.model_validate(tomllib.loads(lines)).keys["alice"]
        assert (key.models, key.rpm, key.tpm, key.concurrency, key.priority) == (("a", "org/b"), 1, 2, 3, 4)
        assert key.admin
        assert key.expires
        assert key.expires.isoformat() == "2999-01-01T00:00:00+00:00"

    def test_an_expiry_from_now(self, capsys: pytest.CaptureFixture[str]) -> None:
        _, lines = create("alice", capsys, "--expires", "30d")
        assert Config.model_validate(tomllib.loads(lines)).keys["alice"].expires

    def test_a_key_has_160_random_bits(self, capsys: pytest.CaptureFixture[str]) -> None:
        made = {create("alice", capsys, "--offline")[0] for _ in range(20)}
        assert len(made) == 20
        for secret in made:
            prefix, _, random = secret.partition("-")
            assert prefix == "lp"
            assert len(base64.b32decode(random.upper())) == 20

    def test_the_key_itself_is_not_in_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        secret, lines = create("alice", capsys)
        assert secret not in lines

    def test_they_say_that_no_gateway_answers(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "no gateway answers" in create("alice", capsys)[1]
        assert "no gateway answers" not in create("alice", capsys, "--offline")[1]


@pytest.mark.parametrize("name", ["", "a b", 'a"]\n[server', "-a", "a/../b", "\x1b[31m", "x" * 129], ids=ascii)
def test_a_name_that_configuration_would_refuse_makes_no_key(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "create", "--", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.strip().isprintable()


@pytest.mark.parametrize("flags", [["--rpm", "0"], ["--expires", "soon"], ["--models", "a b"], ["--tpm", "-1"]])
def test_rules_that_configuration_would_refuse_make_no_key(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["keys", "create", "alice", "--offline", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert flags[0].removeprefix("--") in err


class TestRunningGateway:
    def test_it_makes_the_key(self, gateway: type[Gateway], capsys: pytest.CaptureFixture[str]) -> None:
        gateway.answers["POST"] = (201, {"key": "lp-made-there", "name": "bob"})
        assert create("bob", capsys, "--rpm", "5", "--models", "m, n", "--expires", "30d")[0] == "lp-made-there"
        wanted = {"name": "bob", "rpm": 5, "models": ["m", "n"], "expires": "30d"}
        assert gateway.asked == [("POST", "/api/keys", wanted)]

    def test_offline_asks_nobody(self, gateway: type[Gateway], capsys: pytest.CaptureFixture[str]) -> None:
        create("bob", capsys, "--offline")
        assert gateway.asked == []

    def test_its_refusal_is_told_and_makes_no_key(
        self, gateway: type[Gateway], capsys: pytest.CaptureFixture[str]
    ) -> None:
        gateway.answers["POST"] = (403, {"error": {"message": "needs an admin", "code": "forbidden"}})
        assert cli.main(["keys", "create", "bob"]) == 6
        out, err = capsys.readouterr()
        assert (out, err.splitlines()[0]) == ("", "llamaproxy: needs an admin")
        assert "LLAMAPROXY_API_KEY" in err

    @pytest.mark.parametrize(("verb", "field"), [("list", "keys"), ("usage", "usage")])
    def test_for_programs(
        self, verb: str, field: str, gateway: type[Gateway], capsys: pytest.CaptureFixture[str]
    ) -> None:
        gateway.answers["GET"] = (200, {field: []})
        assert cli.main(["keys", verb, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"schema_version": 1, field: []}

    def test_list(self, gateway: type[Gateway], capsys: pytest.CaptureFixture[str]) -> None:
        gateway.answers["GET"] = (200, {"keys": [KEY]})
        assert cli.main(["keys", "list"]) == 0
        head, row = capsys.readouterr().out.splitlines()
        assert head.split() == "name source models rpm tpm concurrency priority expires admin".split()
        assert row.split() == ["bob", "stored", "m,n", "5", "-", "-", "0", "-", "yes"]

    def test_revoke(self, gateway: type[Gateway], capsys: pytest.CaptureFixture[str]) -> None:
        gateway.answers["DELETE"] = (200, {"success": True})
        assert cli.main(["keys", "revoke", "team/a b?"]) == 0
        assert gateway.asked == [("DELETE", "/api/keys/team%2Fa%20b%3F", None)]

    def test_usage(self, gateway: type[Gateway], capsys: pytest.CaptureFixture[str]) -> None:
        gateway.answers["GET"] = (200, {"usage": [{"key": None, **SUMS}, {"key": "bob", **SUMS}]})
        assert cli.main(["keys", "usage"]) == 0
        assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
            ["key", *SUMS],
            ["-", "3", "2", "1", "10", "4", "20"],
            ["bob", "3", "2", "1", "10", "4", "20"],
        ]


@pytest.mark.parametrize("verb", [["list"], ["revoke", "bob"], ["usage"]])
def test_without_a_gateway_there_is_nothing_to_say(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", *verb]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "no gateway answers" in err
