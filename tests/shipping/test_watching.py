"""docs/grafana.json and docs/alerts.yml: every metric and label that they ask for is one that docs/metrics.md has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
METRICS = (ROOT / "docs" / "metrics.md").read_text("utf-8")
DASHBOARD = json.loads((ROOT / "docs" / "grafana.json").read_text("utf-8"))
ALERTS = yaml.safe_load((ROOT / "docs" / "alerts.yml").read_text("utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
NAME = re.compile(r"\bllamaproxy_[a-z_]+")
SELECTOR = re.compile(r"\b(llamaproxy_[a-z_]+)\{([^}]*)\}")


def documented() -> dict[str, tuple[set[str], str]]:
    """Labels and meaning of each metric."""
    rows = re.findall(r"^\| (`llamaproxy_.+?) \|(.*?)\| (.+?) \|$", METRICS, re.MULTILINE)
    return {
        name: (set(labels.strip().split(", ")), what) for names, labels, what in rows for name in NAME.findall(names)
    }


KNOWN = documented()


def panels() -> Iterator[tuple[str, str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


QUERIES = [
    *((title, expression, legend) for title, expression, legend in panels()),
    *((rule["alert"], rule["expr"], "") for rule in RULES),
]
every_query = pytest.mark.parametrize(("title", "query", "legend"), QUERIES, ids=[f"{q[0]}" for q in QUERIES])


def base(name: str) -> str:
    """A histogram's own name."""
    stem = re.sub(r"_(bucket|sum|count)$", "", name)
    return stem if stem in KNOWN and KNOWN[stem][1].startswith("histogram") else name


@every_query
def test_metrics_exist(title: str, query: str, legend: str) -> None:
    named = {base(name) for name in NAME.findall(query)}
    assert named <= set(KNOWN)
    assert named or query.startswith("up{")


@every_query
def test_labels_exist(title: str, query: str, legend: str) -> None:
    for name, selector in SELECTOR.findall(query):
        assert set(re.findall(r"(\w+)[=!]~?\"", selector)) <= KNOWN[base(name)][0], name
    labels = {label for name in NAME.findall(query) for label in (*KNOWN[base(name)][0], "le") if base(name) in KNOWN}
    for grouped in re.findall(r"\bby \(([^)]*)\)", query):
        assert set(grouped.split(", ")) <= labels
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels


@every_query
def test_brackets_are_closed(title: str, query: str, legend: str) -> None:
    assert all(query.count(opened) == query.count(closed) for opened, closed in ("()", "[]", "{}"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert set(rule["annotations"]) == {"summary", "description"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_values_of_labels_exist() -> None:
    for _, query, _ in QUERIES:
        for name, selector in SELECTOR.findall(query):
            for label, values in re.findall(r'(state|reason|result)[=!]~?"([^"]*)"', selector):
                if name == "llamaproxy_requests_total":
                    continue
                assert all(value in KNOWN[base(name)][1] for value in values.split("|")), (name, label)


def test_panels_have_numbers_and_places_of_their_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers) == len(set(places))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])
