"""Good and bad specs before a real API server: what it takes, and in which words it refuses.

The tables are read by people: each bad spec stands beside the sentence that its user gets.
"""

from typing import Any

import pytest

from support.kubernetes import Cluster, nix_build_class, nix_image
from unit.api.test_spec import GOOD

GIT = {"url": "https://example.org/set.git", "ref": {"branch": "main"}}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "Nix code in a package": ({"packages": ["hello; import <x>"]}, "spec.packages[0]"),
    "string interpolation": ({"packages": ["${abort 1}"]}, "spec.packages[0]"),
    "a quote": ({"packages": ['a"b']}, "spec.packages[0]"),
    "an option": ({"packages": ["--impure"]}, "spec.packages[0]"),
    "a package twice": ({"packages": ["hello", "hello"]}, "Duplicate value"),
    "no package": ({"packages": []}, "spec.packages"),
    "no platform": ({"platforms": []}, "spec.platforms"),
    "a platform twice": ({"platforms": ["linux/arm64"] * 2}, "Duplicate value"),
    "more platforms than there are": ({"platforms": ["linux/amd64"] * 3}, "spec.platforms"),
    "an unknown platform": (
        {"platforms": ["linux/riscv64"]},
        'supported values: "linux/amd64", "linux/arm64"',
    ),
    "no source": ({"source": {}}, "set exactly one of nixpkgs, git"),
    "two sources": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05"}, "git": GIT}},
        "set exactly one of nixpkgs, git",
    ),
    "channel and revision": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05", "revision": "a" * 40}}},
        "set exactly one of channel and revision",
    ),
    "a hash of a channel": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05", "narHash": f"sha256-{'A' * 43}="}}},
        "narHash goes with revision: a channel moves",
    ),
    "a hash in hex": (
        {"source": {"nixpkgs": {"revision": "a" * 40, "narHash": "a" * 51}}},
        "write a hash as Nix does",
    ),
    "two refs": (
        {"source": {"git": {**GIT, "ref": {"branch": "a", "tag": "b"}}}},
        "set exactly one of branch, tag, name and commit",
    ),
    "a ref like an option": (
        {"source": {"git": {**GIT, "ref": {"branch": "-u"}}}},
        "spec.source.git.ref.branch",
    ),
    "a transport that runs programs": (
        {"source": {"git": {**GIT, "url": "ext::sh -c id"}}},
        "spec.source.git.url",
    ),
    "a path out of the repository": (
        {"source": {"git": {**GIT, "path": "a/../.."}}},
        "path must stay inside the source",
    ),
    "a name for the ConfigMap": ({"output": {"configMap": "mine"}}, "spec.output.configMap"),
    "a deletion policy of volumes": (
        {"output": {"deletionPolicy": "Recycle"}},
        '"Retain", "Delete"',
    ),
    "a secret and a user": (
        {
            "source": {
                "git": {**GIT, "url": "https://me@example.org/x", "secretRef": {"name": "keys"}}
            }
        },
        "the url has a user of its own: leave it out, or the secretRef",
    ),
    "a secret elsewhere": (
        {"source": {"git": {**GIT, "secretRef": {"name": "other/keys"}}}},
        "write an object's name",
    ),
    "a secret without a name": ({"source": {"git": {**GIT, "secretRef": {}}}}, "secretRef.name"),
    "git and Flux": (
        {"source": {"git": GIT, "sourceRef": {"kind": "GitRepository", "name": "a"}}},
        "set exactly one of nixpkgs, git",
    ),
    "a kind that Flux has no artifacts of": (
        {"source": {"sourceRef": {"kind": "Kustomization", "name": "a"}}},
        'supported values: "GitRepository", "ExternalArtifact"',
    ),
    "another version of Flux": (
        {"source": {"sourceRef": {"apiVersion": "x/v1", "kind": "GitRepository", "name": "a"}}},
        'supported values: "source.toolkit.fluxcd.io/v1"',
    ),
    "an object of Flux without a name": (
        {"source": {"sourceRef": {"kind": "GitRepository"}}},
        "spec.source.sourceRef.name",
    ),
    "a path out of an artifact": (
        {"source": {"sourceRef": {"kind": "GitRepository", "name": "a", "path": ".."}}},
        "path must stay inside the source",
    ),
    "a volume and nixpkgs": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05"}, "volume": {"claimName": "a"}}},
        "set exactly one of nixpkgs, git, sourceRef and volume",
    ),
    "a claim that is no name": (
        {"source": {"volume": {"claimName": "../a"}}},
        "write an object's name",
    ),
    "a revision like an option": (
        {"source": {"volume": {"claimName": "a", "revision": "-x"}}},
        "that does not start with a sign",
    ),
    "an interval of seconds": ({"interval": "5s"}, "interval must be between 1m and 744h"),
    "a timeout of days": ({"timeout": "48h"}, "timeout must be between 30s and 24h"),
    "no base in a base": ({"base": {}}, "set exactly one of niximage and image"),
    "a base by tag": ({"base": {"image": "docker.io/library/debian:12"}}, "spec.base.image"),
    "a base of no host": (
        {"base": {"image": f"library/debian@sha256:{'a' * 64}"}},
        "spec.base.image",
    ),
    "itself as its base": (
        {"base": {"niximage": {"name": "web"}}},
        "an image cannot be its own base",
    ),
    "more layers than runtimes take": ({"layering": {"maxLayers": 126}}, "spec.layering.maxLayers"),
    "a path of files twice": (
        {"files": [{"path": "/a", "content": ""}, {"path": "/a", "directory": True}]},
        "Duplicate value",
    ),
    "large files": (
        {"files": [{"path": "/a", "content": "ä" * 16384}, {"path": "/b", "content": "x" * 32769}]},
        "files may have 65536 bytes together",
    ),
    "large files in base64": (
        {"files": [{"path": f"/{n}", "contentBase64": "A" * 40000} for n in range(2)]},
        "files may have 65536 bytes together",
    ),
    "a file outside": (
        {"files": [{"path": "/etc/../nix", "content": ""}]},
        "path must have no '.' or '..' in it",
    ),
    "a file here": ({"files": [{"path": "/etc/.", "content": ""}]}, "path must have no '.' or"),
    "a file in the store": (
        {"files": [{"path": "/nix", "content": ""}]},
        "path must not lie in /nix, /proc, /sys or /dev",
    ),
    "a file of the runtime's": (
        {"files": [{"path": "/etc/hosts", "content": ""}]},
        "the container runtime provides /etc/hosts",
    ),
    "a file of nothing": ({"files": [{"path": "/x"}]}, "set exactly one of content"),
    "a file and a link": (
        {"files": [{"path": "/x", "content": "", "symlink": "/y"}]},
        "set exactly one of content",
    ),
    "no directory": ({"files": [{"path": "/x", "directory": False}]}, "spec.files[0].directory"),
    "a link with a mode": (
        {"files": [{"path": "/x", "symlink": "/y", "mode": "0777"}]},
        "a symlink has no mode",
    ),
    "a mode that is not octal": (
        {"files": [{"path": "/x", "content": "", "mode": "0968"}]},
        "spec.files[0].mode",
    ),
    "a path without a slash": ({"files": [{"path": "x", "content": ""}]}, "spec.files[0].path"),
    "bytes that are no base64": (
        {"files": [{"path": "/x", "contentBase64": "AAA"}]},
        "spec.files[0].contentBase64",
    ),
}

PLACED = {
    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "1500m"}},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "builds", "operator": "Exists", "effect": "NoSchedule"}],
    "className": "small.builds",
    "serviceAccountName": "publisher",
    "priorityClassName": "low",
    "queueName": "builds",
    "retry": {"limit": 0, "minBackoff": "10s", "maxBackoff": "10s"},
}

WELL_PLACED: dict[str, dict[str, Any]] = {
    "all there is": PLACED,
    "a number of processors": {"resources": {"limits": {"cpu": 2}}},
    "a part of one": {"resources": {"limits": {"cpu": "0.5"}}},
    "storage": {"resources": {"limits": {"ephemeral-storage": "10Gi"}}},
    "affinity": {
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}
                    ]
                }
            }
        }
    },
    "one backoff": {"retry": {"minBackoff": "5s"}},
}

BADLY_PLACED: dict[str, tuple[dict[str, Any], str]] = {
    "no quantity": ({"resources": {"limits": {"memory": "4 GB"}}}, "limits.memory"),
    "a negative quantity": ({"resources": {"limits": {"cpu": -1}}}, "limits.cpu"),
    "more than the limit": (
        {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1500M"}}},
        "requests.memory must not exceed limits.memory",
    ),
    "more storage than the limit": (
        {
            "resources": {
                "requests": {"ephemeral-storage": "2Gi"},
                "limits": {"ephemeral-storage": "1Gi"},
            }
        },
        "requests.ephemeral-storage must not exceed limits.ephemeral-storage",
    ),
    "a label's value": ({"nodeSelector": {"a": "b c"}}, "nodeSelector"),
    "an effect": ({"tolerations": [{"key": "a", "effect": "Never"}]}, "NoSchedule"),
    "affinity in words": ({"affinity": {"nodeAffinity": "near"}}, "spec.build.affinity"),
    "a class in upper case": ({"className": "Large"}, "write an object's name"),
    "too many retries": ({"retry": {"limit": 21}}, "retry.limit"),
    "backoffs the wrong way round": (
        {"retry": {"minBackoff": "1h", "maxBackoff": "1m"}},
        "minBackoff must not be longer than maxBackoff",
    ),
    "a backoff in words": ({"retry": {"minBackoff": "soon"}}, "write a duration as 90s, 10m"),
}

REFUSED |= {
    f"builds with {name}": ({"build": build}, words)
    for name, (build, words) in BADLY_PLACED.items()
}
ACCEPTED = GOOD | {f"builds with {name}": {"build": build} for name, build in WELL_PLACED.items()}

CLASS_GOOD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "everything": {
        "substituters": ["https://cache.nixos.org", "s3://team-cache"],
        "trustedPublicKeys": [f"cache.nixos.org-1:{'A' * 43}="],
        "nixpkgsURL": "https://git.example.org/nixpkgs",
        "popularityURL": "https://example.org/data/popularity.json",
        "sandbox": "Required",
        "allowedSources": ["https://git.example.org/", "ssh://git@example.org/set"],
        "builderImage": "registry.example.org/niximage:1",
        "resources": {"requests": {"cpu": 1}, "limits": {"memory": "4Gi"}},
        "maxResources": {"cpu": 4, "memory": "8Gi"},
        "maxTimeout": "2h",
        "nodeSelector": {"pool": "builds"},
        "tolerations": [{"operator": "Exists"}],
        "runtimeClassName": "gvisor",
        "store": {"ephemeral": {"size": "50Gi", "storageClassName": "fast"}},
        "maxBuilds": 20,
        "maxBuildsPerNamespace": 2,
    },
    "no substituter at all": {"substituters": []},
    "a store on the node": {"store": {"emptyDir": {}}},
}

CLASS_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a sandbox of sorts": ({"sandbox": "Maybe"}, '"Preferred", "Required"'),
    "popularity data in a bucket": (
        {"popularityURL": "gs://data/popularity.json"},
        "write an https:// URL of a file",
    ),
    "popularity data with a query": (
        {"popularityURL": "https://example.org/p.json?x=1"},
        "write an https:// URL of a file",
    ),
    "a cache without a scheme": ({"substituters": ["cache.nixos.org"]}, "write a URL with its"),
    "a cache twice": ({"substituters": ["https://a.b", "https://a.b"]}, "Duplicate value"),
    "a key without a name": ({"trustedPublicKeys": ["A" * 43 + "="]}, "write a key as Nix does"),
    "two stores": (
        {"store": {"emptyDir": {}, "ephemeral": {"size": "1Gi"}}},
        "set exactly one of emptyDir and ephemeral",
    ),
    "no store in a store": ({"store": {}}, "set exactly one of emptyDir and ephemeral"),
    "no build": ({"maxBuilds": 0}, "spec.maxBuilds"),
    "requests over limits": (
        {"resources": {"requests": {"cpu": 3}, "limits": {"cpu": 2}}},
        "requests.cpu must not exceed limits.cpu",
    ),
}


@pytest.mark.parametrize("spec", ACCEPTED.values(), ids=ACCEPTED)
def test_good_specs_are_accepted(cluster: Cluster, namespace: str, spec: dict[str, Any]) -> None:
    cluster.do("create", "--dry-run=server", "-f", "-", given=nix_image(namespace, **spec))


@pytest.mark.parametrize(("spec", "words"), REFUSED.values(), ids=REFUSED)
def test_bad_specs_are_refused_with_the_field_named(
    cluster: Cluster, namespace: str, spec: dict[str, Any], words: str
) -> None:
    done = cluster.run("create", "-f", "-", given=nix_image(namespace, **spec))
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize("spec", CLASS_GOOD.values(), ids=CLASS_GOOD)
def test_good_classes_are_accepted(cluster: Cluster, spec: dict[str, Any]) -> None:
    cluster.do("create", "--dry-run=server", "-f", "-", given=nix_build_class(**spec))


@pytest.mark.parametrize(("spec", "words"), CLASS_REFUSED.values(), ids=CLASS_REFUSED)
def test_bad_classes_are_refused_with_the_field_named(
    cluster: Cluster, spec: dict[str, Any], words: str
) -> None:
    done = cluster.run("create", "--dry-run=server", "-f", "-", given=nix_build_class(**spec))
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"packages": ["hello; import <x>"]}, "write an attribute path such as python3Packages"),
        ({"source": {"nixpkgs": {"channel": "26.05"}}}, "write a channel's name, for example"),
        ({"source": {"nixpkgs": {"revision": "abc123"}}}, "write the whole commit: 40 or 64"),
        ({"source": {"git": {**GIT, "url": "git@example.org:x"}}}, "write the repository as https"),
        ({"source": {"git": {**GIT, "ref": {"tag": "-x"}}}}, "write a ref's name"),
        ({"interval": "10 minutes"}, "write a duration as 90s, 10m or 1h30m"),
        (
            {"base": {"image": "debian:13"}},
            "the repository and the digest: docker.io/library/debian@",
        ),
        (
            {"source": {"git": {**GIT, "path": "/nix"}}},
            "path must be relative to the source's root",
        ),
        ({"source": {"git": {**GIT, "attr": "a b"}}}, "write an attribute path such as legacyP"),
        ({"files": [{"path": "motd", "content": "hi"}]}, "for example /etc/motd"),
        ({"config": {"workingDir": "srv"}}, "write an absolute path, for example /srv/data"),
        ({"config": {"user": "Root"}}, 'write a user as "1000", "1000:1000" or app:app'),
        ({"config": {"exposedPorts": ["80:80"]}}, 'write a port as "8080" or 53/udp'),
        ({"config": {"stopSignal": "TERM"}}, "write a signal as SIGINT, or its number"),
        ({"output": {"repository": "a/b"}}, "write one name without slashes"),
        ({"build": {"resources": {"limits": {"memory": "4 GB"}}}}, "write an amount as 2, 500m"),
    ],
)
def test_a_pattern_is_told_in_words(
    cluster: Cluster, namespace: str, spec: dict[str, Any], words: str
) -> None:
    done = cluster.run("create", "-f", "-", given=nix_image(namespace, **spec))
    assert words in done.stderr
    assert "type conversion" not in done.stderr, "a rule about what is no value at all"
