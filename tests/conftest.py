"""How tests run: which of them in one process, and with which patience."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
OWN_CLUSTERS = "test_cluster.py"  # starts its own, and needs nothing of the shared node

# A busy machine is no fault of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares something costly: the node, a control plane, built packages."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path)))


def _group(file: Path) -> str:
    kind, *rest = file.relative_to(HERE).parts
    if kind == "e2e" and file.name != OWN_CLUSTERS:
        return "node"
    if kind == "integration":
        return f"{kind}/{rest[0]}"
    return str(file.relative_to(HERE))
