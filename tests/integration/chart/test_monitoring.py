"""Alerts and dashboard ask for figures that there are, in words that Prometheus reads."""

import json
import re
from collections.abc import Iterator

import promql_parser
import pytest

from integration.chart.cases import CASES
from integration.chart.conftest import CHART, Json, Render
from niximage.controller.cache import Cache
from niximage.controller.metrics import Metrics
from niximage.gateway.metrics import Metrics as GatewayMetrics

METRIC = re.compile(r"niximage_[a-z_]+")
# What Grafana puts in.
VARIABLES = {"$__rate_interval": "5m", "$namespace": ".*"}


def families() -> dict[str, str]:
    """All figures by the names that samples have, with their types."""
    metrics = Metrics()
    metrics.watch(Cache(), lambda: 0, lambda: 0)
    text = metrics.exposition().decode() + GatewayMetrics().text().decode()
    types = dict(re.findall(r"^# TYPE (niximage_\S+) (\S+)$", text, re.MULTILINE))
    named: dict[str, str] = {}
    for name, kind in types.items():
        if name.endswith("_created"):
            continue  # when a counter began: the client's own addition
        endings = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
        named |= {name + ending: kind for ending in endings}
    return named


def expressions() -> Iterator[str]:
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            yield text


def alerts(render: Render) -> list[Json]:
    groups = render(CASES["claim"]).get("PrometheusRule", "niximage")["spec"]["groups"]
    assert [group["name"] for group in groups] == ["niximage-operator", "niximage-gateway", "own"]
    return [rule for group in groups for rule in group["rules"]]


def check(expression: str) -> None:
    promql_parser.parse(expression)  # raises where Prometheus would
    known = families()
    for name in METRIC.findall(expression):
        assert name in known, expression
        rated = re.search(rf"(rate|increase)\({name}\b", expression) is not None
        assert rated is (known[name] in ("counter", "histogram")), expression


@pytest.mark.parametrize("expression", list(expressions()))
def test_panels_ask_for_figures_that_there_are(expression: str) -> None:
    check(expression)


def test_alerts_ask_for_figures_that_there_are_and_say_what_to_do(render: Render) -> None:
    rules = alerts(render)
    assert len({rule["alert"] for rule in rules}) == len(rules) > 8
    for rule in rules:
        check(rule["expr"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"].endswith(".")


def test_every_figure_of_the_project_is_shown() -> None:
    shown = set(METRIC.findall(" ".join(expressions())))
    known = {re.sub("_(bucket|count|sum)$", "", name) for name in families()}
    left = known - {re.sub("_(bucket|count|sum)$", "", name) for name in shown}
    # an alert tells of it; a panel of a date would not
    assert left == {"niximage_gateway_certificate_expiry_timestamp_seconds"}


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_is_found_by_grafana(render: Render) -> None:
    shown = render(CASES["claim"]).get("ConfigMap", "niximage-dashboard", "monitoring")
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(shown["data"]["niximage.json"])["uid"] == "niximage"


@pytest.mark.parametrize(
    ("component", "port", "path"), [("operator", "http", 8080), ("gateway", "registry", 5000)]
)
def test_monitors_select_pods_and_ports_that_there_are(
    render: Render, component: str, port: str, path: int
) -> None:
    manifests = render(CASES["claim"])
    template = manifests.pods()[component]
    labels = template["metadata"]["labels"]
    (container,) = template["spec"]["containers"]
    assert (container["ports"][0]["name"], container["ports"][0]["containerPort"]) == (port, path)
    pods = manifests.get("PodMonitor", f"niximage-{component}")
    assert pods["metadata"]["labels"]["release"] == "prometheus"
    assert pods["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert pods["spec"]["podMetricsEndpoints"][0]["port"] == port
    services = manifests.get("ServiceMonitor", f"niximage-{component}")["spec"]
    service = manifests.get("Service", f"niximage-{component}-metrics")
    wanted = services["selector"]["matchLabels"].items()
    assert wanted <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert services["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_a_gateway_with_tls_is_asked_over_tls(render: Render) -> None:
    manifests = render(CASES["kubernetes"])
    # its other Service has no such label, so that nothing is asked twice
    service = manifests.get("Service", "niximage-gateway")
    assert "niximage.dev/metrics" not in service["metadata"]["labels"]
    (endpoint,) = manifests.get("PodMonitor", "niximage-gateway")["spec"]["podMetricsEndpoints"]
    assert endpoint["scheme"] == "https"
