"""Finding the gateway, and what is said when it does not answer."""

import argparse
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaproxy import document
from llamaproxy.cli import client
from llamaproxy.cli.client import NoAnswer, Refused, TooLate, address, post
from llamaproxy.config import ServerConfig
from llamaproxy.errors import ConfigError


def arguments(url: str | None = None, config: Path | None = None) -> argparse.Namespace:
    return argparse.Namespace(url=url, config=config)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(client.URL_VARIABLE, raising=False)
    for variable in (client.KEY_VARIABLE, f"{client.KEY_VARIABLE}_FILE"):
        monkeypatch.delenv(variable, raising=False)


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers as it is told, and remembers what it was asked."""

    status = 200
    answer = b"{}"
    asked: dict[str, Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked = {"path": self.path, "body": body, "headers": dict(self.headers)}
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Answers]]]:
    kind = type("Answers", (Answers,), {})
    with http.server.HTTPServer(("127.0.0.1", 0), kind) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", kind
        httpd.shutdown()
        thread.join()


class TestAddress:
    def test_flag_then_variable_then_configuration(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        file.write_text("[server]\nport = 1234\n")
        assert address(arguments(config=file)) == "http://127.0.0.1:1234"
        monkeypatch.setenv(client.URL_VARIABLE, "https://box:8443/llm/")
        assert address(arguments(config=file)) == "https://box:8443/llm"
        assert address(arguments("http://other", file)) == "http://other"

    @pytest.mark.parametrize(
        ("host", "url"),
        [("0.0.0.0", "http://127.0.0.1:8080"), ("::", "http://[::1]:8080"), ("box", "http://box:8080")],
    )
    def test_address_to_listen_on_is_made_one_to_connect_to(self, tmp_path: Path, host: str, url: str) -> None:
        file = tmp_path / "c.toml"
        file.write_text(f'[server]\nhost = "{host}"\n')
        assert address(arguments(config=file)) == url

    def test_without_a_file_it_is_the_default(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(document, "user_file", lambda: tmp_path / "none.toml")
        monkeypatch.chdir(tmp_path)
        defaults = ServerConfig()
        assert address(arguments()) == f"http://{defaults.host}:{defaults.port}"
        monkeypatch.setenv("LLAMAPROXY_SERVER__PORT", "9000")
        monkeypatch.setenv("LLAMAPROXY_SERVER__HOST", "::")
        assert address(arguments()) == "http://[::1]:9000"

    @pytest.mark.parametrize(
        "text", ["[server]\nport = 0", "[server]\nport = true", "[server]\nhost = 1", "server = 1"]
    )
    def test_an_address_that_the_file_does_not_tell(self, text: str, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"^server\."):
            address(arguments(config=file))

    def test_broken_configuration_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError):
            address(arguments(config=tmp_path / "none.toml"))


class TestPost:
    def test_key_of_the_environment_is_shown(
        self, server: tuple[str, type[Answers]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url, answers = server
        answers.answer = b'{"success": true}'
        monkeypatch.setenv(client.KEY_VARIABLE, "lp-secret")
        assert post(arguments(url), "/api/reload", {"a": 1}, 5) == {"success": True}
        assert (answers.asked["path"], answers.asked["body"]) == ("/api/reload", b'{"a": 1}')
        assert answers.asked["headers"]["Authorization"] == "Bearer lp-secret"
        assert answers.asked["headers"]["Content-Type"] == "application/json"

    def test_key_may_stand_in_a_file(
        self, server: tuple[str, type[Answers]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        url, answers = server
        (file := tmp_path / "key").write_text("lp-secret\n")
        monkeypatch.setenv(f"{client.KEY_VARIABLE}_FILE", str(file))
        post(arguments(url), "/", {}, 5)
        assert answers.asked["headers"]["Authorization"] == "Bearer lp-secret"

    @pytest.mark.parametrize("key", ["lp-a\nlp-b", "lp a", "lp-ä", "lp-\x7f"])
    def test_what_no_header_can_hold_is_not_sent_and_not_told(self, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(client.KEY_VARIABLE, key)
        with pytest.raises(ConfigError, match="printable ASCII") as caught:
            post(arguments("http://127.0.0.1:9"), "/", {}, 5)
        assert key not in str(caught.value)

    def test_refusal_has_the_words_of_the_gateway(self, server: tuple[str, type[Answers]]) -> None:
        url, answers = server
        answers.status, answers.answer = 401, b'{"error": {"message": "a key is needed", "code": "invalid_api_key"}}'
        with pytest.raises(Refused, match="a key is needed") as caught:
            post(arguments(url), "/", {}, 5)
        assert (caught.value.code, caught.value.exit_code) == ("invalid_api_key", 6)

    @pytest.mark.parametrize(
        ("status", "code", "exit_code"),
        [
            *((400, "x", 2), (401, "x", 6), (403, "x", 6), (404, "x", 4), (408, "x", 7), (409, "x", 5), (504, "x", 7)),
            *((422, "invalid_configuration", 78), (422, "x", 1), (500, "x", 1), (302, "x", 1)),
        ],
    )
    def test_refusals_have_their_exit_codes(
        self, status: int, code: str, exit_code: int, server: tuple[str, type[Answers]]
    ) -> None:
        url, answers = server
        answers.status, answers.answer = status, b'{"error": {"message": "no", "code": "%b"}}' % code.encode()
        with pytest.raises(Refused) as caught:
            post(arguments(url), "/", {}, 5)
        assert caught.value.exit_code == exit_code

    def test_refusal_of_something_else(self, server: tuple[str, type[Answers]]) -> None:
        url, answers = server
        answers.status, answers.answer = 502, b"<html>"
        with pytest.raises(Refused, match="502"):
            post(arguments(url), "/", {}, 5)

    def test_answer_that_is_none(self, server: tuple[str, type[Answers]]) -> None:
        url, answers = server
        answers.answer = b"<html>"
        with pytest.raises(NoAnswer):
            post(arguments(url), "/", {}, 5)

    def test_nobody_is_there(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(NoAnswer, match="llamaproxy serve"):
                post(arguments(f"http://127.0.0.1:{unused.getsockname()[1]}"), "/", {}, 5)

    def test_somebody_who_says_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(TooLate, match="did not answer") as caught:
            post(arguments(f"http://127.0.0.1:{mute.getsockname()[1]}"), "/", {}, 0.05)
        assert caught.value.exit_code == 7

    def test_no_proxy_of_the_environment_comes_between(
        self, server: tuple[str, type[Answers]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert post(arguments(server[0]), "/", {}, 5) == {}

    @pytest.mark.parametrize(
        "url", ["box", "http://", "http://box:port", "ftp://box", "http://box:99999", "http://[::1"]
    )
    def test_address_that_is_none(self, url: str) -> None:
        with pytest.raises(Refused, match="an address looks like") as caught:
            post(arguments(url), "/", {}, 5)
        assert caught.value.exit_code == 2
