"""docs/grafana.json and docs/alerts.yml: what they ask for is PromQL, of metrics and labels that there are.

Read by a parser of PromQL. Where promtool is installed, alerts.test.yml says when each alert fires, too.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import promql_parser as promql
import pytest
import yaml

ROOT = Path(__file__).parents[2]
METRICS = (ROOT / "docs" / "metrics.md").read_text("utf-8")
DASHBOARD = json.loads((ROOT / "docs" / "grafana.json").read_text("utf-8"))
ALERTS = yaml.safe_load((ROOT / "docs" / "alerts.yml").read_text("utf-8"))
FIRINGS = Path(__file__).with_name("alerts.test.yml")
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
OF_PROMETHEUS = {"up": {"job", "instance"}}


def documented() -> dict[str, tuple[set[str], str]]:
    """Labels and meaning of each metric."""
    rows = re.findall(r"^\| (`llamaproxy_.+?) \|(.*?)\| (.+?) \|$", METRICS, re.MULTILINE)
    return {
        name: (set(filter(None, labels.strip().split(", "))), what)
        for names, labels, what in rows
        for name in re.findall(r"`(llamaproxy_[a-z_]+)`", names)
    }


KNOWN = documented()


def panels() -> Iterator[tuple[str, str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


QUERIES = [*panels(), *((rule["alert"], rule["expr"], "") for rule in RULES)]
every_query = pytest.mark.parametrize(("query", "legend"), [q[1:] for q in QUERIES], ids=[q[0] for q in QUERIES])


def nodes(query: str) -> list[promql.Expr]:
    """Of the tree; Grafana fills in the times. Raises ValueError where it is no PromQL."""
    found: list[promql.Expr] = []
    promql.walk(promql.parse(query.replace("$__rate_interval", "5m")), found.append)
    return found


def selectors(query: str) -> list[promql.VectorSelector]:
    return [node for node in nodes(query) if isinstance(node, promql.VectorSelector)]


ASKED_FOR = {str(selector.name) for _, query, _ in QUERIES for selector in selectors(query)} - set(OF_PROMETHEUS)


def family(name: str) -> str:
    """A histogram's own name."""
    stem = re.sub(r"_(bucket|sum|count)$", "", name)
    return stem if stem in KNOWN and KNOWN[stem][1].startswith("histogram") else name


def labels(name: str) -> set[str]:
    if name in OF_PROMETHEUS:
        return OF_PROMETHEUS[name]
    return KNOWN[family(name)][0] | ({"le"} if name.endswith("_bucket") else set())


@every_query
def test_metrics_exist(query: str, legend: str) -> None:
    assert {family(str(selector.name)) for selector in selectors(query)} <= {*KNOWN, *OF_PROMETHEUS}


@every_query
def test_histograms_are_asked_by_their_parts(query: str, legend: str) -> None:
    for selector in selectors(query):
        what = KNOWN.get(str(selector.name), (set(), ""))[1]
        assert not what.startswith("histogram")


@every_query
def test_counters_are_asked_for_their_growth(query: str, legend: str) -> None:
    grown = {str(n.vector_selector.name) for n in nodes(query) if isinstance(n, promql.MatrixSelector)}
    counted = {str(s.name) for s in selectors(query) if re.search(r"_(total|bucket|count|sum)$", str(s.name))}
    assert grown == counted


@every_query
def test_labels_exist(query: str, legend: str) -> None:
    for selector in selectors(query):
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels(str(selector.name))
    known = set.union(*(labels(str(selector.name)) for selector in selectors(query)))
    grouped = [n.modifier for n in nodes(query) if isinstance(n, promql.AggregateExpr) and n.modifier]
    assert {label for modifier in grouped for label in modifier.labels} <= known
    left = set.union(*(set(modifier.labels) for modifier in grouped)) if grouped else known
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= left


@every_query
def test_values_of_labels_exist(query: str, legend: str) -> None:
    for selector in selectors(query):
        if (name := str(selector.name)) == "llamaproxy_requests_total" or name in OF_PROMETHEUS:
            continue
        said = {
            m.name: m.value.split("|") for m in selector.matchers.matchers if m.name in ("state", "reason", "result")
        }
        assert [value for values in said.values() for value in values if value not in KNOWN[name][1]] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert set(rule["annotations"]) == {"summary", "description"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_every_alert_is_seen_to_fire() -> None:
    tests = yaml.safe_load(FIRINGS.read_text("utf-8"))["tests"]
    looks = [look for test in tests for look in test["alert_rule_test"]]
    assert {look["alertname"] for look in looks if look["exp_alerts"]} == {rule["alert"] for rule in RULES}
    assert {look["alertname"] for look in looks if not look["exp_alerts"]} == {rule["alert"] for rule in RULES}


@pytest.mark.parametrize(
    "words", [["check", "rules", str(ROOT / "docs" / "alerts.yml")], ["test", "rules", str(FIRINGS)]]
)
def test_promtool_agrees(words: list[str]) -> None:
    if not (promtool := shutil.which("promtool")):
        pytest.skip("promtool is not installed")
    done = subprocess.run([promtool, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_have_numbers_and_places_of_their_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers) == len(set(places))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])
