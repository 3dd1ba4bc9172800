"""What a base's documents may say, and how configs are merged."""

import contextlib
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.api.spec import Config
from niximage.errors import Reason, Terminal
from niximage.image.base import (
    BaseConfig,
    choose_manifest,
    merge_config,
    read_base_config,
    read_base_manifest,
    without,
)
from niximage.image.descriptor import (
    CONFIG,
    LAYER_GZIP,
    LAYER_TAR,
    LAYER_ZSTD,
    MANIFEST,
    Descriptor,
)
from niximage.image.documents import ImageLayer, config_document
from unit.image.closures import closure, store_path

NAME = "example.org/debian@sha256:…"
SYSTEM = "x86_64-linux"
SHA = [f"sha256:{digit * 64}" for digit in "0123456789"]
DOCKER = "application/vnd.docker."


def blob(kind: str, number: int = 0, size: int = 10) -> dict[str, Any]:
    return {"mediaType": kind, "digest": SHA[number], "size": size}


def manifest(*layers: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(CONFIG, 9),
            "layers": list(layers) or [blob(LAYER_GZIP)],
            **fields,
        }
    ).encode()


@pytest.mark.parametrize(
    ("kind", "read_as"),
    [
        (LAYER_GZIP, LAYER_GZIP),
        (LAYER_ZSTD, LAYER_ZSTD),
        (LAYER_TAR, LAYER_TAR),
        (DOCKER + "image.rootfs.diff.tar.gzip", LAYER_GZIP),
        (DOCKER + "image.rootfs.diff.tar", LAYER_TAR),
        (DOCKER + "image.rootfs.diff.tar.zstd", LAYER_ZSTD),
    ],
)
def test_layers_get_the_media_types_of_oci(kind: str, read_as: str) -> None:
    found = read_base_manifest(manifest(blob(kind, 1)), NAME)
    assert found.layers == (Descriptor(read_as, SHA[1], 10),)


def test_dockers_manifest_is_read_and_one_of_oci_without_a_type() -> None:
    docker = manifest(
        mediaType=DOCKER + "distribution.manifest.v2+json",
        config=blob(DOCKER + "container.image.v1+json", 9),
    )
    assert read_base_manifest(docker, NAME).config == Descriptor(CONFIG, SHA[9], 10)
    untyped = json.loads(manifest())
    del untyped["mediaType"]
    assert read_base_manifest(json.dumps(untyped).encode(), NAME).layers


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        (manifest(schemaVersion=1), "not an image of OCI"),
        (manifest(mediaType=DOCKER + "distribution.manifest.v1+prettyjws"), "not an image of OCI"),
        (manifest(mediaType=[MANIFEST]), "not an image of OCI"),
        (manifest(layers=[]), "1 to 127 layers"),
        (manifest(layers=[blob(LAYER_GZIP)] * 128), "1 to 127 layers"),
        (manifest(layers="x"), "1 to 127 layers"),
        (manifest(config=blob("application/vnd.cncf.helm.config.v1+json")), "no container image"),
        (manifest(config=blob(CONFIG, size=5 << 20)), "its config has"),
        (manifest(blob(LAYER_GZIP, size=-1)), "malformed descriptor"),
        (manifest({**blob(LAYER_GZIP), "digest": "sha512:" + "0" * 128}), "malformed descriptor"),
        (manifest(blob(LAYER_GZIP, size=True)), "malformed descriptor"),
        (manifest(blob(LAYER_GZIP, size=40 << 30), blob(LAYER_GZIP, 1, 40 << 30)), "64 GiB"),
        (
            manifest(blob(DOCKER + "image.rootfs.foreign.diff.tar.gzip")),
            "media type application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        ),
        (manifest(blob(LAYER_GZIP + "+encrypted")), "+encrypted"),
    ],
)
def test_other_manifests_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(Terminal) as caught:
        read_base_manifest(content, NAME)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert words in caught.value.message
    assert NAME in caught.value.message


def index(*platforms: dict[str, str]) -> bytes:
    manifests = [{**blob(MANIFEST, n), "platform": each} for n, each in enumerate(platforms)]
    return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()


AMD64 = {"os": "linux", "architecture": "amd64"}
ARM = {"os": "linux", "architecture": "arm"}


@pytest.mark.parametrize(
    ("platforms", "system", "chosen"),
    [
        ([ARM, AMD64], SYSTEM, 1),
        ([{**ARM, "variant": "v6"}, {**ARM, "variant": "v7"}], "armv7l-linux", 1),
        ([{"os": "windows", "architecture": "amd64"}, AMD64], SYSTEM, 1),
        ([{"os": "linux", "architecture": "arm64", "variant": "v8"}], "aarch64-linux", 0),
    ],
)
def test_the_image_of_the_platform_is_chosen(
    platforms: list[dict[str, str]], system: str, chosen: int
) -> None:
    assert choose_manifest(index(*platforms), system, NAME) == SHA[chosen]


@pytest.mark.parametrize("content", [manifest(), manifest(mediaType=[MANIFEST])])
def test_a_manifest_is_no_index(content: bytes) -> None:
    assert choose_manifest(content, SYSTEM, NAME) is None


@pytest.mark.parametrize(
    ("platforms", "words"),
    [
        ([ARM, {"os": "unknown", "architecture": "unknown"}], "is for linux/arm, not"),
        ([], "is for nothing, not for linux/amd64"),
    ],
)
def test_an_index_without_the_platform_is_refused(
    platforms: list[dict[str, str]], words: str
) -> None:
    with pytest.raises(Terminal) as caught:
        choose_manifest(index(*platforms), SYSTEM, NAME)
    assert words in caught.value.message


def config(runtime: Any = None, history: Any = None, **fields: Any) -> bytes:
    return json.dumps(
        {
            **AMD64,
            "config": runtime,
            "history": history,
            "rootfs": {"type": "layers", "diff_ids": SHA[:2]},
            **fields,
        }
    ).encode()


def read(content: bytes) -> BaseConfig:
    return read_base_config(content, 2, SYSTEM, NAME)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (config(architecture="arm64"), "is for linux/arm64, not for linux/amd64"),
        (config(os="windows"), "is for windows/amd64"),
        (config(rootfs={"diff_ids": SHA[:1]}), "one diff ID for each layer"),
        (config(rootfs={"diff_ids": ["x", "y"]}), "one diff ID for each layer"),
        (config(rootfs=None), "one diff ID for each layer"),
        (config({"Healthcheck": {"Interval": 1.5}}), "cannot be passed on"),
        (config({"User": "\udead"}), "cannot be passed on"),
        (b"nothing", "no JSON object"),
    ],
)
def test_configs_that_do_not_fit_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(Terminal) as caught:
        read(content)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "history", [None, [], [{"created_by": "x"}], [{}, {}, {}], "x", [1, 2], [{"empty_layer": True}]]
)
def test_a_history_that_does_not_fit_the_layers_is_made_anew(history: Any) -> None:
    assert [each["created_by"] for each in read(config(history=history)).history] == [
        "the base"
    ] * 2


def merged(base: dict[str, Any], own: Config | None = None, bundle: str = "") -> dict[str, Any]:
    """The runtime part of a merged config."""
    own = own or Config()
    layer = ImageLayer(Descriptor(LAYER_ZSTD, SHA[5], 1), SHA[6], "root")
    document = config_document(own, system=SYSTEM, layers=[layer], ca_bundle=bundle)
    made = json.loads(merge_config(document, read(config(base)), own))
    assert made["rootfs"]["diff_ids"] == [*SHA[:2], SHA[6]]
    found: dict[str, Any] = made["config"]
    return found


PATH = "PATH=/bin:/sbin:/usr/bin:/usr/sbin"


@pytest.mark.parametrize(
    ("base", "own", "expected"),
    [
        ({}, {}, {"Env": [PATH]}),
        ({"Cmd": ["a"], "Entrypoint": ["b"]}, {}, {"Cmd": ["a"], "Entrypoint": ["b"]}),
        ({"Cmd": ["a"], "Entrypoint": ["b"]}, {"cmd": ["c"]}, {"Cmd": ["c"], "Entrypoint": ["b"]}),
        ({"Cmd": ["a"], "Entrypoint": ["b"]}, {"entrypoint": ["c"]}, {"Entrypoint": ["c"]}),
        ({"Cmd": ["a"], "Entrypoint": ["b"]}, {"entrypoint": []}, {}),
        ({"Cmd": ["a"], "Entrypoint": ["b"]}, {"cmd": []}, {"Entrypoint": ["b"]}),
        (
            {"Cmd": ["a"]},
            {"entrypoint": ["c"], "cmd": ["d"]},
            {"Entrypoint": ["c"], "Cmd": ["d"]},
        ),
        ({"User": "7", "WorkingDir": "/x"}, {}, {"User": "7", "WorkingDir": "/x"}),
        ({"User": "7", "WorkingDir": "/x"}, {"user": "8"}, {"User": "8", "WorkingDir": "/x"}),
        ({"StopSignal": "SIGINT"}, {"stopSignal": "SIGTERM"}, {"StopSignal": "SIGTERM"}),
        (
            {"Labels": {"a": "1", "b": "1"}},
            {"labels": {"b": "2", "c": "2"}},
            {"Labels": {"a": "1", "b": "2", "c": "2"}},
        ),
        (
            {"ExposedPorts": {"80/tcp": {}}, "Volumes": {"/x": {}}},
            {"exposedPorts": ["443"], "volumes": ["/y"]},
            {
                "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
                "Volumes": {"/x": {}, "/y": {}},
            },
        ),
        ({"Healthcheck": {"Test": ["CMD", "x"]}}, {}, {"Healthcheck": {"Test": ["CMD", "x"]}}),
        ({"OnBuild": ["RUN x"], "Hostname": "h", "AttachStdin": True}, {}, {}),
        ({"Env": "x", "Cmd": "y", "Labels": [], "User": 5, "Volumes": None}, {}, {"Env": [PATH]}),
    ],
    ids=str,
)
def test_the_image_wins_and_the_base_is_kept(
    base: dict[str, Any], own: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = merged(base, Config.model_validate(own))
    if "Env" not in expected:
        del found["Env"]
    assert found == expected


@pytest.mark.parametrize(
    ("base", "own", "expected"),
    [
        (["A=1", "B=1"], {"B": "2", "C": "2"}, ["A=1", "B=2", PATH, "C=2"]),
        (["PATH=/usr/local/bin:/bin"], {}, ["PATH=/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin"]),
        (["PATH=/opt", "A=1"], {"PATH": "/mine"}, ["PATH=/mine", "A=1"]),
        (["A", "B="], {}, ["A=", "B=", PATH]),
    ],
)
def test_variables_are_merged_by_name(
    base: list[str], own: dict[str, str], expected: list[str]
) -> None:
    variables = [{"name": name, "value": value} for name, value in own.items()]
    assert merged({"Env": base}, Config.model_validate({"env": variables}))["Env"] == expected


def test_the_images_own_ca_bundle_is_believed() -> None:
    base = {"Env": ["SSL_CERT_FILE=/old"]}
    assert "SSL_CERT_FILE=/old" in merged(base)["Env"]
    assert "SSL_CERT_FILE=/new" in merged(base, bundle="/new")["Env"]


def test_the_history_of_the_base_comes_first() -> None:
    told = [{"created_by": "one"}, {"created_by": "two", "empty_layer": True}, {"comment": "three"}]
    base = read(config(history=told))
    assert list(base.history) == told


def test_too_many_layers_together_are_refused() -> None:
    layer = ImageLayer(Descriptor(LAYER_ZSTD, SHA[5], 1), SHA[6], "root")
    own = config_document(Config(), system=SYSTEM, layers=[layer] * 126)
    with pytest.raises(Terminal) as caught:
        merge_config(own, read(config()), Config())
    assert "128 layers together" in caught.value.message


def test_what_the_base_has_is_left_out_of_the_closure() -> None:
    whole = closure({"a": (1, ["b", "c"]), "b": (1, ["c"]), "c": (1, [])})
    paths = {name: store_path(name) for name in "abc"}
    names = {path.removeprefix("/nix/store/") for path in paths.values()}
    left = without(whole, {paths["b"].removeprefix("/nix/store/"), "0" * 32 + "-unrelated"})
    assert set(left.infos) == {paths["a"], paths["c"]}
    assert left[paths["a"]].references == (paths["c"],)
    assert len(without(whole, names)) == 0


@pytest.mark.parametrize("depth", range(sys.getrecursionlimit() - 400, sys.getrecursionlimit(), 10))
def test_no_nesting_makes_a_traceback(depth: int) -> None:
    nested = config("deep").replace(b'"deep"', b'{"Labels": ' + b"[" * depth + b"]" * depth + b"}")
    with contextlib.suppress(Terminal):
        read(nested)


@given(st.binary(max_size=200))
def test_no_bytes_make_a_traceback(content: bytes) -> None:
    with pytest.raises(Terminal):
        read_base_manifest(content, NAME)
    with pytest.raises(Terminal):
        read(content)
