"""The chart, rendered by the real helm, once per set of values."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[3]
CHART = PROJECT / "charts" / "niximage-operator"
RELEASE = "niximage"
NAMESPACE = "niximage-system"
IMAGE = {"image": {"repository": "registry.example/niximage-operator"}}

Json = dict[str, Any]


class Manifests:
    """What one set of values renders."""

    def __init__(self, documents: Sequence[Json]) -> None:
        self.all = list(documents)

    def find(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        """An object by kind and name, or None."""
        for each in self.all:
            own = each["metadata"]
            if (each["kind"], own["name"]) == (kind, name) and (
                namespace is None or own.get("namespace") == namespace
            ):
                return each
        return None

    def get(self, kind: str, name: str, namespace: str | None = None) -> Json:
        """An object by kind and name, which is there."""
        found = self.find(kind, name, namespace)
        assert found is not None, f"{kind} {name} is not among {self.names()}"
        return found

    def names(self) -> set[tuple[str, str]]:
        """Kind and name of all objects."""
        return {(each["kind"], each["metadata"]["name"]) for each in self.all}

    def of_kind(self, kind: str) -> list[Json]:
        """All objects of a kind."""
        return [each for each in self.all if each["kind"] == kind]

    def pods(self) -> dict[str, Json]:
        """The pod templates, by the component they are of."""
        found = {}
        for each in self.all:
            spec = each.get("spec") or {}
            template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
            if template is not None:
                labels = template["metadata"]["labels"]
                found[labels["app.kubernetes.io/component"]] = template
        return found

    def environment(self, component: str) -> dict[str, str]:
        """The variables of a component's only container."""
        (container,) = self.pods()[component]["spec"]["containers"]
        return {each["name"]: each["value"] for each in container["env"]}


def helm_template(helm: Path, values: Json) -> subprocess.CompletedProcess[str]:
    """Run `helm template`; the caller looks at the exit code."""
    return subprocess.run(
        [helm, "template", RELEASE, CHART, "--namespace", NAMESPACE, "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


Render = Callable[[Json], Manifests]


@pytest.fixture(scope="session")
def helm(tools: Path) -> Path:
    """The program."""
    return tools / "helm"


@pytest.fixture(scope="session")
def render(helm: Path) -> Render:
    """Renders values, on top of an image; equal ones once."""
    rendered: dict[str, Manifests] = {}

    def manifests(values: Json) -> Manifests:
        key = json.dumps(values, sort_keys=True)
        if key not in rendered:
            done = helm_template(helm, {**IMAGE, **values})
            assert done.returncode == 0, done.stderr
            documents = yaml.load_all(done.stdout, Loader=yaml.CSafeLoader)
            rendered[key] = Manifests([each for each in documents if each])
        return rendered[key]

    return manifests
