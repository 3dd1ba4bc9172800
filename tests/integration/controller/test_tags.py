"""Tags as the operator moves them: where it says, unless it has said otherwise since."""

from pathlib import Path

import pytest

from integration.tiny import tiny_image
from niximage.bucket import open_store
from niximage.bucket.images import resolve_tag
from niximage.controller.bucket_looks import move_tags
from niximage.controller.steps import MoveTags
from niximage.errors import Reason, Retryable

OLD, NEW = tiny_image(b"old"), tiny_image(b"new")
REPOSITORY = "team/web"


def test_tags_follow_the_latest_decision_and_no_late_one(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    for image in (OLD, NEW):
        image.publish(store, REPOSITORY)
    move_tags(store, REPOSITORY, MoveTags(OLD.digest, ("stable", "26.05")), 1)
    move_tags(store, REPOSITORY, MoveTags(NEW.digest, ("stable",)), 3)
    with pytest.raises(Retryable, match="names an image that was asked for later") as caught:
        move_tags(store, REPOSITORY, MoveTags(OLD.digest, ("stable",)), 2)
    assert caught.value.reason is Reason.BUCKET_UNAVAILABLE
    assert resolve_tag(store, REPOSITORY, "stable") == NEW.digest
    assert resolve_tag(store, REPOSITORY, "26.05") == OLD.digest
    # To go back is a decision like any other.
    move_tags(store, REPOSITORY, MoveTags(OLD.digest, ("stable",)), 4)
    assert resolve_tag(store, REPOSITORY, "stable") == OLD.digest
