"""docs/alerts.yml, checked with Prometheus's promtool, the server's metrics and docs/OPERATE.md."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.core.problems import CODES
from serve.observing.metrics import METRICS
from tests.programs import require
from tests.serve.test_dashboard import EXPORTED

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = DOCS / "alerts.yml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
}
OPERATE = (DOCS / "OPERATE.md").read_text()
PROBLEMS = 'ray_maskwright_problems_total{{code="{code}", route="/v1/sessions"}}'
FIRES: dict[str, dict[str, str]] = {
    "MaskwrightDown": {'up{job="maskwright-plain", instance="a"}': "0x60"},
    "MaskwrightFails": {PROBLEMS.format(code="internal"): "0+6x60"},
    "MaskwrightDoesNotAnswer": {PROBLEMS.format(code="unavailable"): "0+6x60"},
    "MaskwrightReplicaUnhealthy": {
        'ray_serve_deployment_replica_healthy{application="maskwright", deployment="FirstClick", replica="r"}': "0x60"
    },
    "MaskwrightAtCapacity": {PROBLEMS.format(code="at_capacity"): "0+6x60"},
    "MaskwrightOutOfMemory": {PROBLEMS.format(code="gpu_oom"): "0+6x60"},
    "MaskwrightCorrectionsAreSlow": {
        'maskwright_request_ms_bucket{click="correction", le="1000"}': "0+1x60",
        'maskwright_request_ms_bucket{click="correction", le="2000"}': "0+9x60",
        'maskwright_request_ms_bucket{click="correction", le="+Inf"}': "0+9x60",
    },
    "MaskwrightFirstClicksAreSlow": {
        'ray_maskwright_request_ms_bucket{click="first", le="5000"}': "0+1x60",
        'ray_maskwright_request_ms_bucket{click="first", le="10000"}': "0+9x60",
        'ray_maskwright_request_ms_bucket{click="first", le="+Inf"}': "0+9x60",
    },
    "MaskwrightClicksWait": {
        'ray_maskwright_queue_ms_bucket{at="network", le="1000"}': "0+1x60",
        'ray_maskwright_queue_ms_bucket{at="network", le="2000"}': "0+9x60",
        'ray_maskwright_queue_ms_bucket{at="network", le="+Inf"}': "0+9x60",
    },
    "MaskwrightForgetsSessions": {
        'ray_maskwright_cache_lookups_total{found="miss", version="v"}': "0+30x60",
        'ray_maskwright_cache_lookups_total{found="hit", version="v"}': "0+30x60",
    },
    "MaskwrightTokensAreGuessed": {PROBLEMS.format(code="token_wrong"): "0+60x60"},
    "MaskwrightClientsAreTooFast": {PROBLEMS.format(code="too_many"): "0+120x60"},
    "RayDiskFull": {
        'ray_node_disk_free{instance="a"}': "5x60",
        'ray_node_disk_usage{instance="a"}': "95x60",
    },
    "RayMemoryFull": {
        'ray_node_mem_used{instance="a"}': "95x60",
        'ray_node_mem_total{instance="a"}': "100x60",
    },
    "RaySpills": {'ray_object_store_memory{Location="SPILLED", instance="a"}': "60000000000x60"},
}
"""Series with which each alert fires, and no other one."""
QUIET = {
    'up{job="maskwright", instance="a"}': "1x60",
    'up{job="another", instance="b"}': "0x60",
    PROBLEMS.format(code="bad_click"): "0+600x60",
    'ray_maskwright_request_ms_bucket{click="correction", le="200"}': "0+9x60",
    'ray_maskwright_request_ms_bucket{click="correction", le="+Inf"}': "0+9x60",
    'ray_maskwright_cache_lookups_total{found="hit", version="v"}': "0+90x60",
    'ray_node_disk_free{instance="a"}': "50x60",
    'ray_node_disk_usage{instance="a"}': "50x60",
}


def promtool(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([require("prometheus"), *words], capture_output=True, text=True)


def test_prometheus_reads_the_rules(tmp_path: Path) -> None:
    done = promtool("check", "rules", ALERTS)
    assert done.returncode == 0, done.stderr
    (tmp_path / "wrong.yml").write_text(ALERTS.read_text().replace("rate(", "rat(", 1))
    assert promtool("check", "rules", tmp_path / "wrong.yml").returncode != 0


def test_each_alert_fires_for_its_series_and_no_other_alert_does(tmp_path: Path) -> None:
    def case(series: dict[str, str], firing: list[str]) -> dict[str, Any]:
        expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in firing]
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "50m",
                    "exp_samples": expected,
                }
            ],
        }

    assert set(FIRES) == set(RULES)
    tests = [case(QUIET, []), *(case(series, [name]) for name, series in FIRES.items())]
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests})
    )
    done = promtool("test", "rules", tmp_path / "test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", RULES)
def test_each_alert_uses_existing_metrics_labels_and_codes(name: str) -> None:
    expression = RULES[name]["expr"]
    for found, labels in re.findall(r'__name__=~"\(ray_\)\?(\w+)"([^}]*)', expression):
        assert found in EXPORTED, found
        assert set(re.findall(r"(\w+)=~?\"", labels)) <= set(EXPORTED[found].labels)
    for codes in re.findall(r'code=~?"([\w|]+)"', expression):
        assert set(codes.split("|")) <= set(CODES)
    assert RULES[name]["labels"]["severity"] in ("page", "ticket")


def test_operate_documents_each_alert_and_each_problem_code() -> None:
    assert re.findall(r"^### (\w+)$", OPERATE, re.M) == list(RULES)
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", OPERATE, re.M)
    documented = [code for row in rows for code in re.findall(r"`(\w+)`", row)]
    assert sorted(documented) == sorted(CODES)
    for name in re.findall(r"`(maskwright_\w+)`", OPERATE):
        assert name in EXPORTED or name in {metric.name for metric in METRICS}
