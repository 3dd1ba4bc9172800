"""Bringing layers into a bucket: several at once, nothing twice, nothing left behind."""

import shutil
from pathlib import Path

import pytest

from integration.builder.images import Folder
from niximage.builder.layers import (
    LayerInBucket,
    WantedLayer,
    bring_layers,
    root_layer,
    store_layers,
)
from niximage.errors import Retryable
from niximage.image.closure import PathInfo
from niximage.image.compress import CODECS, GZIP, ZSTD, Codec
from niximage.image.contents import StoreDirectory
from niximage.image.entries import file
from niximage.image.root import Root
from unit.image.closures import closure

COUNT = 9

each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    """Folders in the place of store paths, from a few bytes to several blocks."""
    made = []
    for i in range(COUNT):
        tree = tmp_path / "trees" / f"tree{i}"
        tree.mkdir(parents=True)
        (tree / "small").write_text(f"{i}\n")
        (tree / "lines").write_text("".join(f"line {i * j}\n" for j in range(i * 60_000)))
        made.append(tree)
    return made


def wanted(trees: list[Path], codec: Codec = ZSTD) -> list[WantedLayer]:
    """A layer of each tree, and one of a file at hand."""
    layers = [
        WantedLayer(f"{i:064x}", tree.name, infos=(PathInfo(str(tree), "", 0, ()),), codec=codec)
        for i, tree in enumerate(trees)
    ]
    return [*layers, WantedLayer("f" * 64, "root", entries=(file(b"f", b"x"),), codec=codec)]


def bring(
    layers: list[WantedLayer],
    bucket: Folder,
    scratch: Path,
    *,
    threads: int = 2,
    said: list[str] | None = None,
) -> list[LayerInBucket]:
    return bring_layers(
        layers,
        contents=StoreDirectory(),
        bucket=bucket.store,
        namespace="team",
        scratch=scratch,
        threads=threads,
        say=(said if said is not None else []).append,
    )


@each_codec
def test_threads_do_not_change_the_layers_or_their_order(
    trees: list[Path], scratch: Path, tmp_path: Path, codec: Codec
) -> None:
    found = []
    for threads in (1, 2, 8):
        bucket = Folder.open(tmp_path / f"bucket{threads}")
        found.append(bring(wanted(trees, codec), bucket, scratch, threads=threads))
        bucket.store.close()
    assert found[0] == found[1] == found[2]
    assert [each.layer.comment for each in found[0]] == [w.comment for w in wanted(trees)]
    assert {each.layer.descriptor.media_type for each in found[0]} == {codec.media_type}


def test_every_blob_is_there_and_no_spool_file(
    trees: list[Path], bucket: Folder, scratch: Path
) -> None:
    said: list[str] = []
    for each in bring(wanted(trees), bucket, scratch, said=said):
        descriptor = each.layer.descriptor
        assert bucket.blob(descriptor.digest).stat().st_size == descriptor.size
        assert not each.reused
    assert list(scratch.iterdir()) == []
    assert said[0] == f"0 of {COUNT + 1} layers are there"
    assert sum(line.startswith("packed ") for line in said) == COUNT + 1


def test_what_is_there_is_not_read_again(trees: list[Path], bucket: Folder, scratch: Path) -> None:
    first = bring(wanted(trees), bucket, scratch)
    for tree in trees:
        shutil.rmtree(tree)
    second = bring(wanted(trees), bucket, scratch)
    assert [each.layer for each in second] == [each.layer for each in first]
    assert all(each.reused for each in second)


def test_only_the_layer_whose_blob_is_gone_is_packed_again(
    trees: list[Path], bucket: Folder, scratch: Path
) -> None:
    first = bring(wanted(trees), bucket, scratch)
    bucket.blob(first[4].layer.descriptor.digest).unlink()
    second = bring(wanted(trees), bucket, scratch)
    assert [each.layer for each in second] == [each.layer for each in first]
    assert [i for i, each in enumerate(second) if not each.reused] == [4]


@pytest.mark.parametrize("missing", [0, COUNT - 1])
def test_one_layer_that_fails_fails_all_and_leaves_no_spool_file(
    trees: list[Path], bucket: Folder, scratch: Path, missing: int
) -> None:
    shutil.rmtree(trees[missing])
    with pytest.raises(Retryable, match=f"the store cannot be read: .*tree{missing}"):
        bring(wanted(trees), bucket, scratch)
    assert list(scratch.iterdir()) == []


def test_layers_of_another_codec_have_other_keys() -> None:
    paths, root = closure({"a": (10, []), "b": (10, ["a"])}), Root((file(b"f", b"x"),), "")
    zstd = [*store_layers(paths), root_layer(root)]
    gzip = [*store_layers(paths, codec=GZIP), root_layer(root, codec=GZIP)]
    assert {layer.key for layer in zstd}.isdisjoint(layer.key for layer in gzip)
    assert {layer.codec for layer in gzip} == {GZIP}
    assert zstd == [*store_layers(paths, codec=ZSTD), root_layer(root, codec=ZSTD)]
