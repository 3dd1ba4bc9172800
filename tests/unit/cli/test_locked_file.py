"""Locking files of users: only what must change does."""

import pytest
import yaml

from niximage.cli.local.locked_file import Lock, Moving, images_in, lock_text
from niximage.errors import Terminal

COMMIT = "c0ffee00" * 5
HASH = "sha256-" + "A" * 43 + "="
DIGEST = "sha256:" + "ab" * 32
HEAD = "apiVersion: niximage.dev/v1alpha1\nkind: NixImage\nmetadata: {name: web}  # ours\n"
BLOCK = (
    HEAD
    + """spec:
  packages:
  - hello   # says it
  source:
    nixpkgs:
      channel: nixos-26.05   # stable

# the end
"""
)
FLOW = HEAD + "spec: {packages: [hello], source: {nixpkgs: {channel: nixos-26.05}}}\n"
GIT = (
    HEAD
    + """spec:
  source:
    git:
      url: https://example.org/set.git
      ref:
        branch: "main"
      path: .
  packages: [hello]
  output:
    tags: [prod]
---
kind: Deployment   # untouched
spec:   {channel:   nixos-26.05}
"""
)
ALL = Lock(COMMIT, HASH, DIGEST)


def test_a_channel_becomes_a_revision_with_its_hash_and_a_comment() -> None:
    [image] = images_in(BLOCK, "x.yaml")
    assert (image.name, image.follows) == ("default/web", Moving("channel", "nixos-26.05"))
    assert (
        lock_text(BLOCK, image, ALL)
        == HEAD
        + f"""spec:
  packages:
  - hello   # says it
  source:
    nixpkgs:
      revision: {COMMIT}  # channel: nixos-26.05   # stable
      narHash: {HASH}
  output:
    expectedDigest: {DIGEST}

# the end
"""
    )


def test_what_is_written_in_one_line_stays_in_one_line() -> None:
    [image] = images_in(FLOW, "x.yaml")
    nixpkgs = f"{{revision: {COMMIT}, narHash: {HASH}}}"
    assert lock_text(FLOW, image, ALL) == (
        f"{HEAD}spec: {{packages: [hello], source: {{nixpkgs: {nixpkgs}}}, "
        f"output: {{expectedDigest: {DIGEST}}}}}  # channel: nixos-26.05\n"
    )


def test_a_branch_becomes_a_commit_and_other_documents_stay_as_they_are() -> None:
    [image] = images_in(GIT, "x.yaml")
    locked = lock_text(GIT, image, Lock(COMMIT, digest=DIGEST))
    assert f"        commit: {COMMIT}  # branch: main\n      path: .\n" in locked
    assert f"    tags: [prod]\n    expectedDigest: {DIGEST}\n---\n" in locked
    assert locked.endswith(GIT[GIT.index("---\n") :])


@pytest.mark.parametrize(
    "text",
    [BLOCK, BLOCK.replace("   # stable", ""), FLOW, GIT, BLOCK.replace("\n", "\r\n"), GIT.rstrip()],
)
def test_what_was_locked_is_known_again_and_can_be_locked_anew(text: str) -> None:
    [image] = images_in(text, "x.yaml")
    nar_hash = None if text.startswith(GIT.rstrip()) else HASH
    locked = lock_text(text, image, Lock(COMMIT, nar_hash, DIGEST))
    [again] = images_in(locked, "x.yaml")
    assert again.is_locked
    assert again.follows == image.follows
    assert again.image.spec.output.expected_digest == DIGEST
    newer = lock_text(locked, again, Lock("f" * 40, nar_hash, f"sha256:{'0' * 64}"))
    assert newer == locked.replace(COMMIT, "f" * 40).replace(DIGEST, f"sha256:{'0' * 64}")


def test_images_in_lists_are_found_and_two_of_one_name_are_told_apart() -> None:
    items = [yaml.safe_load(BLOCK), {"kind": "Secret"}, yaml.safe_load(FLOW)]
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})
    first, second = images_in(text, "x.yaml")
    locked = lock_text(text, second, ALL)
    documents = yaml.safe_load(locked)["items"]
    assert documents[0] == items[0]
    assert documents[2]["spec"]["source"] == {"nixpkgs": {"revision": COMMIT, "narHash": HASH}}
    assert first.image.spec.source == second.image.spec.source


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ .Values.x }}: {", "Templates must be rendered"),
        (HEAD + "spec: {}\n", "packages"),
        ("a: " + "[" * 80, "x.yaml is not YAML"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_file(text: str, words: str) -> None:
    with pytest.raises(Terminal) as told:
        images_in(text, "x.yaml")
    assert words in str(told.value)
    assert "x.yaml" in str(told.value)


@pytest.mark.parametrize("text", ["", "--- \n", "- a\n- b\n", "kind: NixImage\n", "1\n"])
def test_files_without_images_have_none(text: str) -> None:
    assert images_in(text, "x.yaml") == []
