"""What each image is made of, and the name that follows from it.

An image's tag is a hash of all that goes into it: a changed program has a new name, so no node
runs an old one by mistake, and an unchanged one is found without building anything.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import debian
import python_packages
from binaries import binaries_folder, recipe_digest
from buildah import Buildah
from cache import digest, locked
from console import run, step
from folders import ROOT, cache_folder, scratch_folder

HERE = Path(__file__).resolve().parent
KEPT_ARCHIVES = 3  # of each image: one may be on its way into a cluster

OPERATOR_BASE = debian.Base(
    packages=(
        "nix-bin",
        "git",
        "openssh-client",
        "skopeo",
        "ca-certificates",
        "xz-utils",
        "tini",
        "python3",
        "python3-venv",
    )
)
DEMO_BASE = debian.Base(packages=("lighttpd", "git", "tini"))


@dataclass(frozen=True)
class Image:
    """An image that can be loaded or pushed.

    Attributes:
        reference: its name and tag, as pods write it.
        archive: the OCI archive that holds it.
    """

    reference: str
    archive: Path


def operator() -> Image:
    """The image of operator, build steps and gateway."""
    recipe = HERE / "Containerfile"
    dependencies = digest(OPERATOR_BASE.key, recipe.read_bytes(), (ROOT / "uv.lock").read_bytes())
    program = _content(
        ROOT / "operator" / "src",
        ROOT / "nix" / "evaluate.nix",
        ROOT / "docs" / "troubleshooting.md",
        ROOT / "pyproject.toml",
        ROOT / "README.md",
        ROOT / "LICENSE",
    )

    def build(buildah: Buildah, reference: str) -> None:
        below = _dependencies(buildah, recipe, dependencies)
        with scratch_folder() as context, step("building the operator's image"):
            python_packages.build_wheel(context / "program")
            buildah.build(recipe, context, reference, arguments={"DEPENDENCIES": below})

    return _archived("operator", digest(dependencies, program), build)


def demo() -> Image:
    """The image that stands in for what the demo's cluster has no way to reach.

    A Git server with the demo package set, and Google's object store.
    """
    folder, package_set = HERE / "demo", ROOT / "nix" / "demo"
    sources = (DEMO_BASE.key, _content(folder), _content(package_set), recipe_digest())

    def build(buildah: Buildah, reference: str) -> None:
        base = debian.image(buildah, DEMO_BASE)
        bucket_server = binaries_folder(["fake-gcs-server"]) / "fake-gcs-server"
        with scratch_folder() as context, step("building the demo's image"):
            shutil.copy(folder / "lighttpd.conf", context)
            shutil.copy(bucket_server, context)
            run([package_set / "make-repository", context / "demo.git", "nixos-26.05"])
            buildah.build(folder / "Containerfile", context, reference, arguments={"BASE": base})

    return _archived("demo", digest(*sources), build)


IMAGES: Mapping[str, Callable[[], Image]] = {"operator": operator, "demo": demo}


def _dependencies(buildah: Buildah, recipe: Path, key: str) -> str:
    """The image below the operator's: all but the program itself."""
    reference = f"localhost/niximage-dependencies:{key[:12]}"
    if not buildah.has(reference):
        base = debian.image(buildah, OPERATOR_BASE)
        with scratch_folder() as context:
            with step("collecting Python packages"):
                python_packages.download_wheels(context / "wheels")
            with step("installing Python packages into an image"):
                buildah.build(
                    recipe, context, reference, target="dependencies", arguments={"BASE": base}
                )
        buildah.keep_only(reference)
    return reference


def _archived(name: str, key: str, build: Callable[[Buildah, str], None]) -> Image:
    """The image of this name and key; built when there is no archive of it."""
    reference = f"localhost/niximage-{name}:{key[:12]}"
    archive = cache_folder() / f"{name}-{key[:12]}.tar"
    if not archive.exists():
        debian.install_build_tools()
        with locked("images"):
            if not archive.exists():  # another process may have made it meanwhile
                buildah = Buildah.open(cache_folder())
                build(buildah, reference)
                with step(f"writing {archive}"):
                    buildah.export(reference, archive)
                buildah.remove(reference)
                _remove_old_archives(name)
    return Image(reference, archive)


def _remove_old_archives(name: str) -> None:
    archives = sorted(
        cache_folder().glob(f"{name}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for archive in archives[KEPT_ARCHIVES:]:
        archive.unlink(missing_ok=True)


def _content(*paths: Path) -> str:
    """A hash over files and folders: names and bytes, whatever the time stamps."""
    parts: list[bytes | str] = []
    for file in _files(paths):
        parts += [str(file.relative_to(ROOT)), file.read_bytes()]
    return digest(*parts)


def _files(paths: Iterable[Path]) -> list[Path]:
    found = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sorted(file for file in found if file.is_file() and file.suffix != ".pyc")
