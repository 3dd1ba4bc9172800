"""The bill of materials of an image, held against CycloneDX' own schema and URL library."""

import json
from collections.abc import Sequence
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from packageurl import PackageURL

from niximage.api.build import BuiltPackage
from niximage.image.closure_document import ClosureDocument
from niximage.image.sbom import sbom
from unit.image.closures import closure, graphs, store_path

DIGEST = "sha256:" + "ab" * 32
BASE = "team/base@sha256:" + "cd" * 32
GRAPH = {
    "glibc-2.40-36": (30, []),
    "gtk+-2.24.33": (5, ["glibc-2.40-36"]),
    "openssl-3.4.0-bin": (6, ["glibc-2.40-36"]),
    "source": (1, []),
}


def bill(graph: dict[str, tuple[int, Sequence[str]]], base: str | None = None) -> dict[str, Any]:
    """The bill of an image whose last store path was asked for."""
    found = closure(graph)
    asked = BuiltPackage(attribute="web", outputs={"out": list(found.infos)[-1]})
    document = ClosureDocument.of(found, [asked], system="x86_64-linux", layers={}, base=base)
    return sbom(document, digest=DIGEST, repository="team/web")


@given(graph=graphs())
def test_it_is_valid_and_says_what_refers_to_what(
    graph: dict[str, tuple[int, Sequence[str]]],
) -> None:
    made = bill(graph, BASE)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(made)) is None
    assert {each["ref"]: set(each["dependsOn"]) for each in made["dependencies"][1:]} == {
        store_path(name): {store_path(below) for below in references}
        for name, (_, references) in graph.items()
    }


def test_a_store_path_has_name_version_output_and_a_url() -> None:
    components = {each["bom-ref"]: each for each in bill({**GRAPH})["components"]}
    openssl = components[store_path("openssl-3.4.0-bin")]
    assert (openssl["name"], openssl["version"]) == ("openssl", "3.4.0")
    assert PackageURL.from_string(openssl["purl"]) == PackageURL(
        "nix",
        name="openssl",
        version="3.4.0",
        qualifiers={"output": "bin", "outputhash": store_path("openssl-3.4.0-bin")[11:43]},
    )
    assert "version" not in components[store_path("source")]
    for each in components.values():
        assert PackageURL.from_string(each["purl"]).to_string() == each["purl"]


def test_what_a_base_holds_besides_is_not_claimed_to_be_known() -> None:
    alone, based = bill({**GRAPH}), bill({**GRAPH}, BASE)
    assert [each["aggregate"] for each in alone["compositions"]] == ["complete"]
    assert [each["aggregate"] for each in based["compositions"]] == ["incomplete"]
    [ancestor] = based["metadata"]["component"]["pedigree"]["ancestors"]
    assert ancestor == {"type": "container", "name": "team/base", "version": BASE.partition("@")[2]}
