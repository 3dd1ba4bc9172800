"""Objects of an older schema, after the CRD was replaced by today's: still there, still read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from niximage.api.crd import nix_image_crd
from niximage.controller.stored import CachedImage
from support.kubernetes import Cluster, conditions, eventually, nix_image

FIRST = Path(__file__).parent / "older" / "niximages-first.yaml"
"""The CRD of the first operator."""

OLD_SPECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "git": {
        "source": {
            "git": {"url": "https://example.org/x", "ref": {"tag": "v1"}, "path": "a", "attr": "b"}
        }
    },
    "config": {
        "config": {
            "entrypoint": ["/bin/hello"],
            "env": [{"name": "A", "value": "b"}],
            "user": "1000",
            "exposedPorts": ["80"],
            "labels": {"a": "b"},
        },
        "output": {"repository": "shop"},
        "timeout": "2h",
        "suspend": True,
    },
}


@pytest.fixture
def replace_crd(cluster: Cluster) -> Iterator[Any]:
    """Replaces the CRD of NixImages; today's is back afterwards."""

    def replace(crd: dict[str, Any]) -> None:
        cluster.do("replace", "-f", "-", given=crd)
        kept = ("get", "crd", crd["metadata"]["name"], "-o", "jsonpath={.status.conditions}")
        eventually("the CRD is in use", lambda: "NonStructural" not in cluster.do(*kept))

    yield replace
    replace(nix_image_crd())


def kept(now: Any, before: Any) -> Any:
    """What is there now of all that was there before; defaults are added freely."""
    if isinstance(before, dict) and isinstance(now, dict):
        return {key: kept(now.get(key), value) for key, value in before.items()}
    return now


@pytest.mark.parametrize("spec", OLD_SPECS.values(), ids=OLD_SPECS)
def test_what_the_first_schema_stored_is_read_edited_and_reported_on(
    cluster: Cluster, namespace: str, replace_crd: Any, spec: dict[str, Any]
) -> None:
    replace_crd(yaml.safe_load(FIRST.read_text()))
    cluster.do("create", "-f", "-", given=nix_image(namespace, **spec))
    status = {"observedGeneration": 1, "digest": f"sha256:{'a' * 64}"}
    cluster.set_status("niximage", "web", namespace, status)
    before = cluster.get("niximage", "web", namespace)
    assert before is not None
    replace_crd(nix_image_crd())

    def upgraded() -> Any:
        found = cluster.get("niximage", "web", namespace)
        return found if found is not None and "compression" in found["spec"] else None

    found = eventually("today's defaults", upgraded)
    assert kept(found["spec"], before["spec"]) == before["spec"]
    cached = CachedImage.from_json(found)
    assert cached.image is not None, cached.problem
    assert cached.image.status.digest == status["digest"]
    cluster.do("label", "niximage", "web", "-n", namespace, "team=a")
    cluster.set_status("niximage", "web", namespace, {"observedGeneration": 2})


def loosened(schema: Any) -> Any:
    """A schema without the rules and patterns that today's has."""
    match schema:
        case dict():
            without = ("pattern", "x-kubernetes-validations", "maxLength", "maximum")
            return {k: loosened(v) for k, v in schema.items() if k not in without}
        case list():
            return [loosened(item) for item in schema]
        case _:
            return schema


def test_a_spec_that_todays_rules_would_refuse_is_kept_and_told(
    operator: Any, namespace: str, replace_crd: Any
) -> None:
    cluster = operator.cluster
    replace_crd(loosened(nix_image_crd()))
    odd = nix_image(namespace, packages=["hello; import <x>"])

    def stored() -> bool:
        return bool(cluster.run("create", "-f", "-", given=odd).returncode == 0)

    eventually("the loose schema is in use", stored)
    replace_crd(nix_image_crd())
    image = operator.image_with(namespace, "Stalled", "True/InvalidSpec")
    assert "packages.0" in image["status"]["conditions"][0]["message"]
    # Mended by its user, it goes on.
    cluster.do("replace", "-f", "-", given=nix_image(namespace))
    mended = operator.image_with(namespace, "Reconciling", "True/Building")
    assert "Stalled" not in conditions(mended)
