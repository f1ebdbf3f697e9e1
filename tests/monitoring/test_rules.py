"""The alerts and the dashboard that ship with the broker are about metrics that it exports, and the alerts work."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from certbroker.app import Core
from certbroker.services.health.metrics import Metrics
from tests.support.peers import require_promtool

_ROOT = Path(__file__).resolve().parents[2]
_PROMETHEUS = _ROOT / "config" / "prometheus"
_DASHBOARD = _ROOT / "config" / "grafana" / "certbroker.json"
_OURS = re.compile(r"\b(?:certbroker|x509|process)_[a-z0-9_]+")


@pytest.fixture
def exported(core: Core) -> set[str]:
    """The names of all series that a scrape can have."""
    broker = core.broker
    text = Metrics(broker.store, broker.clock, broker.meters, broker.readiness, 10).render("text/plain")[0].decode()
    names: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
        names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")} if kind == "histogram" else {name}
    return names


def test_the_alerts_are_valid_rules() -> None:
    done = _promtool("check", "rules", "--lint-fatal", "alerts.yml")

    assert 0 == done.returncode, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    done = _promtool("test", "rules", "alerts.test.yml")

    assert 0 == done.returncode, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    alerts = re.findall(r"- alert: (\w+)", (_PROMETHEUS / "alerts.yml").read_text())
    tests = re.split(r"^  - interval", (_PROMETHEUS / "alerts.test.yml").read_text(), flags=re.MULTILINE)[1:]
    tested = [(re.findall(r"alertname: (\w+)", test)[0], "exp_alerts: []" in test) for test in tests]

    assert sorted((name, silent) for name in alerts for silent in (False, True)) == sorted(tested)


def test_alerts_are_about_metrics_that_are_exported(exported: set[str]) -> None:
    text = (_PROMETHEUS / "alerts.yml").read_text()
    used = set(_OURS.findall("\n".join(re.findall(r"expr: '(.*)'", text))))

    assert len(used) > 10
    assert set() == used - exported


def test_the_dashboard_is_about_metrics_that_are_exported(exported: set[str]) -> None:
    dashboard = json.loads(_DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [
        variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"
    ]
    used = {name for query in queries for name in _OURS.findall(query)}

    assert len(used) > 15
    assert set() == used - exported


def test_the_queries_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    queries = [target["expr"].replace("$instance", ".*") for panel in panels for target in panel["targets"]]
    records = [{"record": f"panel{number}", "expr": query} for number, query in enumerate(queries)]
    rules.write_text(json.dumps({"groups": [{"name": "panels", "rules": records}]}))
    done = _promtool("check", "rules", str(rules))

    assert 0 == done.returncode, done.stdout + done.stderr


def test_no_two_panels_lie_on_each_other() -> None:
    cells = [
        (column, row)
        for panel in json.loads(_DASHBOARD.read_text())["panels"]
        for at in [panel["gridPos"]]
        for column in range(at["x"], at["x"] + at["w"])
        for row in range(at["y"], at["y"] + at["h"])
    ]

    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) < 24


def test_the_page_on_monitoring_knows_every_metric(exported: set[str]) -> None:
    text = (_ROOT / "docs" / "how-to" / "monitor.md").read_text()
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported if not name.startswith("process_")}

    assert set() == {name for name in ours if f"`{name}" not in text}


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require_promtool(), *arguments], cwd=_PROMETHEUS, capture_output=True, text=True, timeout=180, check=False
    )
