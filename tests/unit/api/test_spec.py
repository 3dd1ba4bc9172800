"""NixImage files: what is taken, what is refused, and in which words."""

from typing import Any

import pytest
import yaml

from niximage.api.base import seconds
from niximage.api.image import load_file
from niximage.errors import Reason, Terminal

GIT = {"url": "https://example.org/set.git", "ref": {"branch": "main"}}


def document(**spec: Any) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "niximage.dev/v1alpha1",
            "kind": "NixImage",
            "metadata": {"name": "web", "namespace": "team-a"},
            "spec": {
                "packages": ["hello"],
                "source": {"nixpkgs": {"channel": "nixos-26.05"}},
                **spec,
            },
        }
    )


GOOD: dict[str, dict[str, Any]] = {
    "nested attribute": {"packages": ["python3Packages.requests"]},
    "primes and plus signs": {"packages": ["gcc'", "libstdc++-foo", "a.0b"]},
    "outputs": {"packages": ["openssl^bin,out", "curl^*"]},
    "revision": {"source": {"nixpkgs": {"revision": "a" * 40}}},
    "git": {"source": {"git": GIT}},
    "git over ssh": {"source": {"git": {**GIT, "url": "ssh://git@example.org/x"}}},
    "git tag": {"source": {"git": {**GIT, "ref": {"tag": "v1.0"}}}},
    "git ref name": {"source": {"git": {**GIT, "ref": {"name": "refs/pull/1/head"}}}},
    "git path": {"source": {"git": {**GIT, "path": "nix/set..old", "attr": "pkgs.unix"}}},
    "config": {
        "config": {
            "entrypoint": ["/bin/hello"],
            "env": [{"name": "A", "value": "b"}],
            "user": "1000:1000",
            "exposedPorts": ["80/tcp"],
            "volumes": ["/data"],
            "labels": {"a": "b"},
            "stopSignal": "SIGTERM",
            "workingDir": "/srv",
        }
    },
    "durations": {"interval": "1h30m", "timeout": "30s"},
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no packages": ({"packages": []}, "spec.packages"),
    "Nix code": ({"packages": ["hello; builtins.exec"]}, "spec.packages.0"),
    "interpolation": ({"packages": ["${builtins.storePath}"]}, "spec.packages.0"),
    "quotes": ({"packages": ['a"b']}, "spec.packages.0"),
    "a leading dash": ({"packages": ["--option"]}, "spec.packages.0"),
    "a newline at the end": ({"packages": ["hello\n"]}, "spec.packages.0"),
    "too many packages": ({"packages": [f"p{n}" for n in range(129)]}, "spec.packages"),
    "no source": ({"source": {}}, "exactly one of nixpkgs and git"),
    "two sources": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05"}, "git": GIT}},
        "exactly one of nixpkgs and git",
    ),
    "channel and revision": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05", "revision": "a" * 40}}},
        "exactly one of channel and revision",
    ),
    "short revision": ({"source": {"nixpkgs": {"revision": "abc"}}}, "revision"),
    "no ref": ({"source": {"git": {**GIT, "ref": {}}}}, "exactly one of branch"),
    "a ref like an option": (
        {"source": {"git": {**GIT, "ref": {"branch": "--upload-pack=x"}}}},
        "branch",
    ),
    "ext transport": ({"source": {"git": {**GIT, "url": "ext::sh -c id"}}}, "url"),
    "file transport": ({"source": {"git": {**GIT, "url": "file:///etc"}}}, "url"),
    "path escape": ({"source": {"git": {**GIT, "path": "a/../../b"}}}, "no '..'"),
    "absolute path": ({"source": {"git": {**GIT, "path": "/etc"}}}, "path"),
    "interval too short": ({"interval": "59s"}, "between 1m and 744h"),
    "interval no duration": ({"interval": "soon"}, "interval"),
    "timeout too long": ({"timeout": "25h"}, "between 30s and 24h"),
    "relative directory": ({"config": {"workingDir": "srv"}}, "workingDir"),
    "user": ({"config": {"user": "root; id"}}, "user"),
    "unknown field": ({"pakages": ["hello"]}, "pakages"),
    "repository path": ({"output": {"repository": "other/name"}}, "repository"),
}


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
def test_good_specs_are_taken(spec: dict[str, Any]) -> None:
    image = load_file(document(**spec), "web.yaml")
    assert image.repository == "team-a/web"


@pytest.mark.parametrize(("spec", "words"), BAD.values(), ids=BAD)
def test_bad_specs_are_refused_with_the_field_named(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(Terminal) as caught:
        load_file(document(**spec), "web.yaml")
    assert caught.value.reason is Reason.INVALID_SPEC
    assert words in caught.value.message
    assert "web.yaml" in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no object"),
        ("- a", "holds no object"),
        ("a: [", "is not YAML"),
        ("kind: Pod\napiVersion: v1", "is v1/Pod"),
        ("x" * (1 << 20 | 1), "larger than"),
        (document().replace("name: web", "name: Web"), "metadata.name"),
        (document().replace("name: web", "name: " + "w" * 53), "metadata.name"),
        (document().replace("spec:", "spek:"), "spec"),
    ],
)
def test_a_file_that_is_no_niximage_is_refused(text: str, words: str) -> None:
    with pytest.raises(Terminal, match=words):
        load_file(text, "web.yaml")


def test_the_output_repository_stays_below_the_namespace() -> None:
    image = load_file(document(output={"repository": "shop"}), "web.yaml")
    assert image.repository == "team-a/shop"


@pytest.mark.parametrize(
    ("text", "length"), [("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("500ms", 0.5)]
)
def test_durations_are_read_as_go_reads_them(text: str, length: float) -> None:
    assert seconds(text) == length
