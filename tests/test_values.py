"""llamaproxy.values: what a value may look like, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.values import check_name, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("5m", 300),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("250ms", 0.25),
        ("0", 0),
        (" 7 s ", 7),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-5s", "+5s", "5 minutes", "1e3", "nan", "inf", "5ss", ".5s", "5.", "1m30s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("512B", 512),
        ("1k", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("64MiB", 64 * 1024**2),
        ("64 mib", 64 * 1024**2),
        ("2GB", 2_000_000_000),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("8Ti", 8 * 1024**4),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e6", "1 MiB/s", "1PB", "1i", "1iB", "0x10", "nan", "12MBB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers() | st.floats() | st.none() | st.booleans())
def test_what_is_no_text_is_left_for_the_type_to_judge(value: object) -> None:
    assert parse_duration(value) is value
    assert parse_size(value) is value


@given(st.from_regex(r"[A-Za-z0-9./]{1,20}", fullmatch=True))
def test_a_name_in_a_path_stays_where_it_is(name: str) -> None:
    """Clients and proxies resolve dots and empty parts; a name that changes under that could not be asked for."""
    try:
        check_name(name)
    except ValueError:
        return
    assert all(part not in ("", ".", "..") for part in name.split("/"))


@given(st.text())
def test_no_text_makes_the_parsers_fail_in_another_way(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert isinstance(parse(text), int | float)
        except ValueError as error:
            assert len(str(error)) < 200
