"""What is read of an image's config to write it where plain tars are wanted."""

import json

import pytest

from niximage.builder.export import diff_ids_of
from niximage.errors import Reason, Retryable

SHA = [f"sha256:{n:064x}" for n in range(3)]


def test_the_layers_are_named_in_their_order() -> None:
    assert diff_ids_of(json.dumps({"rootfs": {"diff_ids": SHA}}).encode(), 3) == SHA


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"rootfs": []}',
        json.dumps({"rootfs": {"diff_ids": SHA[:2]}}).encode(),
        json.dumps({"rootfs": {"diff_ids": [*SHA[:2], "../evil"]}}).encode(),
        json.dumps({"rootfs": {"diff_ids": [*SHA[:2], 7]}}).encode(),
    ],
)
def test_what_is_no_config_is_told_so(config: bytes) -> None:
    with pytest.raises(Retryable) as caught:
        diff_ids_of(config, 3)
    assert caught.value.reason is Reason.RESULT_INVALID
