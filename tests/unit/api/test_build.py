"""Input hashes: equal for equal images, different for anything that shapes an image."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from niximage.api.build import (
    BuildOutputs,
    BuildRequest,
    BuiltPackage,
    PinnedBase,
    PinnedSource,
    input_hash,
)
from niximage.api.canonical import canonical_hash, canonical_json
from niximage.api.contents import ImageFile
from niximage.api.image import NixImage
from niximage.api.spec import NixImageSpec
from niximage.image.entries import FileEntry
from niximage.image.root import file_entry

PINNED = PinnedSource(url="https://example.org/x", revision="a" * 40)


def image(**spec: Any) -> NixImage:
    source = {"nixpkgs": {"channel": "nixos-26.05"}}
    return NixImage.model_validate(
        {"metadata": {"name": "web"}, "spec": {"packages": ["a", "bc"], "source": source, **spec}}
    )


def test_order_of_packages_and_names_of_sources_do_not_matter() -> None:
    same = input_hash(image(), PINNED)
    assert input_hash(image(packages=["bc", "a"]), PINNED) == same
    mirror = PINNED.model_copy(update={"url": "https://mirror.example.org/x", "ref": "refs/tags/1"})
    assert input_hash(image(), mirror) == same
    assert input_hash(image(interval="1h", suspend=True, timeout="2h"), PINNED) == same


FILES = [{"path": "/b", "content": "x"}, {"path": "/a", "directory": True}]

# Two ways to write one thing.
ALIKE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"nixpkgsConfig": {}, "layering": {}, "config": {}, "files": [], "nixDatabase": False}),
    ({}, {"compression": "zstd", "layering": {"maxLayers": 64, "strategy": "Auto"}}),
    ({}, {"config": {"created": "Epoch", "env": [], "labels": {}}}),
    ({}, {"nixpkgsConfig": {"allowUnfree": False, "permittedInsecurePackages": []}}),
    ({"config": {"volumes": ["/a", "/b"]}}, {"config": {"volumes": ["/b", "/a"]}}),
    ({"files": FILES}, {"files": FILES[::-1]}),
    (
        {"files": FILES},
        {
            "files": [
                {"path": "/a", "directory": True, "mode": "755", "uid": 0},
                {"path": "/b", "contentBase64": "eA==", "mode": "0644"},
            ]
        },
    ),
    (
        {"nixpkgsConfig": {"permittedInsecurePackages": ["a-1", "b-2"]}},
        {"nixpkgsConfig": {"permittedInsecurePackages": ["b-2", "a-1"]}},
    ),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_what_means_the_same_has_the_same_hash(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert input_hash(image(**one), PINNED) == input_hash(image(**other), PINNED)


@pytest.mark.parametrize(
    "spec",
    [
        {"packages": ["ab", "c"]},
        {"packages": ["a", "bc^out"]},
        {"config": {"cmd": ["hello"]}},
        {"config": {"cmd": ["hel", "lo"]}},
        {"config": {"env": [{"name": "A", "value": "b"}]}},
        {"config": {"user": "1000"}},
        {"config": {"created": "SourceTimestamp"}},
        {"nixpkgsConfig": {"allowUnfree": True}},
        {"nixpkgsConfig": {"allowBroken": True}},
        {"nixpkgsConfig": {"permittedInsecurePackages": ["a-1"]}},
        {"files": [{"path": "/a", "content": ""}]},
        {"nixDatabase": True},
        {"layering": {"maxLayers": 63}},
        {"layering": {"strategy": "Popularity"}},
        {"compression": "gzip"},
    ],
    ids=str,
)
def test_what_shapes_the_image_shapes_the_hash(spec: dict[str, Any]) -> None:
    assert input_hash(image(**spec), PINNED) != input_hash(image(), PINNED)


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "b" * 40},
        {"path": "nix"},
        {"attr": "pkgs"},
        {"nar_hash": f"sha256-{'A' * 43}="},
    ],
)
def test_the_pinned_source_shapes_the_hash(change: dict[str, str]) -> None:
    other = PINNED.model_copy(update=change)
    assert input_hash(image(), other) != input_hash(image(), PINNED)


PLATFORMS = [["linux/amd64"], ["linux/arm64"], ["linux/amd64", "linux/arm64"]]


def test_platforms_shape_the_hash_and_their_order_does_not() -> None:
    hashes = {input_hash(image(platforms=platforms), PINNED) for platforms in PLATFORMS}
    assert len(hashes) == len(PLATFORMS)
    both = PLATFORMS[-1]
    assert input_hash(image(platforms=both[::-1]), PINNED) in hashes
    request = BuildRequest.of(image(platforms=both[::-1]), PINNED)
    assert request.platforms == both


def test_images_from_before_there_were_platforms_are_known() -> None:
    """Their hash is that of their one system."""
    before = "bc05d9a752ec1b96f1e57203fec45ce6b7f8fe84daa1202289f19095007d8137"
    assert input_hash(image(), PINNED) == before
    assert input_hash(image(platforms=["linux/amd64"]), PINNED) == before


# What of a spec does not shape the image. A new field belongs here or into the hash.
SHAPELESS = {
    "build",
    "concurrency_policy",
    "failed_builds_history_limit",
    "interval",
    "output",
    "successful_builds_history_limit",
    "suspend",
    "timeout",
}


def test_a_request_carries_all_that_shapes_the_image() -> None:
    request = BuildRequest.of(image(), PINNED).to_json()
    absent = {name for name in NixImageSpec.model_fields if to_camel(name) not in request}
    assert absent - SHAPELESS <= {n for n, f in NixImageSpec.model_fields.items() if not f.default}


FILE = st.one_of(
    st.builds(
        lambda kind, text, **more: {kind: text, **more},
        st.sampled_from(["content", "symlink"]),
        st.sampled_from(["/a", "/b"]),
        uid=st.sampled_from([0, 1]),
        gid=st.sampled_from([0, 1]),
    ),
    st.builds(dict, content=st.sampled_from(["/a", "x"]), mode=st.sampled_from(["0600", "4755"])),
    st.builds(dict, directory=st.just(True), mode=st.sampled_from(["0600", "0755"])),
)
FILE_LISTS = st.dictionaries(st.sampled_from(["/a", "/b", "/a/b"]), FILE, max_size=3).map(
    lambda files: [{"path": path, **file} for path, file in files.items()]
)


@given(FILE_LISTS, FILE_LISTS)
def test_different_files_have_different_hashes(one: Any, two: Any) -> None:
    def made(files: list[dict[str, Any]]) -> set[FileEntry]:
        return {file_entry(ImageFile.model_validate(file)) for file in files}

    hashes = [input_hash(image(files=files), PINNED) for files in (one, two)]
    assert (hashes[0] == hashes[1]) == (made(one) == made(two))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON, JSON)
def test_different_documents_have_different_hashes(one: Any, two: Any) -> None:
    assert (canonical_json(one) == canonical_json(two)) == (repr_of(one) == repr_of(two))
    assert (canonical_hash(one) == canonical_hash(two)) == (repr_of(one) == repr_of(two))


def repr_of(value: Any) -> str:
    """Python's spelling, with sorted keys: tells 1 from True, which == does not."""
    match value:
        case dict():
            return "{" + ",".join(f"{k!r}:{repr_of(value[k])}" for k in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(repr_of, value)) + "]"
        case _:
            return repr(value)


def test_of_what_is_known_as_many_platforms_travel_as_there_is_room_for() -> None:
    def evaluated(outputs: int) -> list[BuiltPackage]:
        path = f"/nix/store/{'a' * 32}-{'x' * 211}"
        return [
            BuiltPackage(attribute=f"p{n}", outputs={f"o{m}": path for m in range(outputs)})
            for n in range(13)
        ]

    asked = BuildRequest.of(image(platforms=["linux/amd64", "linux/arm64"]), PINNED)
    small, large = evaluated(1), evaluated(32)
    both = BuildOutputs(packages={"linux/amd64": large, "linux/arm64": small}, source_time=5)
    assert asked.knowing(both).known == both
    one = BuildOutputs(packages={"linux/amd64": large, "linux/arm64": large}, source_time=5)
    known = asked.knowing(one).known
    assert known is not None
    assert (list(known.packages), known.source_time) == (["linux/amd64"], 5)
    asked.knowing(one).to_variable()
    assert asked.knowing(None) == asked


@pytest.mark.parametrize("value", [1.5, {"a": [0.1]}, {1: "a"}])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_of_a_base_the_digest_shapes_the_hash_and_nothing_else() -> None:
    def based(repository: str, digit: str) -> str:
        digest = f"sha256:{digit * 64}"
        above = image(base={"image": f"{repository}:12@{digest}"})
        return input_hash(above, PINNED, PinnedBase(image=repository, digest=digest))

    assert based("docker.io/library/debian", "a") == based("mirror.example.org/debian", "a")
    assert based("docker.io/library/debian", "a") != based("docker.io/library/debian", "b")
    assert based("docker.io/library/debian", "a") != input_hash(image(), PINNED)


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("docker.io/library/debian:12", "docker.io/library/debian"),
        ("registry:5000/base", "registry:5000/base"),
        ("[::1]:5000/base:1", "[::1]:5000/base"),
    ],
)
def test_a_tag_before_a_digest_is_dropped(image: str, repository: str) -> None:
    digest = "sha256:" + "a" * 64
    pinned = PinnedBase.of_registry(f"{image}@{digest}")
    assert (pinned.image, pinned.digest) == (repository, digest)
