"""Images of real programs: what Debian's bash, Python, curl and Nix do in a root of ours."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.builder.images import Folder
from integration.builder.test_local import inside, unpacked
from niximage.api.build import PinnedBase, PinnedSource, PublishResult
from niximage.api.spec import Config
from support.debian_set.make import make_repository

VERIFY = ("/bin/nix-store", "--verify", "--check-contents")
USER = 1000


@dataclass(frozen=True)
class DebianSet:
    """A repository of the set, at its only revision."""

    source: PinnedSource


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> DebianSet:
    folder = tmp_path_factory.mktemp("debian") / "repository"
    revision = make_repository(folder, "main")
    return DebianSet(PinnedSource(url=folder.as_uri(), ref="refs/heads/main", revision=revision))


def of_bucket(result: PublishResult) -> PinnedBase:
    return PinnedBase(repository=result.repository, digest=result.digest)


FEW = {"maxLayers": 8}  # what the tools do for each layer takes longer than the tests


def test_nix_verifies_its_store_inside(debian: DebianSet, bucket: Folder, tmp_path: Path) -> None:
    result = bucket.build(
        debian,
        *("bash", "coreutils", "nix"),
        nix_database=True,
        config=Config(user=str(USER)),
        layering=FEW,
    )
    root = unpacked(bucket, result.digest, tmp_path)
    store = root / "nix" / "store"
    before = {path.name for path in store.iterdir()}
    inside(root, *VERIFY, user=USER)
    (bash,) = (root / "nix" / "var" / "nix" / "gcroots" / "niximage").glob("*-bash-*")
    closure = inside(root, "/bin/nix-store", "--query", "--requisites", str(bash.readlink()))
    assert {path.partition("-")[2].partition("-")[0] for path in closure.split()} == {
        "bash",
        "libc6",
        "libtinfo6",
    }
    inside(root, "/bin/nix-store", "--gc", user=USER)
    assert {path.name for path in store.iterdir()} - {".links"} == before - {".links"}
    (damaged,) = store.glob("*-coreutils-*/bin/tac")
    damaged.write_text("damage")
    with pytest.raises(AssertionError, match="was modified"):
        inside(root, *VERIFY)


def test_nix_knows_what_the_base_has(debian: DebianSet, bucket: Folder, tmp_path: Path) -> None:
    base = bucket.build(debian, "coreutils", "nix", name="base", nix_database=True, layering=FEW)
    result = bucket.build(
        debian, "bash", "python3", nix_database=True, base=of_bucket(base), layering=FEW
    )
    root = unpacked(bucket, result.digest, tmp_path)
    inside(root, *VERIFY)
    inside(root, "/bin/nix-store", "--gc")
    store = root / "nix" / "store"
    there = sorted(f"/nix/store/{path.name}" for path in store.iterdir() if path.name[0] != ".")
    inside(root, "/bin/nix-store", "--check-validity", *there)
    assert inside(root, "/bin/bash", "-c", "nix --version; python3 -V").count("\n") == 2
