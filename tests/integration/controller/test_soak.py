"""Half a minute of the soak: `make soak` runs it for as long as one likes."""

from pathlib import Path

from integration.controller.soak.run import soak
from support.kubernetes import Cluster


async def test_whatever_goes_wrong_every_image_comes_to_its_right_state(
    cluster: Cluster, tmp_path: Path
) -> None:
    seen = await soak(cluster.kubeconfig, tmp_path, seconds=20, seed=20_260_504)
    assert seen["jobs"] > 0
