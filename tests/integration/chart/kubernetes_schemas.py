"""JSON schemas of the kinds that the chart makes, for several versions of Kubernetes.

kubeconform's own source of them is a web site. The same are made here from what Kubernetes' API
servers say of themselves, which is part of the Go module k8s.io/kubernetes, and from the
Prometheus operator's CRDs, which are part of its module.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from integration.chart.conftest import CHART

KUBERNETES: Final = {
    "1.30": "v1.30.14",
    "1.31": "v1.31.14",
    "1.32": "v1.32.10",
    "1.33": "v1.33.6",
    "1.34": "v1.34.4",
    "1.35": "v1.35.4",
    "1.36": "v1.36.3",
}
PROMETHEUS_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
KINDS: Final = {
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "CronJob",
    "CustomResourceDefinition",
    "DaemonSet",
    "Deployment",
    "Ingress",
    "NetworkPolicy",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
    "Service",
    "ServiceAccount",
}
PATTERN: Final = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
DOWNLOAD_SECONDS: Final = 240.0

Json = dict[str, Any]


def module(name: str, folder: Path) -> Path:
    """The folder of a Go module; downloaded, and checked by Go, where it is not there."""
    (folder / "go.mod").write_text("module schemas\n")  # the command wants to be in a module
    done = subprocess.run(
        ["go", "mod", "download", "-json", name],
        cwd=folder,
        env={**os.environ, "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)["Dir"])


def write_schemas(version: str, folder: Path) -> None:
    """Write a version's schemas: one file per kind, as PATTERN names them."""
    source = module(f"k8s.io/kubernetes@{KUBERNETES[version]}", folder)
    swagger = json.loads((source / "api" / "openapi-spec" / "swagger.json").read_text())
    for kind, group, api_version, schema in built_in(swagger["definitions"]):
        save(folder, kind, group, api_version, schema)
    example = module(PROMETHEUS_OPERATOR, folder) / "example" / "prometheus-operator-crd"
    files = [
        *(CHART / "files" / "crds").iterdir(),
        *(example / f"monitoring.coreos.com_{each}.yaml" for each in MONITORING),
    ]
    for file in files:
        crd = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["spec"]
        for each in crd["versions"]:
            schema = strict(each["schema"]["openAPIV3Schema"])
            for name in ("apiVersion", "kind", "metadata"):
                schema["properties"].setdefault(name, {})
            schema["properties"]["metadata"] = {"type": "object"}
            save(folder, crd["names"]["kind"], crd["group"], each["name"], schema)


MONITORING: Final = ("podmonitors", "servicemonitors", "prometheusrules")


def save(folder: Path, kind: str, group: str, version: str, schema: Json) -> None:
    suffix = "-".join(filter(None, [group.partition(".")[0], version]))
    (folder / f"{kind.lower()}-{suffix}.json").write_text(json.dumps(schema))


def built_in(definitions: Json) -> Iterator[tuple[str, str, str, Json]]:
    """Kind, group, version and schema of all KINDS."""
    for name, definition in definitions.items():
        for each in definition.get("x-kubernetes-group-version-kind", ()):
            if each["kind"] in KINDS:
                needed: Json = {}
                collect(name, definitions, needed)
                schema = {**needed[name], "definitions": needed}
                yield each["kind"], each["group"], each["version"], schema


def collect(name: str, definitions: Json, into: Json) -> None:
    """Put a definition, and all that it refers to, into a dictionary."""
    if name in into:
        return
    into[name] = strict(definitions[name])
    for found in references(definitions[name]):
        collect(found, definitions, into)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def strict(node: Any) -> Any:
    """A schema that takes no unknown field, and numbers where Kubernetes takes them."""
    if isinstance(node, list):
        return [strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("properties"), dict):
        properties = {name: strict(each) for name, each in node["properties"].items()}
        rest = {name: each for name, each in node.items() if name in ("type", "required")}
        closed = {"additionalProperties": False} if properties else {}
        if node.get("x-kubernetes-preserve-unknown-fields"):
            closed = {}
        return {**rest, **closed, "properties": properties}
    if node.get("format") == "int-or-string" or "Quantity is a" in node.get("description", ""):
        return {"type": ["string", "integer", "number"]}
    kept = {"type", "items", "enum", "$ref", "required", "additionalProperties", "pattern"}
    return {name: strict(each) for name, each in node.items() if name in kept}
