"""A scanner's opinion of the chart: kube-score's, with what we hold against it."""

import json
import subprocess
from pathlib import Path

import pytest

from integration.chart.cases import CASES
from integration.chart.conftest import Json, Render

IGNORED = {
    "container-image-pull-policy": "images are named by version or digest, which do not move",
    "container-security-context-user-group-id": "1000 is the image's user, and owns nothing else",
    "networkpolicy-targets-pod": "the operator makes the pods that the policy of builds is for",
    "deployment-replicas": "one operator is enough: it is started anew when it ends",
    "deployment-strategy": "a single one holds no Lease, so its successor waits for its end",
}
FLAGS = (
    "--ignore-container-cpu-limit",
)  # a request says what is due; a limit only wastes the rest


@pytest.mark.parametrize("case", CASES)
def test_the_scanner_finds_nothing_unexplained(tools: Path, render: Render, case: str) -> None:
    objects = render(CASES[case]).all
    ignored = [flag for test in IGNORED for flag in ("--ignore-test", test)]
    done = subprocess.run(
        [tools / "kube-score", "score", *FLAGS, *ignored, "--output-format", "json", "-"],
        input="\n---\n".join(map(json.dumps, objects)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    scored: list[Json] = json.loads(done.stdout)
    assert len(scored) >= 3, done.stderr
    found = [
        f"{each['object_name']}: {check['check']['id']}: {comment['summary']}"
        for each in scored
        for check in each["checks"]
        if not check["skipped"] and check["grade"] < 10
        for comment in check["comments"] or [{"summary": ""}]
    ]
    assert found == []
