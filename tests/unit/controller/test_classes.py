"""Which class serves an image, what it refuses, and what its build pods get."""

from typing import Any

import pytest

from niximage.api.build_class import DEFAULT_CLASS, NixBuildClass
from niximage.controller.builds.job import class_label
from niximage.controller.builds.pod import pod
from niximage.controller.decision.classes import (
    denied,
    denied_artifact,
    find_class,
    with_class,
    without_data,
)
from niximage.controller.steps import CreateJob
from niximage.controller.views import ClassWanting
from niximage.errors import Reason
from unit.controller.states import SETTINGS, flux_pinned, nix_image, request


def build_class(name: str = "plain", *, default: bool = False, **spec: Any) -> NixBuildClass:
    annotations = {DEFAULT_CLASS: "true"} if default else {}
    return NixBuildClass.model_validate(
        {"metadata": {"name": name, "annotations": annotations}, "spec": spec}
    )


def pod_of(build_class: NixBuildClass | None = None, **spec: Any) -> dict[str, Any]:
    image = nix_image(**spec)
    create = CreateJob("web-0", request(image), 1)
    return pod(image, create, with_class(SETTINGS, build_class))


def resources_of(build_class: NixBuildClass | None = None, **spec: Any) -> Any:
    return pod_of(build_class, **spec)["containers"][0]["resources"]


# Choice -----------------------------------------------------------------------------------------

SMALL, STANDARD = build_class("small"), build_class("standard", default=True)


def test_the_named_class_serves() -> None:
    assert find_class("small", [SMALL, STANDARD]) == SMALL


def test_the_default_class_serves_who_names_none() -> None:
    assert find_class(None, [SMALL, STANDARD]) == STANDARD


def test_without_a_default_the_operators_settings_hold() -> None:
    assert find_class(None, [SMALL]) is None
    assert with_class(SETTINGS, None) == SETTINGS


def test_a_class_that_is_not_there_is_waited_for_by_name() -> None:
    found = find_class("large", [SMALL])
    assert found == ClassWanting(
        "waiting for the NixBuildClass large: there is none of that name; create it, or name one "
        "of kubectl get nixbuildclasses in spec.build.className"
    )


def test_two_defaults_are_none() -> None:
    found = find_class(None, [STANDARD, build_class("other", default=True)])
    assert isinstance(found, ClassWanting)
    assert "other and standard" in found.words


def test_a_class_replaces_only_what_it_names() -> None:
    settings = with_class(SETTINGS, build_class(substituters=[], builderImage="x:1"))
    assert settings.substituters == ()
    assert settings.builder_image == "x:1"
    assert settings.nixpkgs_url == SETTINGS.nixpkgs_url
    assert settings.service_account == SETTINGS.service_account


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "Preferred"),
        ({"sandbox": "Preferred"}, "Preferred"),
        ({"sandbox": "Required"}, "Required"),
    ],
)
def test_a_class_says_whether_the_sandbox_is_demanded(spec: dict[str, Any], said: str) -> None:
    (step,) = pod_of(build_class(**spec))["initContainers"]
    told = {variable["name"]: variable["value"] for variable in step["env"]}
    assert told["NIXIMAGE_SANDBOX"] == said


def test_popularity_wants_data_and_only_publish_learns_where_it_is() -> None:
    popular: dict[str, Any] = {"layering": {"strategy": "Popularity"}}
    plain = build_class()
    refusal = without_data(nix_image(**popular), with_class(SETTINGS, plain))
    assert refusal is not None
    assert "popularityURL in the NixBuildClass plain" in str(refusal)
    assert without_data(nix_image(), SETTINGS) is None
    url = "https://example.org/popularity.json"
    classed = build_class(popularityURL=url)
    assert without_data(nix_image(**popular), with_class(SETTINGS, classed)) is None
    pod = pod_of(classed, **popular)
    (build,), (publish,) = (
        [{v["name"]: v["value"] for v in step["env"]} for step in pod[kind]]
        for kind in ("initContainers", "containers")
    )
    assert publish["NIXIMAGE_POPULARITY_URL"] == url
    assert "NIXIMAGE_POPULARITY_URL" not in build


def test_a_class_says_whether_pods_may_build() -> None:
    for local_builds in ("Forbidden", "Allowed"):
        (step,) = pod_of(build_class(localBuilds=local_builds))["initContainers"]
        said = {variable["name"]: variable["value"] for variable in step["env"]}
        assert said["NIXIMAGE_LOCAL_BUILDS"] == local_builds


# What it refuses --------------------------------------------------------------------------------


def from_git(url: str) -> dict[str, Any]:
    return {"source": {"git": {"url": url, "ref": {"branch": "main"}}}}


@pytest.mark.parametrize(
    ("allowed", "url", "fine"),
    [
        ("https://git.example.org/team/", "https://git.example.org/team/set", True),
        ("https://git.example.org/team/", "https://git.example.org/other/set", False),
        ("https://git.example.org/team/", "https://git.example.org/team/../other", False),
        ("https://git.example.org/team/", "https://git.example.org/team/%2e%2E/other", False),
        ("https://git.example.org/", "https://git.example.org.evil.net/set", False),
        ("https://git.example.org/", "https://git.example.org@evil.net/set", False),
        ("https://git.example.org/", "http://git.example.org/set", False),
        ("https://git.example.org/set", "https://git.example.org/set", True),
        ("https://git.example.org/set", "https://git.example.org/set.git", True),
        ("https://git.example.org/set", "https://git.example.org/settings", False),
        ("ssh://git@example.org/", "ssh://git@example.org/set", True),
    ],
)
def test_sources_are_allowed_by_their_parts(allowed: str, url: str, *, fine: bool) -> None:
    refusal = denied(nix_image(**from_git(url)), build_class(allowedSources=[allowed]))
    assert (refusal is None) is fine


def test_nixpkgs_is_always_allowed() -> None:
    assert denied(nix_image(), build_class(allowedSources=[])) is None


@pytest.mark.parametrize(
    ("rules", "spec", "words"),
    [
        (
            {"allowedSources": ["https://git.example.org/"]},
            from_git("https://user:secret@evil.net/x"),
            "does not allow the source",
        ),
        ({"maxTimeout": "30m"}, {"timeout": "1h"}, "allows at most 30m"),
        (
            {"maxResources": {"memory": "4Gi"}},
            {"build": {"resources": {"limits": {"memory": "5000Mi"}}}},
            "allows at most 4Gi",
        ),
        (
            {"maxResources": {"cpu": 2}},
            {"build": {"resources": {"limits": {"cpu": "2500m"}}}},
            "allows at most 2",
        ),
    ],
)
def test_what_a_class_forbids_is_told_with_its_bound(
    rules: dict[str, Any], spec: dict[str, Any], words: str
) -> None:
    refusal = denied(nix_image(**spec), build_class(**rules))
    assert refusal is not None
    assert refusal.reason is Reason.POLICY_DENIED
    assert words in str(refusal)
    assert "secret" not in str(refusal)


# What pods get ----------------------------------------------------------------------------------


def test_resources_come_from_the_image_then_the_class_then_the_operator() -> None:
    own = {"resources": {"limits": {"memory": "1Gi"}}}
    classed = build_class(resources={"limits": {"memory": "2Gi", "cpu": "3"}})
    assert resources_of()["limits"] == {"memory": "4Gi"}
    assert resources_of(classed)["limits"] == {"memory": "2Gi", "cpu": "3"}
    assert resources_of(classed, build=own)["limits"] == {"memory": "1Gi", "cpu": "3"}


def test_what_nobody_asked_for_gives_way_to_the_ceiling() -> None:
    ceiling = build_class(maxResources={"memory": "256Mi"})
    assert resources_of(ceiling) == {
        "requests": {"cpu": "250m", "memory": "256Mi"},
        "limits": {"memory": "256Mi"},
    }


def test_the_class_wins_over_the_image_on_where_pods_go() -> None:
    build = {
        "nodeSelector": {"pool": "fast", "disk": "ssd"},
        "tolerations": [{"key": "mine", "operator": "Exists"}],
        "priorityClassName": "low",
        "serviceAccountName": "publisher",
    }
    classed = build_class(
        nodeSelector={"pool": "builds"},
        tolerations=[{"key": "builds", "value": "yes", "effect": "NoSchedule"}],
        priorityClassName="high",
        runtimeClassName="gvisor",
        serviceAccountName="classed",
    )
    found = pod_of(classed, build=build)
    assert found["nodeSelector"] == {"pool": "builds", "disk": "ssd"}
    assert [t["key"] for t in found["tolerations"]] == ["mine", "builds"]
    assert found["priorityClassName"] == "low"
    assert found["runtimeClassName"] == "gvisor"
    assert found["serviceAccountName"] == "publisher"
    assert pod_of(classed)["serviceAccountName"] == "classed"


def test_the_class_wins_over_the_image_on_each_kind_of_affinity() -> None:
    def terms(pool: str) -> dict[str, Any]:
        wanted = {"matchExpressions": [{"key": "pool", "operator": "In", "values": [pool]}]}
        return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [wanted]}}

    apart = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}
    asked = {"affinity": {"nodeAffinity": terms("fast"), "podAntiAffinity": apart}}
    assert pod_of(build=asked)["affinity"] == asked["affinity"]
    classed = build_class(affinity={"nodeAffinity": terms("builds")})
    found = pod_of(classed, build=asked)["affinity"]
    assert found == {"nodeAffinity": terms("builds"), "podAntiAffinity": apart}


def test_an_image_that_asks_for_nothing_gets_a_plain_pod() -> None:
    unwanted = {"affinity", "nodeSelector", "tolerations", "priorityClassName", "runtimeClassName"}
    assert not unwanted & set(pod_of())


@pytest.mark.parametrize(
    ("store", "volume"),
    [
        ({"emptyDir": {"sizeLimit": "5Gi"}}, {"emptyDir": {"sizeLimit": "5Gi"}}),
        (
            {"ephemeral": {"size": "50Gi", "storageClassName": "fast"}},
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "50Gi"}},
                            "storageClassName": "fast",
                        }
                    }
                }
            },
        ),
    ],
)
def test_the_store_lies_where_the_class_says(store: dict[str, Any], volume: dict[str, Any]) -> None:
    volumes = {v.pop("name"): v for v in pod_of(build_class(store=store))["volumes"]}
    assert volumes["nix"] == volume


# Artifacts of Flux ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "origin", "is_denied"),
    [
        (None, "https://git.example.org/a", False),
        (["https://git.example.org/"], "https://git.example.org/a", False),
        (["https://git.example.org/"], "https://elsewhere.org/a", True),
        (["http://source-controller/"], "https://git.example.org/a", True),
        (["http://source-controller/"], "", False),
        (["https://git.example.org/"], "", True),
        ([], "", True),
        (["https://git.example.org/"], "https://[git.example.org/a", True),
    ],
    ids=[
        "all",
        "what it follows",
        "what it follows, elsewhere",
        "its archive is Flux's own",
        "an external artifact, by its place",
        "an external artifact, elsewhere",
        "nixpkgs only",
        "no URL at all",
    ],
)
def test_of_an_artifact_counts_where_it_comes_from(
    allowed: list[str] | None, origin: str, is_denied: bool
) -> None:
    source = flux_pinned().model_copy(
        update={"url": "http://source-controller/x.tar.gz", "origin": origin}
    )
    error = denied_artifact(source, build_class(allowedSources=allowed))
    assert (error is not None) == is_denied
    if error is not None:
        assert error.reason is Reason.POLICY_DENIED
        assert (origin or "http://source-controller/x.tar.gz") in error.message


def test_without_a_class_every_artifact_may_be_used() -> None:
    assert denied_artifact(flux_pinned(), None) is None


def test_a_class_that_names_sources_allows_no_volumes() -> None:
    image = nix_image(source={"volume": {"claimName": "packages"}})
    assert denied(image, build_class()) is None
    error = denied(image, build_class(allowedSources=["https://git.example.org/"]))
    assert error is not None
    assert error.reason is Reason.POLICY_DENIED
    assert "none on volumes" in error.message


def test_a_long_class_name_ends_soundly_in_a_label() -> None:
    assert class_label(build_class("a" * 62 + ".example.org")) == "a" * 62
