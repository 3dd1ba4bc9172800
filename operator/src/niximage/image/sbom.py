"""The closure of an image as a software bill of materials that scanners read: CycloneDX 1.6.

A closure is a list of all that runs, made by Nix and not guessed from files. So the bill needs
no scan, and like the closure it depends on nothing but the image: no time, no revision.

A store path's URL (`pkg:nix/…`) is spelt as Syft spells it, while the type is only proposed:
https://github.com/package-url/purl-spec/pull/877. The properties' names are sbomnix'.
"""

import uuid
from typing import Any, Final
from urllib.parse import quote

from niximage.image.closure import HASH_LENGTH, STORE
from niximage.image.closure_document import ClosureDocument
from niximage.image.package_name import PackageName

MEDIA_TYPE: Final = "application/vnd.cyclonedx+json"
FILE_NAME: Final = "sbom.cdx.json"

Json = dict[str, Any]


def sbom(closure: ClosureDocument, *, digest: str, repository: str = "") -> Json:
    """The bill of materials of an image for one platform.

    Args:
        closure: what is in it.
        digest: of its manifest.
        repository: what it is called, `namespace/name`; "" where all its names share the bill.
    """
    wanted = {path for package in closure.packages for path in package.outputs.values()}
    names = [f"{STORE}{path.name}" for path in closure.paths]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "niximage"}]},
            "component": _image(closure, digest, repository),
        },
        "components": [
            {
                "type": "library",
                "bom-ref": f"{STORE}{path.name}",
                **_package(path.name),
                "properties": [
                    {"name": "nix:output_path", "value": f"{STORE}{path.name}"},
                    {"name": "nix:nar_hash", "value": path.nar_hash},
                ],
            }
            for path in closure.paths
        ],
        "dependencies": [
            {"ref": digest, "dependsOn": sorted(wanted)},
            *(
                {"ref": name, "dependsOn": [names[at] for at in path.references]}
                for name, path in zip(names, closure.paths, strict=True)
            ),
        ],
        # What else a base holds is not known.
        "compositions": [
            {"aggregate": "incomplete" if closure.base else "complete", "assemblies": [digest]}
        ],
    }


def _image(closure: ClosureDocument, digest: str, repository: str) -> Json:
    component: Json = {
        "type": "container",
        "bom-ref": digest,
        "name": repository or "image",
        "version": digest,
        "properties": [{"name": "nix:system", "value": closure.system}],
    }
    if closure.base is not None:
        below, _, version = closure.base.partition("@")
        ancestor = {"type": "container", "name": below, "version": version}
        component["pedigree"] = {"ancestors": [ancestor]}
    return component


def _package(store_name: str) -> Json:
    """The name, version and URL of a store path."""
    found = PackageName.of(store_name[HASH_LENGTH + 1 :])
    version = {"version": found.version} if found.version else {}
    qualifiers = {"output": found.output, "outputhash": store_name[:HASH_LENGTH]}
    url = f"pkg:nix/{_quoted(found.name)}" + f"@{_quoted(found.version)}" * bool(found.version)
    asked = "&".join(f"{key}={_quoted(value)}" for key, value in qualifiers.items() if value)
    return {"name": found.name, **version, "purl": f"{url}?{asked}"}


def _quoted(text: str) -> str:
    return quote(text, safe=":")
