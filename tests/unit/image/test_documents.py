"""Config and manifest, to the byte."""

import hashlib
import json

import pytest

from niximage.api.spec import Config, EnvironmentVariable
from niximage.errors import Terminal
from niximage.image.descriptor import INDEX, LAYER_ZSTD, MANIFEST, Descriptor
from niximage.image.documents import (
    ImageLayer,
    comment,
    config_descriptor,
    config_document,
    index_document,
    manifest_document,
    platform,
)

LAYER = ImageLayer(
    Descriptor(LAYER_ZSTD, "sha256:" + "b" * 64, 42), "sha256:" + "d" * 64, "hello-2.12"
)


def runtime(config: Config, ca_bundle: str = "") -> dict[str, object]:
    document = config_document(config, system="x86_64-linux", layers=[LAYER], ca_bundle=ca_bundle)
    found: dict[str, object] = json.loads(document)["config"]
    return found


def test_a_config_to_the_byte() -> None:
    document = config_document(
        Config(
            entrypoint=["/bin/tini", "--"],
            cmd=["/bin/hello"],
            env=[EnvironmentVariable(name="LANG", value="C.UTF-8")],
            working_dir="/srv",
            user="1000:1000",
            exposed_ports=["8080", "53/udp"],
            volumes=["/data"],
            labels={"org.opencontainers.image.title": "hello"},
            stop_signal="SIGINT",
        ),
        system="aarch64-linux",
        layers=[LAYER, LAYER],
        ca_bundle="/etc/ssl/certs/ca-bundle.crt",
    )
    assert document == (
        b'{"architecture":"arm64","config":{"Cmd":["/bin/hello"],'
        b'"Entrypoint":["/bin/tini","--"],'
        b'"Env":["PATH=/bin:/sbin:/usr/bin:/usr/sbin",'
        b'"SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt","LANG=C.UTF-8"],'
        b'"ExposedPorts":{"53/udp":{},"8080/tcp":{}},'
        b'"Labels":{"org.opencontainers.image.title":"hello"},"StopSignal":"SIGINT",'
        b'"User":"1000:1000","Volumes":{"/data":{}},"WorkingDir":"/srv"},'
        b'"created":"1970-01-01T00:00:00Z","history":['
        b'{"comment":"hello-2.12","created":"1970-01-01T00:00:00Z","created_by":"niximage"},'
        b'{"comment":"hello-2.12","created":"1970-01-01T00:00:00Z","created_by":"niximage"}],'
        b'"os":"linux","rootfs":{"diff_ids":["sha256:' + b"d" * 64 + b'",'
        b'"sha256:' + b"d" * 64 + b'"],"type":"layers"}}'
    )


def test_a_manifest_to_the_byte() -> None:
    config = config_descriptor(b"{}")
    assert manifest_document(config, [LAYER.descriptor]) == (
        b'{"config":{"digest":"sha256:' + hashlib.sha256(b"{}").hexdigest().encode() + b'",'
        b'"mediaType":"application/vnd.oci.image.config.v1+json","size":2},'
        b'"layers":[{"digest":"sha256:' + b"b" * 64 + b'",'
        b'"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":42}],'
        b'"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}'
    )


@pytest.mark.parametrize(
    ("wish", "time", "said"),
    [
        ("Epoch", 1_700_000_000, "1970-01-01T00:00:00Z"),
        ("SourceTimestamp", 1_700_000_000, "2023-11-14T22:13:20Z"),
        ("SourceTimestamp", 0, "1970-01-01T00:00:00Z"),
        ("SourceTimestamp", 253_402_300_799, "9999-12-31T23:59:59Z"),
    ],
)
def test_the_time_is_the_source_s_only_on_request(wish: str, time: int, said: str) -> None:
    config = Config.model_validate({"created": wish})
    made = config_document(config, system="x86_64-linux", layers=[LAYER], source_time=time)
    document = json.loads(made)
    assert document["created"] == document["history"][0]["created"] == said


def test_an_empty_config_has_a_path_and_nothing_else() -> None:
    assert runtime(Config()) == {"Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"]}


def test_the_user_s_variables_win() -> None:
    config = Config(
        env=[
            EnvironmentVariable(name="SSL_CERT_FILE", value="/mine"),
            EnvironmentVariable(name="PATH", value="/opt/bin"),
        ]
    )
    assert runtime(config, "/etc/x")["Env"] == ["PATH=/opt/bin", "SSL_CERT_FILE=/mine"]


def test_a_comment_names_twenty_paths_at_most() -> None:
    assert comment(["b-1", "a-1"]) == "a-1, b-1"
    assert comment([f"p{i:02}" for i in range(25)]).endswith("p18, p19 and 5 more")


def test_a_system_without_containers_is_refused() -> None:
    with pytest.raises(Terminal, match="x86_64-darwin"):
        platform("x86_64-darwin")


def test_an_index_to_the_byte_in_any_order() -> None:
    members = [
        ("aarch64-linux", Descriptor(MANIFEST, "sha256:" + "a" * 64, 1)),
        ("x86_64-linux", Descriptor(MANIFEST, "sha256:" + "b" * 64, 2)),
    ]
    document = index_document(members)
    assert document == index_document(members[::-1])
    kind = MANIFEST.encode()
    assert document == (
        b'{"manifests":['
        b'{"digest":"sha256:' + b"b" * 64 + b'","mediaType":"' + kind + b'",'
        b'"platform":{"architecture":"amd64","os":"linux"},"size":2},'
        b'{"digest":"sha256:' + b"a" * 64 + b'","mediaType":"' + kind + b'",'
        b'"platform":{"architecture":"arm64","os":"linux"},"size":1}],'
        b'"mediaType":"' + INDEX.encode() + b'","schemaVersion":2}'
    )
