"""llamaproxy.configfile: which file, which value wins, and in which words faults are told."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from llamaproxy import configfile
from llamaproxy.config import Config
from llamaproxy.configfile import Fixed, Source
from llamaproxy.effective import Origin
from llamaproxy.errors import ConfigError
from tests import nowhere
from tests.nowhere import told

Write = Callable[[str], Path]
GOOD_HASH = "0123456789abcdef" * 4
NOTHING = ((None,), None)
"""The signature where no file is."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere.go(tmp_path, monkeypatch)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "test.toml"
        path.write_text(text, "utf-8")
        return path

    return write


class TestPrecedence:
    def test_nothing_said_is_the_default(self) -> None:
        assert configfile.load(None).model_dump() == Config().model_dump()

    def test_flag_over_variable_over_file_over_default(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write('[server]\nhost = "localhost"\nport = 1\n[limits]\nmodels_max = 7')
        assert configfile.load(path).server.port == 1
        monkeypatch.setenv("LLAMAPROXY_SERVER__PORT", "2")
        assert configfile.load(path).server.port == 2
        config = configfile.load(path, {"server": {"port": 3}})
        assert (config.server.port, config.server.host, config.server.max_body) == (3, "localhost", 64 * 1024**2)
        assert config.limits.models_max == 7

    def test_a_model_is_joined_key_by_key(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write('[models.qwen]\npath = "a.gguf"\nttl = "5m"\nenv = { A = "1", B = "2" }')
        monkeypatch.setenv("LLAMAPROXY_MODELS__QWEN__PATH", "b.gguf")
        monkeypatch.setenv("LLAMAPROXY_MODELS__QWEN__ENV__B", "3")
        model = configfile.load(path).models["qwen"]
        assert (model.path, model.ttl, model.env) == ("b.gguf", 300, {"A": "1", "B": "3"})

    def test_an_empty_variable_is_none(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_SERVER__PORT", "")
        assert configfile.load(write("[server]\nport = 1")).server.port == 1
        assert configfile.load(None).server.port == 8080

    def test_flags_are_judged_like_everything_else(self) -> None:
        with pytest.raises(ConfigError, match=r"server\.port: .* not 99999"):
            configfile.load(None, {"server": {"port": 99999}})


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "lines"),
        [
            ("[sever]", ["sever: unknown key, did you mean server?"]),
            ("[SERVER]", ["SERVER: unknown key, did you mean server?"]),
            ("[server]\nprot = 1", ["server.prot: unknown key, did you mean port?"]),
            (
                "[models.m]\nctx_sise = 1",
                ["models.m.ctx_sise: unknown key, did you mean ctx_size?"],
            ),
            ("[models.m]\nctx_size = 1", ["models.m: exactly one of path, command, url must be set"]),
            (
                '[models.m]\nurl = "http://h"\nctx_size = 1\nargs = ["x"]',
                ["models.m: a model with url takes no args, ctx_size"],
            ),
            ('[models.m]\nurl = "http://h"\napi_key = 12345678', ["models.m.api_key: Input should be a valid string"]),
            ("[keys.a]\nsha = 1", ["keys.a.sha256: must be set", "keys.a.sha: unknown key, did you mean sha256?"]),
            ("[catalog]\nxyzzy = 1", ["catalog.xyzzy: unknown key; valid here: models_dir, downloads, bundled"]),
            ("server = 5", ["server: must be a table"]),
            ("[models]\nm = 5", ["models.m: must be a table"]),
            ("models = []", ["models: must be a table"]),
            (
                '[server]\nmax_body = "64 megs"',
                ["server.max_body: '64 megs' is not a size such as 1048576 or \"64MiB\""],
            ),
            (
                '[server]\nbody_timeout = "soon"',
                ['server.body_timeout: \'soon\' is not a duration such as 30, "90s" or "5m"'],
            ),
            ("[server]\nport = -1", ["server.port: Input should be greater than or equal to 0, not -1"]),
            ("[server]\nbody_timeout = nan", ["server.body_timeout: Input should be greater than 0, not nan"]),
            ("[server]\nbody_timeout = inf", ["server.body_timeout: Input should be a finite number, not inf"]),
            ("[server]\nport = true", ["server.port: must not be true"]),
            ("[engine.env]\nA = 5", ["engine.env.A: Input should be a valid string"]),
            (
                '[models.a]\npath = "a"\naliases = ["b"]\n[models.b]\npath = "b"',
                ["models.a.aliases: the name 'b' is already used by models.b"],
            ),
        ],
    )
    def test_one_line_for_each(self, text: str, lines: list[str], write: Write) -> None:
        assert told(write(text)) == lines

    @pytest.mark.parametrize(
        ("text", "line", "what"),
        [
            ("[server\n", 1, "Expected ']'"),
            ("[server]\nport = \n", 2, "Invalid value"),
            ("[server]\nport = 1\nport = 2\n", 3, "Cannot overwrite a value"),
            ("[server]\n[server]\n", 2, "Cannot declare"),
        ],
    )
    def test_bad_toml_is_told_with_its_line(self, text: str, line: int, what: str, write: Write) -> None:
        (fault,) = told(write(text))
        assert fault.startswith("not valid TOML: ")
        assert what in fault
        assert f"at line {line}" in fault

    @pytest.mark.parametrize(
        "text", ["a = " + "[" * 20_000, "[server]\nport = " + "9" * 5000], ids=["a deep list", "an endless number"]
    )
    def test_toml_that_python_cannot_read(self, text: str, write: Write) -> None:
        (fault,) = told(write(text))
        assert fault.startswith("not valid TOML: ")

    def test_an_endless_list_in_a_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_ENGINE__ARGS", "[" * 50_000)
        (fault,) = told(None)
        assert fault.startswith("engine.args: not a JSON list: ")

    def test_a_file_that_went_away_is_not_taken_for_an_empty_one(self, tmp_path: Path) -> None:
        assert told(tmp_path / "gone.toml") == ["cannot be read: No such file or directory"]
        assert told(tmp_path) == ["cannot be read: Is a directory"]

    def test_a_file_that_is_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "latin.toml"
        path.write_bytes(b'[models.m]\npath = "m\xfc.gguf"')
        (fault,) = told(path)
        assert fault.startswith("not UTF-8: ")

    def test_a_byte_order_mark_and_other_line_ends_are_fine(self, tmp_path: Path) -> None:
        path = tmp_path / "windows.toml"
        path.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1\r\n")
        assert configfile.load(path).server.port == 1

    @pytest.mark.parametrize("name", ["a\\r\\nb", "a\\u0000b", "\\u001b[31mred", "a/../../etc/passwd", "x" * 1000])
    def test_a_bad_name_takes_one_short_printable_line(self, name: str, write: Write) -> None:
        (fault,) = told(write(f'[models."{name}"]\npath = "m"'))
        assert re.fullmatch(r"models\.\S+: [^:]*name.*", fault)
        assert "[key]" not in fault
        assert fault.isprintable()
        assert len(fault) < 250

    @pytest.mark.parametrize(
        "text",
        [
            '[keys.a]\nsha256 = "lp-hunter2"',
            '[engine.env]\nHF_TOKEN = ["hunter2"]',
            '[engine]\nenv = "HF_TOKEN=hunter2"',
            '[models.m]\npath = "m"\nenv = { TOKEN = ["hunter2"] }',
        ],
    )
    def test_what_may_be_a_secret_is_not_repeated(self, text: str, write: Write) -> None:
        assert "hunter2" not in "".join(told(write(text)))

    def test_long_values_are_cut(self, write: Write) -> None:
        (fault,) = told(write(f'[server]\nport = "{"x" * 500}"'))
        assert len(fault) < 250


def test_what_was_loaded_does_not_change() -> None:
    config, key = configfile.load(None), "server"
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, key, config.server)


def test_the_tables_are_given_as_a_whole() -> None:
    source = configfile._Tables(BaseSettings, {"server": {}})
    assert source() == {"server": {}}
    with pytest.raises(NotImplementedError):
        source.get_field_value(Config.model_fields["server"], "server")


class TestSource:
    def test_file_is_read_again_under_the_flags(self, write: Write) -> None:
        source = Source(write("[server]\nport = 1\nmax_body = 5\n"), {"server": {"port": 9}})
        assert (source.load().server.port, source.load().server.max_body) == (9, 5)
        write("[server]\nmax_body = 6\n")
        assert (source.load().server.port, source.load().server.max_body) == (9, 6)

    def test_signature_changes_with_the_file(self, write: Write) -> None:
        source = Source(write("[server]\nport = 1\n"))
        first = source.signature()
        assert first == source.signature()
        write("[server]\nport = 12\n")
        assert source.signature() not in (first, NOTHING)

    def test_file_that_was_found_stays_the_one(self) -> None:
        source = Source()
        assert source.load().server.port == 8080
        assert source.path is None
        assert source.signature() == NOTHING
        Path("llamaproxy.toml").write_text("[server]\nport = 1\n")
        assert source.load().server.port == 1
        Path("llamaproxy.toml").unlink()
        assert source.signature() == NOTHING
        with pytest.raises(ConfigError, match="no such configuration file"):
            source.load()

    def test_configuration_made_by_hand_is_always_the_same(self) -> None:
        source = Fixed(config := Config())
        assert source.load() is config
        assert source.signature() == NOTHING


def test_origins_of_the_newest_configuration_that_was_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[server]\nport = 1\nhost = 'localhost'\n[limits]\nmodels_max = 5")
    monkeypatch.setenv("LLAMAPROXY_LIMITS__MODELS_MAX", "3")
    source = Source(file, {"server": {"port": 9000}})
    source.load()
    good = {
        ("server", "port"): Origin.FLAG,
        ("server", "host"): Origin.FILE,
        ("limits", "models_max"): Origin.ENVIRONMENT,
    }
    assert dict(source.origins) == good
    file.write_text("[server]\nprot = 1")
    with pytest.raises(ConfigError):
        source.load()
    assert dict(source.origins) == good


class TestEdits:
    @pytest.fixture
    def edited(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
        monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))

        def write(text: str) -> Path:
            path = tmp_path / "edits.toml"
            path.write_text(text, "utf-8")
            return path

        return write

    def test_they_go_before_the_file_and_after_the_environment(
        self, write: Write, edited: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = Source(write("[limits]\nmodels_max = 3\nqueue_size = 3\nmax_wait = 3"))
        edited("[limits]\nmodels_max = 4\nqueue_size = 4")
        monkeypatch.setenv("LLAMAPROXY_LIMITS__MODELS_MAX", "5")
        limits = source.load().limits
        assert (limits.models_max, limits.queue_size, limits.max_wait) == (5, 4, 3)
        assert source.origins["limits", "queue_size"] is Origin.EDITED
        assert source.origins["limits", "models_max"] is Origin.ENVIRONMENT

    def test_models_are_joined_key_by_key_and_those_of_a_directory_are_told_apart(
        self, write: Write, edited: Write
    ) -> None:
        source = Source(write("[models.own]\npath = '/own'\nttl = 5"))
        edited("[models.own]\nttl = 6\n[models.found]\nttl = 7\n[models.made]\npath = '/made'")
        models = source.load().models
        assert (models["own"].ttl, models["made"].path, "found" in models) == (6, "/made", False)
        assert source.found == {"found": {"ttl": 7}}

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("[limits]\nmodels_max = 0", "limits.models_max: Input should be greater than or equal to 1, not 0"),
            ("[models.found]\nttl = 'soon'", "models.found.ttl: 'soon' is not a duration"),
            ("[models.made]\npath = ''", "models.made.path: String should have at least 1 character"),
            ("[engine]\nbinary = 'x'", "engine.binary: cannot be edited"),
            ("[", "not valid TOML"),
        ],
    )
    def test_what_is_wrong_with_them_is_told_with_their_file(self, edited: Write, text: str, fault: str) -> None:
        path = edited(text)
        with pytest.raises(ConfigError) as caught:
            configfile.load(None)
        assert caught.value.message.startswith(f"{path}: {fault}")

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("[models.far]\nctx_size = 512", "models.far: a model with url takes no ctx_size"),
            (
                "[models.near]\naliases = ['x']",
                "models.near.aliases: the name 'x' is already used by models.far.aliases",
            ),
            ("[models.x]\npath = '/x'", "models.far.aliases: the name 'x' is already used by models.x"),
        ],
    )
    def test_what_they_make_wrong_above_them_is_told_with_their_file(
        self, write: Write, edited: Write, text: str, fault: str
    ) -> None:
        models = "[models.far]\nurl = 'http://far.test'\naliases = ['x']\n[models.near]\npath = '/m'"
        file = write(models)
        path = edited(text)
        assert told(file) == [f"{path}: {fault}"]

    def test_names_that_clash_in_the_file_are_not_theirs(self, write: Write, edited: Write) -> None:
        edited("[models.a]\nttl = 5\n[models.b]\npath = '/b'")
        file = write("[models.a]\npath = '/a'\naliases = ['x']\n[models.bc]\npath = '/c'\naliases = ['x']")
        assert told(file) == ["models.bc.aliases: the name 'x' is already used by models.a.aliases"]

    def test_what_is_wrong_elsewhere_is_not_theirs(self, write: Write, edited: Write) -> None:
        edited("[limits]\nmodels_max = 4")
        assert told(write("[limits]\nqueue_size = 0"))[0].startswith("limits.queue_size")

    def test_another_place_for_them(self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (place := tmp_path / "mine.toml").write_text("[limits]\nmodels_max = 4")
        path = write(f"[server]\nedits_file = '{place}'")
        assert configfile.load(path).limits.models_max == 4
        monkeypatch.setenv("LLAMAPROXY_SERVER__EDITS_FILE", str(tmp_path / "none.toml"))
        assert configfile.load(path).limits.models_max == 2

    def test_they_are_watched(self, edited: Write) -> None:
        source = Source()
        source.load()
        before = source.signature()
        edited("[limits]\nmodels_max = 4")
        assert source.signature() != before
