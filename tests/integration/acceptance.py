"""What other tools say of an image: skopeo, umoci, crane and containerd, each in its own words.

Every image that a test publishes goes through all of them, once for each digest. Each tool
pulls it from a gateway, reads all of it and verifies its digests; umoci and containerd unpack it.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Final

from integration.conftest import end, wait_until
from integration.gateway.conftest import running
from niximage.bucket import ObjectStore, keys, open_store
from niximage.bucket.manifest import MANIFEST_LIMIT, media_type
from niximage.bucket.publish import publish_manifest, put_blob
from niximage.image.descriptor import INDEX, Descriptor

_TIMEOUT: Final = 120.0  # seconds of one tool for one image
# As small as it gets: neither Kubernetes' interface nor what would look for other file systems.
_CONFIGURATION: Final = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{folder}/socket"
"""


@dataclass(frozen=True)
class Acceptance:
    """The tools, and which images they have seen.

    Attributes:
        crane: its program.
        containerd: the socket of a running one; None where we may not run it.
        snapshotter: where that unpacks to.
    """

    crane: Path
    containerd: Path | None
    snapshotter: str
    seen: set[str] = field(default_factory=set)

    def sweep(self, folder: Path) -> None:
        """Show the tools every image in the `file://` buckets below a folder."""
        for own in sorted(folder.rglob(f"{keys.OWN}builds")):
            bucket = own.parents[len(Path(keys.OWN).parts)]
            found = {}
            for record in own.rglob("*"):
                if record.is_file():
                    built = json.loads(record.read_bytes())
                    found[built["digest"]] = f"{built['repository']}@{built['digest']}"
            self._show(bucket, [found[digest] for digest in sorted(found.keys() - self.seen)])
            self.seen.update(found)

    def _show(self, bucket: Path, images: Sequence[str]) -> None:
        if not images:
            return
        with (
            tempfile.TemporaryDirectory(prefix="niximage-copies-") as folder,
            closing(open_store(bucket.as_uri())) as store,
            closing(open_store(Path(folder).as_uri())) as copies,
            running(store) as registry,
            running(copies) as copied,
            ThreadPoolExecutor(2) as pool,
        ):
            references = [f"{registry.address}/{image}" for image in images]
            indexes = [_is_index(store, image) for image in images]
            complaints = [
                line
                for lines in pool.map(
                    self._complaints, references, indexes, repeat(copies), repeat(copied.address)
                )
                for line in lines
            ]
        assert not complaints, "\n".join(complaints)

    def _complaints(
        self, reference: str, is_index: bool, copies: ObjectStore, copied: str
    ) -> list[str]:
        """What each tool has against an image, or against any member of an index."""
        with tempfile.TemporaryDirectory(prefix="niximage-accept-") as folder:
            layout = f"{folder}/layout:image"
            image = f"docker://{reference}"
            copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]
            unpack = ["umoci", "unpack", *(["--rootless"] if os.geteuid() else [])]
            # umoci and the whole of `crane validate` know layers of gzip only: of zstd they see
            # the same tars, and `--fast` looks at the documents as they are. The copy comes from
            # a registry, too: of a tarball, crane would compress each layer anew.
            copy_to_layout = [
                *copy,
                "--dest-compress-format=gzip",
                "--dest-compress-level=1",
                image,
                f"oci:{layout}",
            ]
            if words := _complaint(copy_to_layout):
                return [words]
            repacked = f"{copied}/{_publish(Path(folder) / 'layout', copies)}"
            tools: list[list[str | Path]] = [
                [*unpack, "--image", layout, f"{folder}/bundle"],
                [self.crane, "validate", "--remote", repacked],
                [self.crane, "validate", "--fast", "--remote", reference],
            ]
            if is_index:
                whole = ["--all", "--preserve-digests", image, f"oci:{folder}/whole:image"]
                tools.append([*copy, *whole])
            if self.containerd is not None:
                ctr = ["ctr", "--address", str(self.containerd), "images", "pull", "--plain-http"]
                every = ["--all-platforms"] if is_index else []
                tools.append([*ctr, *every, "--snapshotter", self.snapshotter, reference])
            return [words for tool in tools if (words := _complaint(tool))]


def _is_index(store: ObjectStore, image: str) -> bool:
    content = store.read(keys.blob(image.partition("@")[2]), limit=MANIFEST_LIMIT)
    return content is not None and media_type(content) == INDEX


def _publish(layout: Path, store: ObjectStore) -> str:
    """Publish the one image of a layout; its repository and digest."""
    (manifest,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    for blob in (layout / "blobs" / "sha256").iterdir():
        put_blob(store, Descriptor("", f"sha256:{blob.name}", blob.stat().st_size), blob)
    content = (layout / "blobs" / manifest["digest"].replace(":", "/")).read_bytes()
    return f"copy@{publish_manifest(store, 'copy', content).digest}"


def _complaint(command: Sequence[str | Path]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, errors="replace"
    )
    words = (done.stdout + done.stderr).strip()[-2000:]
    return f"{' '.join(map(str, command))}: {words}" if done.returncode else ""


@contextmanager
def tools_that_accept(tools: Path) -> Iterator[Acceptance]:
    """The tools, with a containerd of their own where we are root."""
    if os.geteuid() != 0:
        yield Acceptance(tools / "crane", None, "")
        return
    with _containerd() as socket:
        plugins = subprocess.run(
            ["ctr", "--address", socket, "plugins", "ls"],
            check=True,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
        ).stdout.splitlines()
        works = any({"overlayfs", "ok"} <= set(line.split()) for line in plugins)
        yield Acceptance(tools / "crane", socket, "overlayfs" if works else "native")


@contextmanager
def _containerd() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="niximage-ctd-"))  # sockets want a short path
    (folder / "config.toml").write_text(_CONFIGURATION.format(folder=folder))
    # It must not outlive a session that is killed.
    command = ["setpriv", "--pdeathsig", "TERM", "containerd", "--log-level", "error"]
    command += ["--config", str(folder / "config.toml")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        ctr = ["ctr", "--address", str(folder / "socket"), "version"]

        def answers() -> bool:
            return subprocess.run(ctr, capture_output=True, check=False, timeout=10).returncode == 0

        wait_until("containerd", answers, process)
        yield folder / "socket"
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)
