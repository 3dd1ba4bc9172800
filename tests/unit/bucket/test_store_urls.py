"""A bucket's URL opens it, or says what is wrong with it."""

import pytest

from niximage.bucket import open_store
from niximage.errors import Reason, Terminal


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("file:///srv/images", "file:///srv/images"),
        ("file://localhost/srv/images/", "file:///srv/images"),
        ("file:///srv/with%20space", "file:///srv/with%20space"),
        ("gs://images", "gs://images"),
        ("gs://images/", "gs://images"),
        ("gs://my.images_1/some/prefix/", "gs://my.images_1/some/prefix"),
    ],
)
def test_urls_that_open(url: str, same: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    store = open_store(url)
    assert store.url == same
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/images",
        "srv",
        "file://srv/images",
        "file:///",
        "file://",
        "file:relative",
        "file:///srv/../etc",
        "file:///srv/%2e%2e/etc",
        "file:///srv/%00",
        "file:///srv?x=1",
        "gs://",
        "gs:///prefix",
        "gs://UPPER",
        "gs://a",
        "gs://images/../other",
        "gs://images//x",
        "gs://user@images",
        "gs://images#x",
        "s3://images",
        "http://[broken",
        "x" * 100_000,
    ],
)
def test_urls_that_do_not(url: str) -> None:
    with pytest.raises(Terminal, match="is no bucket") as caught:
        open_store(url)
    assert caught.value.reason is Reason.INVALID_SPEC
    assert "gs://bucket" in caught.value.hint
    assert len(caught.value.message) < 1000
