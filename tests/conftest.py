"""How tests run: which of them in one process, and with which patience."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

OWN_CLUSTERS = "test_cluster.py"  # starts its own, and needs nothing of the shared node

# A busy machine is no fault of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class SideBySide(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Keeps together what shares something costly: the node, a control plane, built packages."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        _tests, kind, room, *_ = file.split("/")
        if kind == "e2e" and room != OWN_CLUSTERS:
            return "node"
        # A control plane starts in three seconds, and its tests take as long as all of a node's.
        if kind == "integration" and room != "controller":
            return f"{kind}/{room}"
        return file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    """What hands out tests when there are several processes."""
    return SideBySide(config, log)
