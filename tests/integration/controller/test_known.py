"""What the operator tells a build of the bucket's memory: evaluations, and whole images."""

from pathlib import Path

from integration.tiny import tiny_image
from niximage.api.build import BuildOutputs, BuildRequest, BuiltPackage
from niximage.bucket import ObjectStore, open_store
from niximage.bucket.evaluations import save_evaluation
from niximage.bucket.images import verify_image
from niximage.bucket.records import BuildRecord, save_build
from niximage.controller.bucket_looks import find_published, with_evaluation
from niximage.controller.builds.job import job_manifest
from niximage.controller.steps import CreateJob
from niximage.controller.views import Absent, Published
from unit.controller.states import SETTINGS, inputs, nix_image, pinned

IMAGE = nix_image()
REQUEST = BuildRequest.of(IMAGE, pinned())


def outputs(count: int = 1) -> BuildOutputs:
    paths = {f"o{i}": f"/nix/store/{'a' * 32}-{'x' * 200}{i}" for i in range(count)}
    return BuildOutputs(
        packages={
            "linux/amd64": [
                BuiltPackage(attribute=name, outputs=paths) for name in REQUEST.packages
            ]
        }
    )


def bucket(folder: Path) -> ObjectStore:
    folder.mkdir(exist_ok=True)
    return open_store(folder.as_uri())


def test_a_build_is_told_what_its_packages_are(tmp_path: Path) -> None:
    store = bucket(tmp_path / "bucket")
    assert with_evaluation(store, REQUEST) == REQUEST
    save_evaluation(store, REQUEST, outputs())
    told = with_evaluation(store, REQUEST)
    assert told.known == outputs()
    manifest = job_manifest(IMAGE, CreateJob("web-0", told, 1), SETTINGS)
    (container,) = manifest["spec"]["template"]["spec"]["initContainers"]
    variable = next(e["value"] for e in container["env"] if e["name"] == "NIXIMAGE_REQUEST")
    assert BuildRequest.model_validate_json(variable) == told


def test_what_does_not_fit_a_variable_is_left_out(tmp_path: Path) -> None:
    store = bucket(tmp_path / "bucket")
    many = REQUEST.model_copy(update={"packages": [f"p{i}" for i in range(20)]})
    paths = {f"o{i}": f"/nix/store/{'a' * 32}-{'x' * 200}{i}" for i in range(32)}
    known = BuildOutputs(
        packages={
            "linux/amd64": [BuiltPackage(attribute=name, outputs=paths) for name in many.packages]
        }
    )
    save_evaluation(store, many, known)
    assert with_evaluation(store, many) == many


def test_an_image_of_known_inputs_is_found_under_a_new_name(tmp_path: Path) -> None:
    store = bucket(tmp_path / "bucket")
    tiny = tiny_image(b"one")
    tiny.publish(store, "team-a/first")
    record = BuildRecord(
        digest=tiny.digest,
        size=9,
        repository="team-a/first",
        layers=1,
        reused_layers=0,
        reused_size=0,
        revision="c" * 40,
    )
    save_build(store, "team-a", inputs(IMAGE), record)
    found = find_published(store, "team-a", "team-a/second", inputs(IMAGE))
    assert isinstance(found, Published)
    assert found.digest == tiny.digest
    verify_image(store, "team-a/second", tiny.digest)
    assert find_published(store, "team-b", "team-b/first", inputs(IMAGE)) is Absent.ABSENT
