"""A manifest is read strictly, and nothing it holds can harm the reader."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.bucket.manifest import (
    MANIFEST_LIMIT,
    Member,
    media_type,
    parse_index,
    parse_manifest,
    parse_references,
)
from niximage.errors import Reason, Retryable
from niximage.image.descriptor import CONFIG, INDEX, LAYER_ZSTD, MANIFEST, Descriptor

_CONFIG = Descriptor.of(CONFIG, b"{}")
_LAYERS = tuple(Descriptor.of(LAYER_ZSTD, bytes([n])) for n in range(3))


def document(**changes: Any) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _CONFIG.to_json(),
            "layers": [layer.to_json() for layer in _LAYERS],
        }
        | changes
    ).encode()


def test_a_manifest_names_its_blobs_once() -> None:
    twice = [layer.to_json() for layer in (*_LAYERS, _LAYERS[0])]
    manifest = parse_manifest(document(layers=twice))
    assert manifest.config == _CONFIG
    assert manifest.layers == (*_LAYERS, _LAYERS[0])
    assert manifest.blobs == (_CONFIG, *_LAYERS)
    assert manifest.size == 2 + 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b" " * (MANIFEST_LIMIT + 1),
        document(schemaVersion=1),
        document(mediaType=INDEX),
        document(mediaType=None),
        document(config=None),
        document(layers=None),
        document(layers={}),
        document(layers=[None]),
        document(layers=[{**_CONFIG.to_json(), "size": -1}]),
        document(layers=[{**_CONFIG.to_json(), "size": True}]),
        document(layers=[{**_CONFIG.to_json(), "size": 1.0}]),
        document(layers=[{**_CONFIG.to_json(), "digest": "sha256:../../x"}]),
        document(layers=[{"digest": _CONFIG.digest}]),
        document(layers=[_CONFIG.to_json()] * 5000),
    ],
    ids=range(19),
)
def test_what_is_no_manifest_is_told(content: bytes) -> None:
    with pytest.raises(Retryable, match="the manifest cannot be used") as caught:
        parse_manifest(content)
    assert caught.value.reason is Reason.RESULT_INVALID
    assert len(str(caught.value)) < 1000


@given(st.binary(max_size=200))
def test_any_bytes_give_a_manifest_or_an_error(content: bytes) -> None:
    with pytest.raises(Retryable):
        parse_manifest(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (document(), MANIFEST),
        (document(mediaType=INDEX), INDEX),
        (b"{}", MANIFEST),
        (b'{"mediaType": 5}', MANIFEST),
        (b'{"mediaType": "evil\\r\\nSet-Cookie: x"}', MANIFEST),
        (b'{"mediaType": ""}', MANIFEST),
        (b'{"mediaType": "text/html; charset=utf-8"}', MANIFEST),
    ],
)
def test_the_media_type_is_fit_for_a_header(content: bytes, expected: str) -> None:
    assert media_type(content) == expected


def index_of(*platforms: Any, **changes: Any) -> bytes:
    members = [
        {**layer.to_json(), "platform": each}
        for layer, each in zip(_LAYERS, platforms, strict=False)
    ]
    return json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": members} | changes
    ).encode()


def test_an_index_names_its_members_and_their_platforms() -> None:
    arm = {"os": "linux", "architecture": "arm", "variant": "v7"}
    found = parse_index(index_of({"os": "linux", "architecture": "amd64"}, arm, {"os": "x"}))
    assert found == (
        Member("linux/amd64", _LAYERS[0]),
        Member("linux/arm/v7", _LAYERS[1]),
        Member("", _LAYERS[2]),
    )


@pytest.mark.parametrize(
    "content",
    [
        document(),
        index_of(),
        index_of({}, mediaType=MANIFEST),
        index_of(manifests="none"),
        index_of(manifests=[{"digest": _CONFIG.digest}]),
        index_of(manifests=[_CONFIG.to_json()] * 17000),
        b"[]",
    ],
    ids=range(7),
)
def test_what_is_no_index_is_told(content: bytes) -> None:
    with pytest.raises(Retryable, match="the manifest cannot be used") as caught:
        parse_index(content)
    assert len(str(caught.value)) < 1000


def test_what_a_manifest_refers_to() -> None:
    found = parse_references(document(subject=_LAYERS[0].to_json(), annotations={"a": "b", "c": 1}))
    assert found.media_type == MANIFEST
    assert found.blobs == (_CONFIG, *_LAYERS)
    assert found.manifests == ()
    assert found.subject == _LAYERS[0]
    assert found.artifact_type == CONFIG
    assert found.annotations == {"a": "b"}
    assert parse_references(document(artifactType="a/sbom")).artifact_type == "a/sbom"


@pytest.mark.parametrize(
    "kind", [INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"]
)
def test_what_an_index_refers_to(kind: str) -> None:
    twice = [layer.to_json() for layer in (*_LAYERS, _LAYERS[0])]
    content = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": twice}).encode()
    found = parse_references(content)
    assert (found.media_type, found.blobs, found.manifests) == (kind, (), _LAYERS)
    untyped = json.dumps({"schemaVersion": 2, "manifests": twice}).encode()
    assert parse_references(untyped).media_type == INDEX


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["manifests", "layers", "config", "subject", "digest", "annotations"]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_json_gives_references_or_an_error(value: Any) -> None:
    try:
        found = parse_references(json.dumps(value).encode())
    except Retryable:
        return  # refused, as it should be
    assert "layers" in value or "manifests" in value
    assert set(found.blobs) == set() or found.manifests == ()
