"""llamaproxy.cli.table: what people read."""

import pytest

from llamaproxy.cli.table import duration, harmless, size, table


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    assert table(("NAME", "N"), [("long-name", 5), ("m", None), ("", 0)]).splitlines() == [
        "NAME       N",
        "long-name  5",
        "m          -",
        "-          0",
    ]


def test_a_table_of_nothing_has_its_head() -> None:
    assert table(("NAME", "N"), []) == "NAME  N"


def test_a_terminal_is_told_nothing() -> None:
    assert harmless("a\x1b[31m\nb\u202ec ü") == "a\\x1b[31m\\nb\\u202ec ü"
    assert "\x1b" not in table(("A",), [("\x1b[2J",)])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, None), (0.4, "0s"), (59.9, "59s"), (60, "1m0s"), (192, "3m12s"), (3600, "1h"), (90_061, "1d1h")],
)
def test_durations(seconds: float | None, text: str | None) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, None),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (1024**6, "1048576.0 TiB"),
    ],
)
def test_sizes(count: int | None, text: str | None) -> None:
    assert size(count) == text


class TestNarrowTerminal:
    ROWS = (("a-rather-long-name-of-a-model", "ready", "x"), ("m", "stopped", "y"))

    def test_cells_are_cut_to_a_third(self) -> None:
        assert table(("NAME", "STATE", "LAST"), self.ROWS, 60).splitlines() == [
            "NAME                  STATE    LAST",
            "a-rather-long-name-…  ready    x",
            "m                     stopped  y",
        ]

    def test_the_last_columns_are_left_out(self) -> None:
        assert table(("NAME", "STATE", "LAST"), self.ROWS, 24).splitlines() == [
            "NAME          STATE",
            "a-rather-lo…  ready",
            "m             stopped",
        ]
        assert table(("NAME", "STATE"), [("m", "s")], 1).splitlines() == ["NAME", "m"]

    def test_states_are_coloured_without_moving_anything(self) -> None:
        assert table(
            ("STATE", "N"), [("ready", 1), ("draining (idle)", 2), ("stopped", 3)], coloured=True
        ) == "\n".join(
            [
                "STATE            N",
                "\x1b[32mready\x1b[0m            1",
                "\x1b[33mdraining (idle)\x1b[0m  2",
                "stopped          3",
            ]
        )
