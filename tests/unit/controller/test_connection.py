"""The way to a cluster, as a kubeconfig says it."""

from pathlib import Path

import pytest

from niximage.controller.cluster.connection import Connection, Kubeconfig
from niximage.errors import Reason, Terminal

NO_CLUSTER = """current-context: a
contexts: [{name: a, context: {cluster: b, user: c}}]"""


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"clusters: 5",
        b"text",
        b"\xff\xfe\x00",
        b"a: [",
        NO_CLUSTER.encode(),
    ],
)
async def test_a_kubeconfig_that_is_none_is_told_with_its_place(
    tmp_path: Path, text: bytes
) -> None:
    path = tmp_path / "config"
    path.write_bytes(text)
    with pytest.raises(Terminal, match="no cluster to talk to: ") as caught:
        async with Connection(user=Kubeconfig(str(path))):
            pass
    assert caught.value.reason is Reason.CLUSTER_UNAVAILABLE
