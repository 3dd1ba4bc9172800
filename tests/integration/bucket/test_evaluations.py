"""What packages were evaluated to is known again for the same source, system and settings only."""

from typing import Any

import pytest

from niximage.api.build import BuildOutputs, BuildRequest, BuiltPackage, PinnedSource
from niximage.api.contents import NixpkgsConfig
from niximage.api.platforms import Platform
from niximage.api.spec import Config
from niximage.bucket import ObjectStore
from niximage.bucket.evaluations import find_evaluation, save_evaluation

SOURCE = PinnedSource(url="https://example.org/x", revision="1" * 40)
HELLO = BuiltPackage(attribute="hello", outputs={"out": f"/nix/store/{'a' * 32}-hello"})
CURL = BuiltPackage(attribute="curl^bin", outputs={"bin": f"/nix/store/{'b' * 32}-curl-bin"})
AMD64: Platform = "linux/amd64"
ARM64: Platform = "linux/arm64"
OUTPUTS = BuildOutputs(packages={AMD64: [HELLO, CURL]}, source_time=7)


def request(*packages: str, **fields: Any) -> BuildRequest:
    defaults: dict[str, Any] = {
        "namespace": "team",
        "repository": "team/image",
        "input_hash": "0" * 64,
        "source": SOURCE,
        "config": Config(),
    }
    return BuildRequest(packages=list(packages or ("hello", "curl^bin")), **(defaults | fields))


def test_what_was_evaluated_is_known_in_any_mixture(store: ObjectStore) -> None:
    assert find_evaluation(store, request()) is None
    save_evaluation(store, request(), OUTPUTS)
    assert find_evaluation(store, request()) == OUTPUTS
    swapped = BuildOutputs(packages={AMD64: [CURL, HELLO]}, source_time=7)
    assert find_evaluation(store, request("curl^bin", "hello")) == swapped
    assert find_evaluation(store, request("hello", repository="team/other")) == BuildOutputs(
        packages={AMD64: [HELLO]}, source_time=7
    )
    assert find_evaluation(store, request("hello", "unknown")) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"namespace": "other"},
        {"platforms": [ARM64]},
        {"source": SOURCE.model_copy(update={"revision": "2" * 40})},
        {"source": SOURCE.model_copy(update={"path": "sub"})},
        {"source": SOURCE.model_copy(update={"attr": "packages"})},
        {"nixpkgs_config": NixpkgsConfig(allow_unfree=True)},
        {"packages": ["curl"]},
    ],
)
def test_another_question_has_no_answer(store: ObjectStore, fields: dict[str, Any]) -> None:
    save_evaluation(store, request(), OUTPUTS)
    asked = request().model_copy(update=fields)
    assert find_evaluation(store, asked) is None


def test_each_platform_is_known_by_itself(store: ObjectStore) -> None:
    save_evaluation(store, request(), OUTPUTS)
    both = request(platforms=[AMD64, ARM64])
    assert find_evaluation(store, both) == OUTPUTS
    arm = HELLO.model_copy(update={"outputs": {"out": f"/nix/store/{'c' * 32}-hello"}})
    packages = {AMD64: [HELLO, CURL], ARM64: [arm, CURL]}
    later = BuildOutputs(packages=packages, source_time=7)
    save_evaluation(store, both.model_copy(update={"known": OUTPUTS}), later)
    assert find_evaluation(store, both) == later
    assert find_evaluation(store, request()) == OUTPUTS


def test_a_mirror_of_the_source_is_the_source(store: ObjectStore) -> None:
    save_evaluation(store, request(), OUTPUTS)
    mirror = SOURCE.model_copy(update={"url": "https://mirror.example.org/x", "ref": "refs/tags/1"})
    assert find_evaluation(store, request(source=mirror)) == OUTPUTS


def test_a_damaged_record_is_written_anew(store: ObjectStore) -> None:
    save_evaluation(store, request(), OUTPUTS)
    for found in list(store.list("niximage/v1/evaluations/")):
        store.replace(found.key, b'{"v": 2}')
    assert find_evaluation(store, request()) is None
    save_evaluation(store, request(), OUTPUTS)
    assert find_evaluation(store, request()) == OUTPUTS


def test_what_a_volume_was_evaluated_to_is_not_remembered(store: ObjectStore) -> None:
    """Its content may be another by now, whatever it is called."""
    ref = "PersistentVolumeClaim/set"
    volume = request(source=PinnedSource(kind="volume", url="", ref=ref, revision="1"))
    save_evaluation(store, volume, OUTPUTS)
    assert find_evaluation(store, volume) is None
    assert list(store.list("")) == []
