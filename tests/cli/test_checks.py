"""llamaproxy.cli.checks: what is wrong is found, and said with what to do about it."""

import os
import socket
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.cli import checks
from llamaproxy.cli.checks import Finding, Level
from llamaproxy.config import Config
from tests.gateway import EMPTY_GGUF


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def engine(tmp_path: Path, script: str) -> str:
    path = tmp_path / "llama-server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    assert (finding.remedy is None) == (finding.level is Level.OK), "what is wrong can be put right"
    return finding


class TestEngine:
    def test_its_version(self, tmp_path: Path) -> None:
        binary = engine(tmp_path, "echo; echo 'version: 11434 (abc)' >&2; echo built with GNU >&2")
        finding = only(checks.engine_found(config(engine={"binary": binary})))
        assert (finding.level, finding.message) == (Level.OK, f"llama-server, 11434 (abc), {binary}")

    def test_one_that_does_not_work(self, tmp_path: Path) -> None:
        binary = engine(tmp_path, "echo llama; echo no libcuda >&2; exit 127")
        finding = only(checks.engine_found(config(engine={"binary": binary})))
        assert (finding.level, finding.message) == (
            Level.BROKEN,
            f"{binary} does not tell its version: no libcuda",
        )

    def test_none_where_models_need_one(self) -> None:
        finding = only(checks.engine_found(config(engine={"binary": "/no/such"}, models={"a": {"path": "/a"}})))
        assert (finding.level, "install" in str(finding.remedy)) == (Level.BROKEN, True)

    def test_none_where_nobody_needs_one(self) -> None:
        settings = config(engine={"binary": "/no/such"}, models={"a": {"url": "http://a"}})
        assert only(checks.engine_found(settings)).level is Level.WARNING


class TestModels:
    def test_files_and_programs(self, tmp_path: Path) -> None:
        good, cut = tmp_path / "good.gguf", tmp_path / "cut.gguf"
        good.write_bytes(EMPTY_GGUF)
        cut.write_bytes(b"nothing of the kind")
        found = checks.models(
            config(
                models={
                    "good": {"path": str(good)},
                    "gone": {"path": str(tmp_path / "gone.gguf")},
                    "junk": {"path": str(cut)},
                    "server": {"command": ["sh", "${port}"]},
                    "nobody": {"command": ["no-such-program", "${port}"]},
                    "far": {"url": "http://far"},
                }
            )
        )
        levels = {finding.message.partition(":")[0]: finding.level.value for finding in found}
        bad = dict.fromkeys(("gone", "junk", "nobody"), "broken")
        assert levels == {"good": "ok", "server": "ok", "far": "ok", **bad}

    def test_a_directory_of_models(self, tmp_path: Path) -> None:
        (tmp_path / "good.gguf").write_bytes(EMPTY_GGUF)
        (tmp_path / "junk.gguf").write_bytes(b"junk")
        found = list(checks.models(config(catalog={"models_dir": str(tmp_path)})))
        assert found[0].level is Level.OK
        assert [finding.level for finding in found if "junk.gguf" in finding.message] == [Level.WARNING]

    def test_a_download_that_is_not_finished(self, tmp_path: Path) -> None:
        part = tmp_path / ".pulling" / "qwen" / "0123.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(bytes(2048))
        *_, finding = checks.models(config(catalog={"models_dir": str(tmp_path)}))
        assert finding.level is Level.OK
        assert "qwen: 2 KiB of a download, the last of it 0.0 days ago" in finding.message.replace("2.0", "2")


class TestPorts:
    def test_one_that_is_free_and_one_that_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            settings = config(server={"port": taken.getsockname()[1]})
            assert only(checks.ports(settings, lambda: False)).level is Level.BROKEN
            assert only(checks.ports(settings, lambda: True)).level is Level.OK
        assert only(checks.ports(settings, lambda: False)).level is Level.OK

    def test_further_listeners_are_looked_at(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            settings = config(server={"port": 0, "ollama_port": taken.getsockname()[1]})
            _, found = checks.ports(settings, lambda: False)
        assert found.level is Level.BROKEN
        assert found.message.startswith("server.ollama_port: ")

    def test_an_address_of_another_machine(self) -> None:
        assert only(checks.ports(config(server={"host": "192.0.2.1"}), lambda: False)).level is Level.BROKEN


class TestDatabase:
    def test_a_good_one_and_a_damaged_one(self, tmp_path: Path) -> None:
        path = tmp_path / "d.db"
        settings = config(telemetry={"database": str(path)})
        assert "will be made" in only(checks.database(settings)).message
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table t (a)")
            connection.commit()
        assert "intact" in only(checks.database(settings)).message
        path.write_bytes(b"SQLite format 3\0" + b"junk" * 1000)
        assert only(checks.database(settings)).level is Level.BROKEN

    def test_off(self) -> None:
        assert only(checks.database(config(telemetry={"database": "off"}))).level is Level.OK

    def test_a_place_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        settings = config(telemetry={"database": str(tmp_path / "file" / "d.db")})
        assert only(checks.database(settings)).level is Level.BROKEN


class TestFolders:
    @pytest.fixture(autouse=True)
    def own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
        monkeypatch.setenv("RUNTIME_DIRECTORY", "")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def test_good_ones(self) -> None:
        assert {finding.level for finding in checks.folders(config(), None)} == {Level.OK}

    def test_a_state_folder_for_everybody(self, tmp_path: Path) -> None:
        (tmp_path / "state").mkdir()
        (tmp_path / "state").chmod(0o777)
        state, _ = checks.folders(config(), None)
        assert (state.level, state.remedy) == (Level.BROKEN, f"chmod 700 {tmp_path / 'state'}")

    def test_a_file_of_keys_that_others_can_read(self, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        file.touch(mode=0o644)
        settings = config(keys={"alice": {"sha256": "0" * 64}})
        first, *_ = checks.folders(settings, file)
        assert (first.level, first.remedy) == (Level.WARNING, f"chmod 600 {file}")
        file.chmod(0o600)
        assert len(list(checks.folders(settings, file))) == 2


def test_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="descriptors are counted on POSIX only")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 65536))
    finding = only(checks.descriptors())
    assert (finding.level, "ulimit -n 65536" in str(finding.remedy)) == (Level.WARNING, True)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1024))
    assert "ulimit -n" not in str(only(checks.descriptors()).remedy)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (65536, 65536))
    assert only(checks.descriptors()).level is Level.OK


def test_gpus_are_missed_only_where_they_are_wanted() -> None:
    missed = only(checks.gpus(config(limits={"vram_budgets": ["8GiB"]}))).level
    assert missed is (Level.WARNING if "none" in only(checks.gpus(config())).message else Level.OK)


def test_clock(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    settings = config(telemetry={"database": str(path)})
    assert only(checks.clock(settings)).level is Level.OK
    assert only(checks.clock(settings, now=0.0)).level is Level.BROKEN
    path.touch()
    os.utime(path, (4e9, 4e9))
    assert only(checks.clock(settings)).level is Level.WARNING
