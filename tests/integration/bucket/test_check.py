"""Whether a bucket can be used is found out by using it."""

from pathlib import Path

import pytest

from niximage.bucket import ObjectStore, open_store
from niximage.bucket.check import check_bucket
from niximage.errors import Reason, Retryable
from support.strict_gcs import StrictGcs


def test_a_bucket_that_can_be_used_is_left_as_it_was(store: ObjectStore) -> None:
    check_bucket(store)
    assert list(store.list("")) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Retryable, match="the folder is not there") as away:
        check_bucket(open_store((tmp_path / "absent").as_uri()))
    assert away.value.reason is Reason.BUCKET_UNAVAILABLE


def test_a_bucket_that_is_not_there_is_told(strict_gcs: StrictGcs) -> None:
    store = open_store("gs://absent-bucket", patience=2)
    try:
        with pytest.raises(Retryable, match="absent-bucket") as away:
            check_bucket(store)
        assert away.value.reason is Reason.BUCKET_UNAVAILABLE
    finally:
        store.close()
