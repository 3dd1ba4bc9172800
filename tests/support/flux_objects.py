"""Flux's sources as far as others see them: their CRDs, their status, an archive over HTTP."""

import gzip
import hashlib
import io
import tarfile
from typing import Any

Json = dict[str, Any]

_CONDITION = {
    "type": "object",
    "required": ["lastTransitionTime", "message", "reason", "status", "type"],
    "properties": {
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "message": {"type": "string", "maxLength": 32768},
        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "type": {"type": "string", "maxLength": 316},
    },
}
_ARTIFACT = {
    "type": "object",
    "required": ["digest", "lastUpdateTime", "path", "revision", "url"],
    "properties": {
        "digest": {
            "type": "string",
            "pattern": "^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$",
        },
        "lastUpdateTime": {"type": "string", "format": "date-time"},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "path": {"type": "string"},
        "revision": {"type": "string"},
        "size": {"type": "integer", "format": "int64"},
        "url": {"type": "string"},
    },
}
_SPECS: Json = {
    "GitRepository": {
        "type": "object",
        "required": ["interval", "url"],
        "properties": {
            "interval": {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$"},
            "ref": {"type": "object", "properties": {"branch": {"type": "string"}}},
            "url": {"type": "string", "pattern": "^(http|https|ssh)://.*$"},
        },
    },
    "ExternalArtifact": {
        "type": "object",
        "properties": {
            "sourceRef": {
                "type": "object",
                "required": ["kind", "name"],
                "properties": {k: {"type": "string"} for k in ("apiVersion", "kind", "name")},
            }
        },
    },
}


def flux_crds() -> Json:
    """The CRDs of GitRepository and ExternalArtifact, in the shape of source-controller's."""
    items = []
    for kind, plural in (
        ("GitRepository", "gitrepositories"),
        ("ExternalArtifact", "externalartifacts"),
    ):
        status: Json = {
            "type": "object",
            "properties": {
                "artifact": _ARTIFACT,
                "conditions": {"type": "array", "items": _CONDITION},
                "observedGeneration": {"type": "integer", "format": "int64"},
            },
        }
        schema = {
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": _SPECS[kind],
                "status": status,
            },
        }
        version = {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": schema},
            "subresources": {"status": {}},
        }
        names = {
            "kind": kind,
            "listKind": f"{kind}List",
            "plural": plural,
            "singular": kind.lower(),
        }
        items.append(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.source.toolkit.fluxcd.io"},
                "spec": {
                    "group": "source.toolkit.fluxcd.io",
                    "names": names,
                    "scope": "Namespaced",
                    "versions": [version],
                },
            }
        )
    return {"apiVersion": "v1", "kind": "List", "items": items}


def git_repository(namespace: str, name: str = "podinfo", **spec: Any) -> Json:
    """A GitRepository to apply."""
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"interval": "1m", "url": "https://git.example.org/podinfo", **spec},
    }


def flux_status(url: str, digest: str, revision: str) -> Json:
    """The status that source-controller gives an object once its archive is there."""
    time = "2026-05-04T12:00:00Z"
    ready: Json = {
        "type": "Ready",
        "status": "True",
        "reason": "Succeeded",
        "lastTransitionTime": time,
    }
    return {
        "artifact": {
            "url": url,
            "digest": digest,
            "revision": revision,
            "path": "gitrepository/x.tar.gz",
            "lastUpdateTime": time,
        },
        "conditions": [{**ready, "message": f"stored artifact for revision '{revision}'"}],
    }


def archive(files: dict[str, str], *members: tarfile.TarInfo) -> bytes:
    """A tar.gz of files, and of other members as they are."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
        for member in members:
            tar.addfile(member)
    return buffer.getvalue()


def digest_of(data: bytes) -> str:
    """The digest of an archive, as Flux writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
