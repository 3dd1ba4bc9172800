"""Values that cannot work are refused, and the message says what to do."""

import json
from pathlib import Path

import pytest

from integration.chart.cases import FEDERATION
from integration.chart.conftest import IMAGE, Json, helm_template

GS: Json = {**IMAGE, "bucket": {"url": "gs://images"}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "image.repository is not set"),
        ({**IMAGE, "replicas": 2}, "additional properties 'replicas' not allowed"),
        ({**IMAGE, "operator": {"replica": 2}}, "at '/operator': additional properties 'replica'"),
        ({**IMAGE, "gateway": {"kind": "Pod"}}, "must be one of 'DaemonSet', 'Deployment'"),
        ({**IMAGE, "builds": {"localBuilds": True}}, "must be one of 'Allowed', 'Forbidden'"),
        ({**IMAGE, "bucket": {"url": "s3://images"}}, "at '/bucket/url'"),
        ({**IMAGE, "bucket": {"url": "file:///images"}}, "bucket.claimName is not set"),
        ({**GS, "bucket": {"url": "gs://images", "claimName": "x"}}, "clear it"),
        (
            {**IMAGE, "bucket": {"url": "gs://images", "credentialConfiguration": "{}"}},
            "no configuration of workload identity federation",
        ),
        (
            {**IMAGE, "bucket": {"url": "gs://images", "credentialConfiguration": "token: x"}},
            "no configuration of workload identity federation",
        ),
        (
            {**IMAGE, "bucket": {"credentialConfiguration": json.dumps(FEDERATION)}},
            "is for bucket.url of gs://",
        ),
        ({**GS, "gateway": {"kind": "Deployment"}}, "gateway.registry is not set"),
        ({**GS, "gateway": {"enabled": False}}, "gateway.registry is not set"),
        (
            {**GS, "gateway": {"kind": "Deployment", "ingress": {"enabled": True}}},
            "gateway.ingress.host is not set",
        ),
        (
            {**GS, "gateway": {"ingress": {"enabled": True, "host": "a.example"}}},
            "needs gateway.kind Deployment",
        ),
        (
            {**GS, "gateway": {"auth": {"mode": "htpasswd"}}},
            "gateway.auth.htpasswd.secretName is not set",
        ),
        (
            {
                **GS,
                "gateway": {
                    "kind": "Deployment",
                    "registry": "a.example",
                    "auth": {"mode": "kubernetes"},
                },
            },
            "gateway.auth.tokenKey.secretName is not set",
        ),
        ({**IMAGE, "watchNamespaces": ["Team A"]}, "at '/watchNamespaces/0'"),
        ({**IMAGE, "gc": {"grace": "3 days"}}, "at '/gc/grace'"),
        (
            {**IMAGE, "operator": {"resources": {"limits": {"memory": "much"}}}},
            "at '/operator/resources/limits/memory'",
        ),
    ],
)
def test_values_that_cannot_work_are_refused(helm: Path, values: Json, words: str) -> None:
    done = helm_template(helm, values)
    assert done.returncode != 0
    assert words in done.stderr
