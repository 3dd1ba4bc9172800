"""What documents show is what the API server takes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.conftest import PROJECT
from support.kubernetes import Cluster, nix_image

DOCUMENTS = ("dockertools.md", "index.md", "nixery.md", "sources.md")
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> dict[str, dict[str, Any]]:
    """Every object in a YAML block, by document and line; parts of a spec stand for an image."""
    found = {}
    for name in DOCUMENTS:
        text = Path(PROJECT / "docs" / name).read_text()
        for block in _BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 2
            for number, document in enumerate(yaml.safe_load_all(block[1])):
                whole = document if "kind" in document else nix_image("default", **document)
                found[f"{name}:{line}.{number}"] = whole
    return found


EXAMPLES = examples()


def test_documents_have_examples() -> None:
    assert {name.partition(":")[0] for name in EXAMPLES} == set(DOCUMENTS)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_the_api_server_takes_an_example(
    cluster: Cluster, namespace: str, example: dict[str, Any]
) -> None:
    example["metadata"]["namespace"] = namespace
    cluster.do("create", "--dry-run=server", "--validate=strict", "-f", "-", given=example)
