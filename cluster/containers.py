"""containerd on the node: its configuration, the images it is given, and its mounts."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import network
from binaries import HERE
from cache import cache_folder, digest, locked
from console import ClusterError, run, say, step
from instance import Instance, write_json
from packages import SYSTEM_PATH

BASE_IMAGE = "localhost/niximage-cluster/busybox:1"
_REFERENCE_NAME = "org.opencontainers.image.ref.name"
_IMAGE_SECONDS = 20


def socket_of(instance: Instance) -> Path:
    """Where containerd listens."""
    return instance.state / "containerd" / "containerd.sock"


def write_configuration(instance: Instance) -> Path:
    """Write containerd's configuration and return its path."""
    folder = instance.state / "containerd"
    folder.mkdir()
    path = folder / "config.toml"
    path.write_text(f"""\
version = 2
root = "{folder}/root"
state = "{folder}/run"
# images come by `load` and from registries; these would only look for their tools and warn
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{socket_of(instance)}"

[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{BASE_IMAGE}"
# without CAP_SYS_RESOURCE every pod would fail: runc may not lower its score
restrict_oom_score_adj = true
# so that `down` finds the network namespaces with the other mounts
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".registry]
# of each registry that needs one, in a folder of its name: hosts.toml, read at each pull
config_path = "{folder}/certs.d"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{network.plugins_folder(instance)}"
conf_dir = "{instance.state}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{instance.snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{folder}/runc"
""")
    return path


def best_snapshotter(state: Path) -> str:
    """`overlayfs` where it can be mounted below the state folder, else `native`, which copies."""
    with tempfile.TemporaryDirectory(dir=state, prefix="overlay-") as temporary:
        lower, upper, work, merged = (Path(temporary) / n for n in ("lower", "up", "work", "all"))
        for folder in (lower, upper, work, merged):
            folder.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        try:
            run(["mount", "-t", "overlay", "overlay", "-o", options, merged])
        except ClusterError:
            return "native"
        run(["umount", merged])
        return "overlayfs"


def base_image_archive() -> Path:
    """An image with a static busybox, made once; without a command it sleeps: the pause image."""
    recipe = HERE / "Containerfile"
    path = cache_folder() / f"base-image-{digest(recipe.read_bytes())}.tar"
    if not path.exists():
        with locked("base-image"):
            if not path.exists():
                _build_base_image(recipe, path)
    return path


def load(instance: Instance, archives: Sequence[Path]) -> list[str]:
    """Import OCI archives and return the names that pods can use.

    An archive whose bytes were imported before, and whose images are still there, is skipped.
    """
    record = instance.state / "loaded.json"
    loaded: dict[str, list[str]] = json.loads(record.read_text()) if record.exists() else {}
    names: list[str] = []
    for archive in archives:
        key = _file_digest(archive)
        if key in loaded and set(loaded[key]) <= _usable_images(instance).keys():
            say(f"    {archive}: already loaded")
        else:
            with step(f"loading {archive}"):
                loaded[key] = import_archive(instance, archive)
                write_json(record, loaded)
        names += loaded[key]
    return names


def shim_sockets(state: Path) -> list[Path]:
    """The sockets of containerd's shims: their folder is fixed, and outside of the state folder."""
    tasks = state / "containerd" / "run" / "io.containerd.runtime.v2.task"
    addresses = {file.read_text() for file in tasks.glob("*/*/address")}
    return [Path(address.removeprefix("unix://")) for address in addresses]


def unmount_all(state: Path) -> None:
    """Unmount everything below the folder: volumes, root file systems, network namespaces."""
    for mount_point in reversed(_mount_points(state)):
        # --lazy: what is still in use goes with its last user
        subprocess.run(["umount", "--lazy", mount_point], capture_output=True, check=False)
    if remaining := _mount_points(state):
        raise ClusterError(f"these cannot be unmounted: {', '.join(remaining)}")


def _mount_points(folder: Path) -> list[str]:
    """Mount points below the folder, in the order in which they were mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # the kernel writes a space in a path as \040
        path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4])
        if path.startswith(f"{folder}/"):
            found.append(path)
    return found


def _build_base_image(recipe: Path, path: Path) -> None:
    with step("building the base image"), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        context = Path(folder) / "context"
        (context / "bin").mkdir(parents=True)
        busybox = context / "bin" / "busybox"
        busybox.write_bytes(Path(_which_busybox()).read_bytes())
        busybox.chmod(0o755)
        for applet in run([busybox, "--list"]).split():
            if applet != "busybox":
                (context / "bin" / applet).symlink_to("busybox")
        # vfs and chroot need neither a user namespace nor an overlay inside an overlay
        storage = ["--storage-driver", "vfs", "--root", f"{folder}/root"]
        buildah = ["buildah", *storage, "--runroot", f"{folder}/run"]
        flags = ["--isolation", "chroot", "--tag", BASE_IMAGE, f"--file={recipe}"]
        run([*buildah, "build", *flags, context])
        run([*buildah, "push", BASE_IMAGE, f"oci-archive:{folder}/image.tar:{BASE_IMAGE}"])
        (Path(folder) / "image.tar").rename(path)


def _which_busybox() -> str:
    return next(f"{p}/busybox" for p in SYSTEM_PATH.split(":") if Path(p, "busybox").exists())


def import_archive(instance: Instance, archive: Path) -> list[str]:
    """Import one archive; returns, once pods can use them, the names of its images."""
    names = _names_in(archive)
    ctr = _ctr(instance)
    run([*ctr, "images", "import", "--snapshotter", instance.snapshotter, archive])
    for name in names:
        if name != _full_name(name):
            run([*ctr, "images", "tag", "--force", name, _full_name(name)])
    wanted = {_full_name(name) for name in names}
    deadline = time.monotonic() + _IMAGE_SECONDS
    # kubelet's side of containerd hears of an import by an event, a moment later
    while not all(_usable_images(instance).get(name) for name in wanted):
        if time.monotonic() > deadline:
            raise ClusterError(f"containerd does not show the images of {archive}: {wanted}")
        time.sleep(0.02)
    return sorted(wanted)


def _names_in(archive: Path) -> list[str]:
    try:
        with tarfile.open(archive) as tar:
            index = tar.extractfile("index.json")
            document = json.load(index) if index else {}
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise ClusterError(f"{archive} is no OCI archive: {error}") from error
    found = [entry.get("annotations", {}) for entry in document.get("manifests", [])]
    names = [marks[_REFERENCE_NAME] for marks in found if _REFERENCE_NAME in marks]
    if not names or not all(re.search("[/:@]", name) for name in names):
        raise ClusterError(
            f"{archive} does not say what its image is called: make it with "
            f"`buildah push IMAGE oci-archive:FILE:HOST/NAME:TAG`"
        )
    return names


def _full_name(name: str) -> str:
    """The name as kubelet looks it up: `app:1` means `docker.io/library/app:1`."""
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not re.search("[.:]", first) and first != "localhost":
        name = f"docker.io/{name}"
    return name if re.search("[:@]", name.rpartition("/")[2]) else f"{name}:latest"


def _usable_images(instance: Instance) -> Mapping[str, bool]:
    """The images in containerd, and whether pods can use each of them already."""
    lines = run([*_ctr(instance), "images", "list"]).splitlines()[1:]
    return {line.split()[0]: "io.cri-containerd.image=managed" in line for line in lines}


def _ctr(instance: Instance) -> list[str | Path]:
    return ["ctr", "--address", socket_of(instance), "--namespace", "k8s.io"]


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ClusterError(f"{path} cannot be read: {error.strerror}") from error
