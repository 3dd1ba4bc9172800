"""What a base is taken to hold is what umoci makes of the same layers."""

import os
import subprocess
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from integration.builder.bases import entry, foreign_image, tar
from niximage.bucket.file import FileStore
from niximage.bucket.reader import BucketReader
from niximage.builder.export import Output, export_image
from niximage.image.descriptor import LAYER_TAR, Descriptor, digest_of
from niximage.image.entries import Kind
from niximage.image.layer_reader import list_layer
from niximage.image.tree import Node, Tree

PART = st.sampled_from("abc")
PATH = st.lists(PART, min_size=1, max_size=3).map("/".join)
TARGET = st.sampled_from(["a", "b", "/a", "/b/c", "../a", "..", "/", "c/a", "."])
ENTRIES = st.one_of(
    st.builds(entry, PATH, st.just(b"")),
    st.builds(entry, PATH, mode=st.sampled_from([0o755, 0o700])),
    st.builds(lambda path, target: entry(path, link=target), PATH, TARGET),
    st.builds(lambda path, name: entry(f"{path}/.wh.{name}", b""), PATH, PART),
    st.builds(lambda path: entry(f"{path}/.wh..wh..opq", b""), PATH),
)
LAYER = st.lists(ENTRIES, min_size=1, max_size=5, unique_by=lambda made: made[0].name).map(tar)
LAYERS = st.lists(LAYER, min_size=1, max_size=3, unique=True)


def unpacked(layers: list[bytes], folder: Path) -> dict[str, str] | None:
    """Paths to what is there, as umoci unpacks it; None if it cannot."""
    store, image = FileStore(folder / "bucket"), foreign_image(*layers)
    image.publish(store, "team/base")
    export_image(BucketReader(store), "team/base", image.digest, Output("oci", folder / "image"))
    rootless = ["--rootless"] if os.geteuid() else []
    command = ["umoci", "unpack", *rootless, "--image", "image:latest", "bundle"]
    if subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=60).returncode:
        return None
    root = folder / "bundle" / "rootfs"
    return {str(path.relative_to(root)): _seen(path) for path in root.rglob("*")}


def _seen(path: Path) -> str:
    if path.is_symlink():
        return f"to {path.readlink()}"
    return f"{path.stat().st_mode & 0o777:o}" if path.is_dir() else "file"


def listed(layers: list[bytes]) -> dict[str, str]:
    """The same, as we take it."""
    tree = Tree()
    for number, layer in enumerate(layers):
        blob = Descriptor.of(LAYER_TAR, layer)
        tree.add_layer(number, list_layer([layer], blob, digest_of(layer)))
    found: dict[str, str] = {}

    def add(here: Node, prefix: str) -> None:
        for name, node in here.children.items():
            path = prefix + name.decode()
            match node.kind:
                case Kind.DIRECTORY:
                    found[path] = f"{node.mode:o}"
                case Kind.SYMLINK:
                    found[path] = f"to {node.target.decode()}"
                case Kind.FILE:
                    found[path] = "file"
            add(node, f"{path}/")

    add(tree.root, "")
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(LAYERS)
def test_layers_make_what_umoci_unpacks(layers: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        theirs = unpacked(layers, Path(folder))
    assume(theirs is not None)  # a file stands where a directory should: no runtime takes it
    assert listed(layers) == theirs
