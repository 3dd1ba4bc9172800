"""The build Job's manifest: what it is called, who owns it, what it may do."""

from dataclasses import replace
from typing import Any

from niximage.api.build import BuildRequest
from niximage.controller.builds.job import job_manifest
from niximage.controller.job_view import JobState, JobView
from niximage.controller.settings import Settings
from niximage.controller.steps import CreateJob
from unit.controller.states import REVISION, SETTINGS, inputs, nix_image, pinned

IMAGE = nix_image()
CREATE = CreateJob(
    "web-0123456789",
    BuildRequest(
        namespace="team-a",
        repository="team-a/web",
        input_hash=inputs(IMAGE),
        packages=IMAGE.spec.packages,
        source=pinned(),
        config=IMAGE.spec.config,
    ),
    2,
)


def manifest(settings: Settings = SETTINGS) -> dict[str, Any]:
    return job_manifest(IMAGE, CREATE, settings)


def containers(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    pod = job["spec"]["template"]["spec"]
    return {c["name"]: c for c in (*pod["initContainers"], *pod["containers"])}


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container["env"]}


def test_the_view_reads_what_the_manifest_wrote() -> None:
    job = manifest()
    job["metadata"] |= {"uid": "j-1", "creationTimestamp": "2026-05-04T12:00:00Z"}
    view = JobView.from_json(job)
    assert (view.owner, view.image, view.input_hash, view.attempt, view.state) == (
        "u-1",
        "web",
        inputs(IMAGE),
        2,
        JobState.LIVE,
    )


def test_no_step_has_a_token_or_a_privilege() -> None:
    pod = manifest()["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(manifest()).values():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True


def test_only_publish_learns_of_the_bucket() -> None:
    settings = Settings(
        bucket="file:///srv/images",
        registry="127.0.0.1:5000",
        nixpkgs_url="https://example.org/nixpkgs",
        builder_image="x",
        bucket_claim="images",
        publish_environment={"STORAGE_EMULATOR_HOST": "http://10.0.0.1"},
    )
    steps = containers(manifest(settings))
    assert "NIXIMAGE_BUCKET" not in environment(steps["build"])
    assert "STORAGE_EMULATOR_HOST" not in environment(steps["build"])
    assert environment(steps["publish"])["NIXIMAGE_BUCKET"] == "file:///srv/images"
    assert "/srv/images" in {m["mountPath"] for m in steps["publish"]["volumeMounts"]}
    assert "/srv/images" not in {m["mountPath"] for m in steps["build"]["volumeMounts"]}


def test_the_steps_share_the_store_and_the_outputs_and_nothing_else() -> None:
    steps = containers(manifest())
    build, publish = (
        {m["name"] for m in steps[step]["volumeMounts"]} for step in ("build", "publish")
    )
    assert build & publish == {"nix", "work"}


def test_the_request_travels_whole() -> None:
    request = BuildRequest.model_validate_json(
        environment(containers(manifest())["build"])["NIXIMAGE_REQUEST"]
    )
    assert request == CREATE.request
    assert request.source.revision == REVISION


def test_the_deadline_is_the_specs_timeout() -> None:
    assert manifest()["spec"]["activeDeadlineSeconds"] == 3600
    assert manifest()["spec"]["backoffLimit"] == 0


def test_whether_builds_are_allowed_travels_to_the_steps() -> None:
    for allowed, word in ((True, "Allowed"), (False, "Forbidden")):
        for container in containers(manifest(replace(SETTINGS, local_builds=allowed))).values():
            assert environment(container)["NIXIMAGE_LOCAL_BUILDS"] == word


def test_everything_that_a_step_may_write_to_is_bounded() -> None:
    pod = manifest()["spec"]["template"]["spec"]
    limits = {v["name"]: v.get("emptyDir", {}).get("sizeLimit") for v in pod["volumes"]}
    assert all(limits.values()), limits
    for container in containers(manifest()).values():
        assert container["resources"]["limits"]["memory"]


PRIVATE = {
    "git": {
        "url": "https://example.org/x",
        "ref": {"branch": "main"},
        "secretRef": {"name": "keys"},
    }
}


def mounts(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {m["name"]: m for m in container["volumeMounts"]}


def test_the_keys_of_a_private_source_are_for_the_step_that_fetches_alone() -> None:
    job = job_manifest(nix_image(source=PRIVATE), CREATE, SETTINGS)
    pod = job["spec"]["template"]["spec"]
    assert [c["name"] for c in pod["initContainers"]] == ["fetch", "build"]
    steps = containers(job)
    assert mounts(steps["fetch"])["credentials"]["readOnly"] is True
    for step in ("build", "publish"):
        assert "credentials" not in mounts(steps[step])
        assert "NIXIMAGE_CREDENTIALS" not in environment(steps[step])
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert volumes["credentials"]["secret"]["secretName"] == "keys"
    assert volumes["credentials"]["secret"]["optional"] is True, "its absence is told by the step"
    empty = [v["emptyDir"] for v in volumes.values() if "emptyDir" in v]
    assert all("sizeLimit" in each for each in empty)
    assert volumes["tmp-fetch"]["emptyDir"]["medium"] == "Memory", "keys touch no disk"


def test_what_was_fetched_cannot_be_changed_by_what_tenants_wrote() -> None:
    steps = containers(job_manifest(nix_image(source=PRIVATE), CREATE, SETTINGS))
    assert mounts(steps["fetch"])["fetched"].get("readOnly") is None
    assert mounts(steps["build"])["fetched"]["readOnly"] is True
    assert set(mounts(steps["fetch"])) & set(mounts(steps["build"])) == {"fetched"}
    assert set(mounts(steps["publish"])) & set(mounts(steps["fetch"])) == set()
    assert (
        environment(steps["build"])["NIXIMAGE_FETCHED"]
        == mounts(steps["build"])["fetched"]["mountPath"]
    )


def test_an_open_source_takes_no_step_of_its_own() -> None:
    assert set(containers(manifest())) == {"build", "publish"}
    assert "NIXIMAGE_FETCHED" not in environment(containers(manifest())["build"])


def test_a_volume_is_mounted_for_reading_where_nothing_of_tenants_runs() -> None:
    source = {"volume": {"claimName": "packages", "path": "set"}}
    job = job_manifest(nix_image(source=source), CREATE, SETTINGS)
    steps = containers(job)
    assert mounts(steps["fetch"])["volume"]["readOnly"] is True
    assert (
        environment(steps["fetch"])["NIXIMAGE_VOLUME"]
        == (mounts(steps["fetch"])["volume"]["mountPath"])
    )
    for step in ("build", "publish"):
        assert "volume" not in mounts(steps[step])
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    claim = volumes["volume"]["persistentVolumeClaim"]
    assert claim == {"claimName": "packages", "readOnly": True}
