"""A step's settings come whole from its environment, or are told apart by name."""

import json
from pathlib import Path

import pytest

from niximage.builder.settings import BuilderSettings, termination_log
from niximage.errors import Reason, Retryable

REQUEST = {
    "v": 1,
    "namespace": "team",
    "repository": "team/hello",
    "inputHash": "0" * 64,
    "packages": ["hello"],
    "source": {"url": "https://example.org/x.git", "revision": "1" * 40},
    "config": {},
}
MINIMAL = {"NIXIMAGE_REQUEST": json.dumps(REQUEST)}


def test_defaults() -> None:
    found = BuilderSettings.from_environment(MINIMAL)
    assert found.request.packages == ["hello"]
    assert found.bucket == ""
    assert found.nix.substituters == ()
    assert found.nix.local_builds
    assert found.outputs_file == Path("/build/outputs.json")
    assert found.timeout == 86400
    assert found.bucket_patience == 60
    assert termination_log(MINIMAL) == Path("/dev/termination-log")


def test_everything_set() -> None:
    environment = MINIMAL | {
        "NIXIMAGE_BUCKET": "gs://b",
        "NIXIMAGE_SUBSTITUTERS": "https://a  https://b ",
        "NIXIMAGE_TRUSTED_PUBLIC_KEYS": "k1 k2",
        "NIXIMAGE_WORK": "/shared",
        "NIXIMAGE_TERMINATION_LOG": "/log",
        "NIXIMAGE_BUILD_TIMEOUT": "90",
        "NIXIMAGE_BUCKET_PATIENCE": "7.5",
        "NIXIMAGE_LOCAL_BUILDS": "Forbidden",
    }
    found = BuilderSettings.from_environment(environment)
    assert found.bucket == "gs://b"
    assert found.nix.substituters == ("https://a", "https://b")
    assert found.nix.trusted_public_keys == ("k1", "k2")
    assert found.outputs_file == Path("/shared/outputs.json")
    assert found.timeout == 90
    assert found.bucket_patience == 7.5
    assert not found.nix.local_builds
    assert termination_log(environment) == Path("/log")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NIXIMAGE_REQUEST", ""),
        ("NIXIMAGE_REQUEST", "{"),
        ("NIXIMAGE_REQUEST", "x" * 200_000),
        ("NIXIMAGE_REQUEST", json.dumps(REQUEST | {"packages": ["a; b"]})),
        ("NIXIMAGE_REQUEST", json.dumps(REQUEST | {"surprise": 1})),
        ("NIXIMAGE_LOCAL_BUILDS", "yes"),
        ("NIXIMAGE_BUILD_TIMEOUT", "soon"),
        ("NIXIMAGE_BUILD_TIMEOUT", "-1"),
        ("NIXIMAGE_BUILD_TIMEOUT", "nan"),
        ("NIXIMAGE_BUILD_TIMEOUT", "1e9"),
        ("NIXIMAGE_BUCKET_PATIENCE", "long"),
        ("NIXIMAGE_BUCKET_PATIENCE", "0"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(Retryable, match=name) as caught:
        BuilderSettings.from_environment(MINIMAL | {name: value})
    assert caught.value.reason is Reason.INTERNAL_ERROR
