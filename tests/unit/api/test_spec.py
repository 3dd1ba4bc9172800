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
    "revision and hash": {
        "source": {"nixpkgs": {"revision": "a" * 40, "narHash": f"sha256-{'A' * 43}="}}
    },
    "affinity": {"build": {"affinity": {"podAffinity": {"anything": [1, {"a": None}]}}}},
    "a ConfigMap": {"output": {"configMap": True}},
    "deletion": {"output": {"deletionPolicy": "Delete"}},
    "tags": {"output": {"tags": ["stable", "v1.2_3-x"], "expectedDigest": f"sha256:{'a' * 64}"}},
    "git": {"source": {"git": GIT}},
    "git over ssh": {"source": {"git": {**GIT, "url": "ssh://git@example.org/x"}}},
    "git tag": {"source": {"git": {**GIT, "ref": {"tag": "v1.0"}}}},
    "git ref name": {"source": {"git": {**GIT, "ref": {"name": "refs/pull/1/head"}}}},
    "git with a secret": {"source": {"git": {**GIT, "secretRef": {"name": "keys"}}}},
    "git over ssh with a secret": {
        "source": {
            "git": {**GIT, "url": "ssh://git@example.org/x", "secretRef": {"name": "keys.2"}}
        }
    },
    "a GitRepository of Flux": {
        "source": {"sourceRef": {"kind": "GitRepository", "name": "podinfo"}}
    },
    "an ExternalArtifact of Flux": {
        "source": {
            "sourceRef": {
                "apiVersion": "source.toolkit.fluxcd.io/v1",
                "kind": "ExternalArtifact",
                "name": "set.1",
                "path": "nix",
                "attr": "pkgs",
            }
        }
    },
    "a volume": {"source": {"volume": {"claimName": "packages"}}},
    "a volume's content by name": {
        "source": {
            "volume": {
                "claimName": "packages",
                "revision": "2026-05-04T12:00+02",
                "path": "set",
                "attr": "a.b",
            }
        }
    },
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
    "what nixpkgs refuses": {
        "nixpkgsConfig": {
            "allowUnfree": True,
            "allowBroken": True,
            "permittedInsecurePackages": ["openssl-1.1.1w", "python-2.7.18.6"],
        }
    },
    "files of each kind": {
        "files": [
            {"path": "/etc/app/conf", "content": "a\nb\n", "mode": "0640", "uid": 1000},
            {"path": "/etc/empty", "content": "", "mode": "4755"},
            {"path": "/etc/raw", "contentBase64": "AP8=", "gid": 2147483647},
            {"path": "/var/lib/app", "directory": True, "mode": "700"},
            {"path": "/etc/..data", "symlink": "../run/data"},
            {"path": "/nixos/ä b", "symlink": "/nix/store"},
        ]
    },
    "as many files as there may be": {
        "files": [{"path": f"/f/{n}", "content": "x" * 1024} for n in range(64)]
    },
    "a Nix database": {"nixDatabase": True},
    "another platform": {"platforms": ["linux/arm64"]},
    "two platforms": {"platforms": ["linux/arm64", "linux/amd64"]},
    "layering": {"layering": {"maxLayers": 125, "strategy": "Popularity"}},
    "gzip": {"compression": "gzip"},
    "the source's time": {"config": {"created": "SourceTimestamp"}},
}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no packages": ({"packages": []}, "spec.packages"),
    "Nix code": ({"packages": ["hello; builtins.exec"]}, "spec.packages.0"),
    "interpolation": ({"packages": ["${builtins.storePath}"]}, "spec.packages.0"),
    "quotes": ({"packages": ['a"b']}, "spec.packages.0"),
    "a leading dash": ({"packages": ["--option"]}, "spec.packages.0"),
    "a newline at the end": ({"packages": ["hello\n"]}, "spec.packages.0"),
    "too many packages": ({"packages": [f"p{n}" for n in range(129)]}, "spec.packages"),
    "affinity without end": (
        {"build": {"affinity": {"podAffinity": {"a": "x" * 8192}}}},
        "spec.build.affinity.podAffinity: Value error, it may have 8192 bytes as JSON",
    ),
    "affinity of another kind": ({"build": {"affinity": {"affinity": {}}}}, "spec.build.affinity"),
    "no platform": ({"platforms": []}, "spec.platforms"),
    "a platform twice": ({"platforms": ["linux/amd64"] * 2}, "name each platform once"),
    "more platforms than there are": ({"platforms": ["linux/amd64"] * 3}, "spec.platforms"),
    "an unknown platform": ({"platforms": ["windows/amd64"]}, "spec.platforms.0"),
    "a Nix system": ({"platforms": ["x86_64-linux"]}, "spec.platforms.0"),
    "no source": ({"source": {}}, "exactly one of nixpkgs, git"),
    "two sources": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05"}, "git": GIT}},
        "exactly one of nixpkgs, git",
    ),
    "channel and revision": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05", "revision": "a" * 40}}},
        "exactly one of channel and revision",
    ),
    "a hash of a channel": (
        {"source": {"nixpkgs": {"channel": "nixos-26.05", "narHash": f"sha256-{'A' * 43}="}}},
        "narHash goes with revision",
    ),
    "a tag with a slash": ({"output": {"tags": ["a/b"]}}, "output.tags.0"),
    "a short expected digest": ({"output": {"expectedDigest": "sha256:a"}}, "expectedDigest"),
    "short revision": ({"source": {"nixpkgs": {"revision": "abc"}}}, "revision"),
    "no ref": ({"source": {"git": {**GIT, "ref": {}}}}, "exactly one of branch"),
    "a ref like an option": (
        {"source": {"git": {**GIT, "ref": {"branch": "--upload-pack=x"}}}},
        "branch",
    ),
    "ext transport": ({"source": {"git": {**GIT, "url": "ext::sh -c id"}}}, "url"),
    "file transport": ({"source": {"git": {**GIT, "url": "file:///etc"}}}, "url"),
    "a host that is none": (
        {"source": {"git": {**GIT, "url": "https://[example.org/set"}}},
        "spec.source.git.url: Value error, Invalid IPv6 URL",
    ),
    "a port that is none": (
        {"source": {"git": {**GIT, "url": "https://example.org:99999/set"}}},
        "spec.source.git.url: Value error, Port out of range",
    ),
    "path escape": ({"source": {"git": {**GIT, "path": "a/../../b"}}}, "no '..'"),
    "a secret and a password": (
        {"source": {"git": {**GIT, "url": "https://a:b@h/x", "secretRef": {"name": "k"}}}},
        "the url has a user of its own",
    ),
    "a secret of another namespace": (
        {"source": {"git": {**GIT, "secretRef": {"name": "k", "namespace": "other"}}}},
        "namespace",
    ),
    "an object of Flux elsewhere": (
        {"source": {"sourceRef": {"kind": "GitRepository", "name": "a", "namespace": "b"}}},
        "namespace",
    ),
    "a volume of no name": ({"source": {"volume": {"revision": "1"}}}, "claimName"),
    "a revision of blanks": (
        {"source": {"volume": {"claimName": "a", "revision": "a b"}}},
        "source.volume.revision",
    ),
    "a path out of a volume": (
        {"source": {"volume": {"claimName": "a", "path": "x/../.."}}},
        "path must stay inside the source",
    ),
    "absolute path": ({"source": {"git": {**GIT, "path": "/etc"}}}, "path"),
    "interval too short": ({"interval": "59s"}, "between 1m and 744h"),
    "interval no duration": ({"interval": "soon"}, "interval"),
    "timeout too long": ({"timeout": "25h"}, "between 30s and 24h"),
    "relative directory": ({"config": {"workingDir": "srv"}}, "workingDir"),
    "user": ({"config": {"user": "root; id"}}, "user"),
    "unknown field": ({"pakages": ["hello"]}, "pakages"),
    "repository path": ({"output": {"repository": "other/name"}}, "repository"),
    "an insecure package with an expression": (
        {"nixpkgsConfig": {"permittedInsecurePackages": ["x; y"]}},
        "permittedInsecurePackages.0",
    ),
    "no layer": ({"layering": {"maxLayers": 0}}, "layering.maxLayers"),
    "too many layers": ({"layering": {"maxLayers": 126}}, "layering.maxLayers"),
    "unknown strategy": ({"layering": {"strategy": "Best"}}, "layering.strategy"),
    "unknown compression": ({"compression": "lz4"}, "compression"),
    "unknown time": ({"config": {"created": "Now"}}, "config.created"),
    "too many files": (
        {"files": [{"path": f"/f{n}", "content": ""} for n in range(65)]},
        "spec.files",
    ),
    "too large files": (
        {"files": [{"path": "/a", "content": "ä" * 16384}, {"path": "/b", "content": "x" * 32769}]},
        "files may have 65536 bytes together",
    ),
    "too large files in base64": (
        {
            "files": [
                {"path": "/a", "contentBase64": "A" * 40000},
                {"path": "/b", "contentBase64": "A" * 40000},
            ]
        },
        "files may have 65536 bytes together",
    ),
    "a path twice": (
        {"files": [{"path": "/a", "content": ""}, {"path": "/a", "directory": True}]},
        "/a twice",
    ),
    "a file of nothing": ({"files": [{"path": "/x"}]}, "exactly one of content"),
    "no directory": ({"files": [{"path": "/x", "directory": False}]}, "files.0.directory"),
    "bytes that are no base64": (
        {"files": [{"path": "/x", "contentBase64": "AAA"}]},
        "files.0.contentBase64",
    ),
    "a link to nowhere": ({"files": [{"path": "/x", "symlink": ""}]}, "files.0.symlink"),
    "a link with a mode": (
        {"files": [{"path": "/x", "symlink": "/y", "mode": "0777"}]},
        "a symlink has no mode",
    ),
}

BAD_FILES: list[tuple[str, dict[str, Any], str]] = [
    ("with a relative path", {"path": "etc/x"}, "files.0.path"),
    ("at the root", {"path": "/"}, "files.0.path"),
    ("with a slash at the end", {"path": "/etc/"}, "files.0.path"),
    ("with two slashes", {"path": "/etc//x"}, "files.0.path"),
    ("with a control character", {"path": "/etc/\x07"}, "files.0.path"),
    ("with a newline at the end", {"path": "/etc/x\n"}, "files.0.path"),
    ("with a very long name", {"path": "/" + "x" * 256}, "files.0.path"),
    ("outside", {"path": "/etc/../nix"}, "no '.' or '..'"),
    ("here", {"path": "/etc/./x"}, "no '.' or '..'"),
    ("in the store", {"path": "/nix/store/x"}, "/nix, /proc, /sys or /dev"),
    ("instead of a mount", {"path": "/dev"}, "/nix, /proc, /sys or /dev"),
    ("of the runtime's", {"path": "/etc/resolv.conf"}, "container runtime provides"),
    ("with two contents", {"path": "/x", "contentBase64": ""}, "exactly one of content"),
    ("that is a link, too", {"path": "/x", "symlink": "/y"}, "exactly one of content"),
    ("that is a directory, too", {"path": "/x", "directory": True}, "exactly one of"),
    ("with a decimal mode", {"path": "/x", "mode": "0968"}, "files.0.mode"),
    ("with a mode of five digits", {"path": "/x", "mode": "10644"}, "files.0.mode"),
    ("with a number for a mode", {"path": "/x", "mode": 420}, "files.0.mode"),
    ("of a negative user", {"path": "/x", "uid": -1}, "files.0.uid"),
    ("of a group too large", {"path": "/x", "gid": 1 << 31}, "files.0.gid"),
]
BAD |= {
    f"a file {name}": ({"files": [{"content": "x", **file}]}, words)
    for name, file, words in BAD_FILES
}


SHA = f"sha256:{'a' * 64}"

GOOD |= {
    f"a base {name}": {"base": base}
    for name, base in {
        "of the namespace": {"niximage": {"name": "base"}},
        "of Docker Hub": {"image": f"docker.io/library/debian@{SHA}"},
        "with a tag": {"image": f"docker.io/library/debian:12-slim@{SHA}"},
        "on a port": {"image": f"registry:5000/team/base@{SHA}"},
        "on loopback": {"image": f"127.0.0.1:5000/base@{SHA}"},
        "on localhost": {"image": f"localhost/base@{SHA}"},
        "of IPv6": {"image": f"[::1]:5000/team/base@{SHA}"},
    }.items()
}

BAD |= {
    f"a base {name}": ({"base": base}, words)
    for name, base, words in [
        ("of nothing", {}, "exactly one of niximage and image"),
        (
            "of both kinds",
            {"niximage": {"name": "base"}, "image": f"a.b/c@{SHA}"},
            "exactly one of niximage and image",
        ),
        ("that is the image itself", {"niximage": {"name": "web"}}, "its own base"),
        ("without a digest", {"image": "docker.io/library/debian:12"}, "base.image"),
        ("without a host", {"image": f"library/debian@{SHA}"}, "base.image"),
        ("with a short digest", {"image": "a.b/c@sha256:abc"}, "base.image"),
        ("with a transport", {"image": f"docker://a.b/c@{SHA}"}, "base.image"),
        ("that is an option", {"image": f"--x.y/c@{SHA}"}, "base.image"),
        ("with upper case", {"image": f"a.b/C@{SHA}"}, "base.image"),
        ("with a newline", {"image": f"a.b/c@{SHA}\n"}, "base.image"),
        ("of no name", {"niximage": {"name": "a/b"}}, "base.niximage.name"),
    ]
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


def test_what_a_pattern_wants_is_told_in_words() -> None:
    with pytest.raises(Terminal) as caught:
        load_file(document(packages=["a b"]), "web.yaml")
    assert caught.value.message == (
        "web.yaml: spec.packages.0: write an attribute path such as python3Packages.requests, "
        "without a version; openssl^bin,out selects outputs (got 'a b')"
    )


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
        (document(package=["x"]), "spec.package: unknown field; did you mean packages?"),
        (document(config={"command": ["x"]}), "spec.config.command: unknown field.*mean cmd?"),
        (document(config={"env": [{"nam": "x", "value": "y"}]}), "env.0.nam: .* mean name?"),
        (document(output={"zzz": 1}), "output.zzz: unknown field; there are repository, tags"),
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
