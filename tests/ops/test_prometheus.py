"""The rules of ops/prometheus, checked and tested by promtool. test_watched.py shows them to a real Prometheus."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_server import OPS, exported, names_in, tool

from ops.roles import ROLES

FOLDER = OPS / "prometheus"
TESTS = Path(__file__).with_name("alerts.test.yaml")


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((FOLDER / name).read_text())["groups"] for rule in group["rules"]]


ALERTS = rules("alerts.yaml")
RECORDED = {rule["record"] for rule in rules("recording.yaml")}


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [tool("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=TESTS.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_configuration_and_rules() -> None:
    checked = promtool("check", "config", "--lint=all", "--lint-fatal", str(FOLDER / "prometheus.yaml"))
    assert f"{len(ALERTS)} rules found" in checked


def test_each_alert_fires_when_it_should_and_none_when_all_is_well() -> None:
    promtool("test", "rules", TESTS.name)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"].endswith(".")
    file, _, section = alert["annotations"]["runbook_url"].partition("#")
    assert file == "ops/RUNBOOK.md"
    headings = re.findall(r"^## (.+)$", (OPS / "RUNBOOK.md").read_text(), re.MULTILINE)
    assert section in {heading.lower() for heading in headings}, "the runbook has no section for it"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_has_a_case_in_which_it_fires(alert: dict[str, Any]) -> None:
    fires = [
        sample["labels"]
        for case in yaml.safe_load(TESTS.read_text())["tests"]
        for asked in case["promql_expr_test"]
        for sample in asked["exp_samples"]
    ]
    assert any(f'alertname="{alert["alert"]}"' in labels for labels in fires)


@pytest.mark.parametrize(
    "rule", [*ALERTS, *rules("recording.yaml")], ids=lambda r: str(r.get("alert", r.get("record")))
)
def test_a_rule_asks_for_what_strata_exports(rule: dict[str, Any]) -> None:
    named = names_in(rule["expr"])
    assert named - exported() - RECORDED == set()
    assert named or "up{" in rule["expr"]


def test_every_role_is_scraped_and_missed() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    scraped = {
        name for job in config["scrape_configs"] for found in job.get("dns_sd_configs", []) for name in found["names"]
    }
    assert set(ROLES) <= scraped, "add the role's service to dns_sd_configs in ops/prometheus/prometheus.yaml"
    (missing,) = (alert["expr"] for alert in ALERTS if alert["alert"] == "StrataRoleMissing")
    assert set(re.findall(r'role="(\w+)"', missing)) >= set(ROLES), "add the role to StrataRoleMissing"
