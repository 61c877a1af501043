"""llamaproxy.server.modelroutes: models made, changed and removed over HTTP, on the whole gateway."""

import asyncio
import threading
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from llamaproxy import statefile
from llamaproxy.config import Config
from llamaproxy.server import modelfiles, modelroutes
from llamaproxy.server.loaded import Changes, load
from llamaproxy.tasks import spawn
from tests.gateway import PATIENCE, chat_body
from tests.models.ggufs import write
from tests.server.conftest import Serve

Begin = Callable[..., Awaitable[TestClient[Any, Any]]]
CHAT = "/v1/chat/completions"


@pytest.fixture
def begin(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """A gateway with a directory of models, where `found` lies, and a model of the file, `own`."""
    (tmp_path / "models").mkdir()
    write(tmp_path / "models" / "found.gguf")
    write(tmp_path / "own.gguf")
    monkeypatch.setenv("FAKE_STATE", str(tmp_path))

    async def beginning(**sections: Any) -> TestClient[Any, Any]:
        sections.setdefault("models", {"own": {"path": str(tmp_path / "own.gguf"), "ttl": "5m"}})
        sections["catalog"] = {"models_dir": str(tmp_path / "models"), **sections.get("catalog", {})}
        return await serve(tmp_path / "llamaproxy.toml", **sections)

    return beginning


def edits(tmp_path: Path) -> dict[str, Any]:
    return tomllib.loads((tmp_path / "state" / "llamaproxy" / "edits.toml").read_text())


async def told(client: TestClient[Any, Any], method: str, path: str, body: Any = None) -> tuple[int, Any]:
    response = await client.request(method, path, json={} if body is None else body)
    return response.status, await response.json()


async def names(client: TestClient[Any, Any]) -> list[str]:
    return [model["name"] for model in (await told(client, "GET", "/api/models"))[1]["models"]]


def spied(monkeypatch: pytest.MonkeyPatch, note: Callable[[Path], Any]) -> list[Any]:
    """What is noted of each path that is made absolute."""
    notes: list[Any] = []
    absolute = Path.absolute

    def noting(path: Path) -> Path:
        notes.append(note(path))
        return absolute(path)

    monkeypatch.setattr(Path, "absolute", noting)
    return notes


class TestMaking:
    async def test_it_answers_requests_and_is_there_after_a_restart(self, begin: Begin, tmp_path: Path) -> None:
        client = await begin()
        body = {"name": "org/new", "file": "found.gguf", "aliases": ["n"], "ctx_size": 64, "ttl": "2m", "pinned": True}
        status, made = await told(client, "POST", "/api/models", body)
        assert (status, made["source"], made["path"]) == (201, "configured", str(tmp_path / "models" / "found.gguf"))
        assert (made["config"]["ctx_size"], made["config"]["ttl"], made["pinned"]) == (64, 120, True)
        assert (made["origins"]["ctx_size"], made["origins"]["path"]) == ("edited", "edited")
        assert (made["editable"]["ctx_size"], made["editable"]["path"], made["editable"]["args"]) == (
            True,
            False,
            False,
        )
        assert (await told(client, "POST", CHAT, chat_body("n")))[0] == 200
        assert "org/new" in await names(await begin()), "another gateway with the same state"

    async def test_a_projector_beside_it_is_taken_over(self, begin: Begin, tmp_path: Path) -> None:
        write(tmp_path / "models" / "vision" / "model.gguf")
        write(tmp_path / "models" / "vision" / "mmproj.gguf", "clip")
        client = await begin()
        status, made = await told(client, "POST", "/api/models", {"name": "eyes", "file": "vision/model.gguf"})
        assert (status, made["config"]["mmproj"]) == (201, str(tmp_path / "models" / "vision" / "mmproj.gguf"))

    @pytest.mark.parametrize(
        "name",
        ["../x", "a/../b", "/etc", "", "a b", "a\0b", "a\nb", "x" * 200, "a/", "\u202eb", "<script>", "-rf", 5, None],
        ids=repr,
    )
    async def test_names_that_are_none(self, begin: Begin, name: Any) -> None:
        client = await begin()
        status, answer = await told(client, "POST", "/api/models", {"name": name, "file": "found.gguf"})
        assert (status, answer["error"]["param"]) == (400, "name")

    @pytest.mark.parametrize(
        "file",
        [
            *("../own.gguf", "/etc/passwd", "a/../../own.gguf", "link.gguf", "links/own.gguf", "circle.gguf"),
            *("none.gguf", "folder.gguf", "junk.gguf", "note.txt", "a\0.gguf", "a\n.gguf", "x" * 500, "", "."),
        ],
        ids=repr,
    )
    async def test_files_that_are_refused(self, begin: Begin, tmp_path: Path, file: str) -> None:
        root = tmp_path / "models"
        (root / "link.gguf").symlink_to(tmp_path / "own.gguf")
        (root / "links").symlink_to(tmp_path)
        (root / "circle.gguf").symlink_to(root / "circle.gguf")
        (root / "folder.gguf").mkdir()
        (root / "junk.gguf").write_bytes(b"junk")
        (root / "note.txt").write_text("x")
        client = await begin()
        status, answer = await told(client, "POST", "/api/models", {"name": "new", "file": file})
        assert (status, answer["error"]["param"]) == (400, "file")
        assert "new" not in await names(client)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"file": "found.gguf", "command": ["sh"]}, 400),
            ({"file": "found.gguf", "args": ["--rpc", "evil"]}, 400),
            ({"file": "found.gguf", "env": {"LD_PRELOAD": "x"}}, 400),
            ({"file": "found.gguf", "url": "http://evil.test"}, 400),
            ({"path": "/etc/passwd"}, 400),
            ({"file": "found.gguf", "mmproj": "/etc/passwd"}, 400),
            ({"file": "found.gguf", "ctx_size": True}, 400),
            ({"file": "found.gguf", "ctx_size": -1}, 400),
            ({"file": "found.gguf", "bundled": True}, 400),
            ({}, 400),
            ({"file": "found.gguf", "aliases": ["own"]}, 409),
            ({"file": "found.gguf", "aliases": ["found"]}, 409),
            ({"file": "found.gguf", "aliases": ["a", "a"]}, 422),
        ],
        ids=str,
    )
    async def test_bodies_that_are_refused(self, begin: Begin, tmp_path: Path, body: Any, status: int) -> None:
        client = await begin()
        assert (await told(client, "POST", "/api/models", {"name": "new", **body}))[0] == status
        assert "new" not in await names(client)
        assert not (tmp_path / "state" / "llamaproxy" / "edits.toml").exists(), "nothing is written"

    async def test_names_that_are_taken(self, begin: Begin) -> None:
        client = await begin()
        for name in ("own", "found"):
            status, answer = await told(client, "POST", "/api/models", {"name": name, "file": "found.gguf"})
            assert (status, answer["error"]["code"]) == (409, "conflict")

    async def test_many_at_once_are_all_there(self, begin: Begin) -> None:
        client = await begin()
        bodies = [{"name": f"n{number}", "file": "found.gguf"} for number in range(20)]
        made = await asyncio.gather(*(told(client, "POST", "/api/models", body) for body in bodies))
        assert {status for status, _ in made} == {201}
        assert {f"n{number}" for number in range(20)} <= set(await names(client))

    async def test_a_page_of_another_origin_makes_none(self, begin: Begin) -> None:
        client = await begin()
        body = {"name": "new", "file": "found.gguf"}
        response = await client.post("/api/models", json=body, headers={"Origin": "https://evil.test"})
        assert response.status == 403
        assert (await client.post("/api/models", data=body)).status == 415


class TestChanging:
    async def test_of_every_kind(self, begin: Begin) -> None:
        client = await begin()
        await told(client, "POST", "/api/models", {"name": "new", "file": "found.gguf", "ctx_size": 64})
        for name, source in (("own", "configured"), ("found", "scanned"), ("new", "configured")):
            status, changed = await told(client, "PATCH", f"/api/models/{name}", {"ttl": "1m", "priority": 3})
            assert (status, changed["source"], changed["config"]["ttl"]) == (200, source, 60)
            assert changed["origins"]["ttl"] == "edited"
        assert (await told(client, "GET", "/api/models/new"))[1]["config"]["ctx_size"] == 64

    async def test_null_takes_one_back_and_put_all_that_are_not_named(self, begin: Begin, tmp_path: Path) -> None:
        client = await begin()
        await told(client, "PATCH", "/api/models/own", {"ttl": "1m", "priority": 3, "description": "mine"})
        _, changed = await told(client, "PATCH", "/api/models/own", {"ttl": None})
        assert (changed["config"]["ttl"], changed["origins"]["ttl"]) == (300, "file")
        assert changed["config"]["priority"] == 3
        _, changed = await told(client, "PUT", "/api/models/own", {"description": "yours"})
        assert edits(tmp_path) == {"models": {"own": {"description": "yours"}}}
        assert (changed["config"]["priority"], changed["description"]) == (0, "yours")

    async def test_of_two_at_once_none_is_lost(self, begin: Begin) -> None:
        client = await begin()
        bodies = ({"ttl": 7}, {"priority": 5}, {"description": "x"}, {"ctx_size": 64})
        await asyncio.gather(*(told(client, "PATCH", "/api/models/found", body) for body in bodies))
        config = (await told(client, "GET", "/api/models/found"))[1]["config"]
        assert (config["ttl"], config["priority"], config["description"], config["ctx_size"]) == (7, 5, "x", 64)

    async def test_only_what_is_another_process_is_replaced(self, begin: Begin) -> None:
        client = await begin()
        for name in ("own", "found"):
            assert (await told(client, "POST", CHAT, chat_body(name)))[0] == 200
        await told(client, "PATCH", "/api/models/own", {"ctx_size": 64})
        await told(client, "PATCH", "/api/models/found", {"ttl": 9})
        assert (await told(client, "POST", CHAT, chat_body("own")))[0] == 200
        shown = {name: (await told(client, "GET", f"/api/models/{name}"))[1] for name in ("own", "found")}
        assert {name: model["starts"] for name, model in shown.items()} == {"own": 2, "found": 1}

    async def test_what_somebody_stronger_says(self, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_MODELS__OWN__TTL", "3m")
        client = await begin()
        status, answer = await told(client, "PATCH", "/api/models/own", {"ttl": 1, "priority": 4})
        assert status == 409
        assert "LLAMAPROXY_MODELS__OWN__TTL" in answer["error"]["message"]
        shown = (await told(client, "GET", "/api/models/own"))[1]
        assert (shown["editable"]["ttl"], shown["config"]["priority"]) == (False, 0)

    async def test_whoever_is_not_there_or_goes_by_another_name(self, begin: Begin) -> None:
        client = await begin()
        await told(client, "PATCH", "/api/models/own", {"aliases": ["other"]})
        for name in ("nobody", "other", "..%2Fx", "a%00b"):
            for method in ("PATCH", "PUT", "DELETE"):
                assert (await told(client, method, f"/api/models/{name}"))[0] == 404, name
        assert (await told(client, "PATCH", "/api/models/found", {"aliases": ["own"]}))[0] == 409


class TestDeleting:
    async def test_one_that_was_made_is_gone_and_its_file_stays(self, begin: Begin, tmp_path: Path) -> None:
        client = await begin()
        await told(client, "POST", "/api/models", {"name": "new", "file": "found.gguf"})
        assert await told(client, "DELETE", "/api/models/new") == (
            200,
            {"success": True, "removed": True, "files": []},
        )
        assert (tmp_path / "models" / "found.gguf").exists()
        assert await names(client) == ["own", "found"]

    async def test_of_others_the_edits_are_taken_back(self, begin: Begin) -> None:
        client = await begin()
        for name, word in (("own", "configuration"), ("found", "models_dir")):
            await told(client, "PATCH", f"/api/models/{name}", {"priority": 3})
            _, answer = await told(client, "DELETE", f"/api/models/{name}")
            assert answer["removed"] is False
            assert (await told(client, "GET", f"/api/models/{name}"))[1]["config"]["priority"] == 0
            status, answer = await told(client, "DELETE", f"/api/models/{name}")
            assert (status, word in answer["error"]["message"]) == (409, True)

    async def test_its_file_goes_where_that_is_asked_for(self, begin: Begin, tmp_path: Path) -> None:
        write(tmp_path / "models" / "deep" / "model.gguf")
        client = await begin()
        await told(client, "POST", "/api/models", {"name": "new", "file": "deep/model.gguf"})
        status, answer = await told(client, "DELETE", "/api/models/new?file=true")
        assert (status, answer["files"]) == (200, ["model.gguf"])
        assert not (tmp_path / "models" / "deep").exists()
        assert await names(client) == ["own", "found"], "nor is there what a scan made of it"
        assert (await told(client, "DELETE", "/api/models/found?file=true"))[1]["removed"] is True
        assert await names(client) == ["own"]

    async def test_files_that_are_not_deleted(self, begin: Begin, tmp_path: Path) -> None:
        (tmp_path / "models" / "link.gguf").symlink_to(tmp_path / "own.gguf")
        client = await begin()
        await told(client, "POST", "/api/models", {"name": "one", "file": "found.gguf"})
        await told(client, "POST", "/api/models", {"name": "two", "file": "found.gguf"})
        for name, word in (("own", "configuration"), ("link", "inside"), ("one", "two uses"), ("found", "uses")):
            status, answer = await told(client, "DELETE", f"/api/models/{name}?file=true")
            assert (status, word in answer["error"]["message"]) == (409, True), answer
        assert (tmp_path / "models" / "found.gguf").exists()
        assert (tmp_path / "own.gguf").exists()
        assert (await told(client, "DELETE", "/api/models/one?file=yes"))[0] == 400

    async def test_who_asked_for_it_may_leave(
        self, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = await begin()
        await told(client, "POST", "/api/models", {"name": "new", "file": "found.gguf"})
        written, goes_on = threading.Event(), threading.Event()
        replace = statefile.replace

        def slow(*arguments: Any) -> None:
            replace(*arguments)
            written.set()
            assert goes_on.wait(PATIENCE)

        monkeypatch.setattr(statefile, "replace", slow)
        asked = spawn(client.delete("/api/models/new?file=true"), name="ask")
        assert await asyncio.to_thread(written.wait, PATIENCE)
        asked.cancel()
        await asyncio.sleep(0.1)
        goes_on.set()
        monkeypatch.setattr(statefile, "replace", replace)
        await told(client, "POST", "/api/models/scan")
        assert await names(client) == ["own"], "whoever comes next waits for it"
        assert not (tmp_path / "models" / "found.gguf").exists()

    async def test_a_file_that_another_model_takes_meanwhile_stays(
        self, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = await begin()
        await told(client, "POST", "/api/models", {"name": "new", "file": "found.gguf"})
        begun, goes_on = threading.Event(), threading.Event()
        chosen = modelfiles.chosen

        def slow(file: str, loaded: Any) -> dict[str, str]:
            begun.set()
            assert goes_on.wait(PATIENCE)
            return chosen(file, loaded)

        monkeypatch.setattr(modelfiles, "chosen", slow)
        making = spawn(told(client, "POST", "/api/models", {"name": "other", "file": "found.gguf"}), name="make")
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        deleting = spawn(told(client, "DELETE", "/api/models/new?file=true"), name="delete")
        await asyncio.sleep(0.1)
        goes_on.set()
        assert [(await making)[0], (await deleting)[0]] == [201, 409]
        assert (tmp_path / "models" / "found.gguf").exists()
        assert {"new", "other"} <= set(await names(client))

    async def test_requests_in_flight_are_named_and_end_first(
        self, begin: Begin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = await begin(engine={"env": {"FAKE_TOKEN_SECONDS": "0.02"}})
        await told(client, "POST", "/api/models", {"name": "new", "file": "found.gguf"})
        stream = await client.post(CHAT, json={**chat_body("new"), "stream": True, "max_tokens": 30})
        status, answer = await told(client, "DELETE", "/api/models/new")
        assert (status, "1 request" in answer["error"]["message"]) == (409, True)
        assert (await told(client, "DELETE", "/api/models/new?force=true"))[0] == 200
        assert (await told(client, "POST", CHAT, chat_body("new")))[0] == 404
        assert (await asyncio.wait_for(stream.read(), PATIENCE)).endswith(b"data: [DONE]\n\n")


class TestScanning:
    async def test_what_came_meanwhile_and_what_is_wrong(self, begin: Begin, tmp_path: Path) -> None:
        client = await begin()
        write(tmp_path / "models" / "second.gguf")
        (tmp_path / "models" / "junk.gguf").write_bytes(b"junk")
        status, answer = await told(client, "POST", "/api/models/scan")
        assert (status, answer["added"]) == (200, ["second"])
        assert [(found["name"], found["file"], found["models"]) for found in answer["found"]] == [
            ("found", "found.gguf", ["found"]),
            ("second", "second.gguf", ["second"]),
        ]
        assert [problem["entry"] for problem in answer["problems"]] == ["junk.gguf"]

    def test_of_many_models_every_path_is_made_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [f"n{number}" for number in range(50)]
        for name in names:
            write(tmp_path / f"{name}.gguf")
        models = {f"{name}-too": {"path": str(tmp_path / f"{name}.gguf")} for name in names}
        loaded = load(Config.model_validate({"models": models, "catalog": {"models_dir": str(tmp_path)}}))
        made = spied(monkeypatch, lambda path: path)
        shown = modelroutes.scanned(loaded, str(tmp_path), Changes())
        assert sorted((found.name, *sorted(found.models)) for found in shown.found) == sorted(
            (name, name, f"{name}-too") for name in names
        )
        assert len(made) <= 150

    async def test_it_is_told_beside_the_event_loop(self, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
        client = await begin()
        threads = spied(monkeypatch, lambda path: threading.get_ident())
        assert (await told(client, "POST", "/api/models/scan"))[0] == 200
        assert threads
        assert threading.get_ident() not in threads

    async def test_without_a_directory(self, serve: Serve, tmp_path: Path) -> None:
        client = await serve(tmp_path / "c.toml")
        assert (await told(client, "POST", "/api/models/scan"))[0] == 409
        assert (await told(client, "POST", "/api/models", {"name": "new", "file": "x.gguf"}))[0] == 409

    async def test_a_model_may_have_that_name(self, begin: Begin) -> None:
        client = await begin()
        await told(client, "POST", "/api/models", {"name": "scan", "file": "found.gguf"})
        assert (await told(client, "GET", "/api/models/scan"))[1]["name"] == "scan"
        assert (await told(client, "DELETE", "/api/models/scan"))[0] == 200


async def test_what_was_made_by_hand_cannot_be_edited(serve: Serve) -> None:
    client = await serve()
    assert (await told(client, "PATCH", "/api/models/m", {"ttl": 5}))[0] == 409
