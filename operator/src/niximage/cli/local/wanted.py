"""What to build, as options say it: an image, its source and its base, all pinned."""

import asyncio
import os
import re
from pathlib import Path
from typing import Final

import pydantic
from pydantic import TypeAdapter

from niximage.api.base_image import REGISTRY_REPOSITORY_PATTERN, Base, NixImageReference
from niximage.api.build import PinnedBase, PinnedSource
from niximage.api.image import Metadata, NixImage, explain, load_file
from niximage.api.platforms import SYSTEMS, Platforms
from niximage.api.source import NixpkgsSource, Source
from niximage.api.spec import SHA256_PATTERN, NixImageSpec
from niximage.api.yaml_file import FILE_LIMIT
from niximage.bucket.keys import is_repository
from niximage.builder.local_build import LocalBuild
from niximage.cli.local.options import Contents, Surroundings
from niximage.errors import Reason, Terminal
from niximage.source.credentials import Credentials, read_credentials
from niximage.source.folder import pin_folder
from niximage.source.resolve import resolve

RESOLVE_TIMEOUT: Final = 60.0  # seconds of one ls-remote

# Stands in a spec for a folder of this machine, which no spec can name; it is never looked at.
_UNNAMED: Final = NixpkgsSource(revision="0" * 40)


def wanted(contents: Contents, around: Surroundings) -> LocalBuild:
    """Read the options, and look up the source's revision.

    Raises:
        Terminal: options that do not go together, a bad file, or a source that is not there.
        Retryable: the source cannot be reached now.
    """
    image = _for_platforms(_image(contents), contents.platform or [])
    image, base = with_base(image, contents.base)
    if contents.source is not None:
        source = pin_folder(contents.source, path=contents.path, attr=contents.attr)
        return _build(around, image, source, base)
    if (flux := image.spec.source.source_ref) is not None:
        raise _usage(
            f"the file's source is the {flux} of a cluster, and none is asked",
            "Add --source FOLDER with a checkout of what it follows",
        )
    credentials = source_credentials(around, image.spec.source.secret)
    source = asyncio.run(
        resolve(
            image.spec.source,
            nixpkgs_url=around.nixpkgs_url,
            timeout=RESOLVE_TIMEOUT,
            allow_file=around.allow_file,
            credentials=credentials,
        )
    )
    return _build(around, image, source, base, credentials)


def _build(
    around: Surroundings,
    image: NixImage,
    source: PinnedSource,
    base: PinnedBase | None,
    credentials: Credentials | None = None,
) -> LocalBuild:
    return LocalBuild(
        image=image,
        source=source,
        nix=around.nix,
        base=base,
        allow_file=around.allow_file or source.kind == "folder",
        credentials=credentials,
        popularity_url=around.popularity_url,
    )


def default_bucket() -> str:
    """The URL of a bucket in this user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(cache).expanduser().absolute() / "niximage" / "bucket").as_uri()


def _image(contents: Contents) -> NixImage:
    if (contents.file is None) == (not contents.package):
        raise _usage("name a file with -f, or packages with -p", "niximage build -f image.yaml")
    if contents.source is not None and contents.channel is not None:
        raise _usage("--source and --channel are two sources", "Give one of them")
    if contents.source is None and (contents.path != "." or contents.attr is not None):
        raise _usage("--path and --attr belong to --source", "Set the source in the file instead")
    if contents.file is not None:
        if contents.channel is not None or contents.name is not None:
            raise _usage("--channel and --name belong to -p", "Set them in the file instead")
        return _read(contents.file)
    if contents.source is None and contents.channel is None:
        raise _usage(
            "-p needs a source to take packages from",
            "Add --source FOLDER, or --channel nixos-26.05",
        )
    try:
        nixpkgs = NixpkgsSource(channel=contents.channel) if contents.channel else _UNNAMED
        spec = NixImageSpec(packages=list(contents.package or ()), source=Source(nixpkgs=nixpkgs))
        return NixImage(metadata=Metadata(name=contents.name or "image"), spec=spec)
    except pydantic.ValidationError as error:
        raise Terminal(Reason.INVALID_SPEC, explain(error)) from None


def source_credentials(around: Surroundings, secret: str | None) -> Credentials | None:
    """The keys of the Secret that the source names: no cluster is asked for it."""
    if secret is None:
        return None
    if around.credentials is None:
        raise _usage(
            f"the file's source is opened by the Secret {secret}, which is not known here",
            "Add --credentials FOLDER with its keys as files, or --source FOLDER with a checkout",
        )
    return read_credentials(around.credentials, f"--credentials {around.credentials}")


def _read(file: Path) -> NixImage:
    try:
        with file.open("rb") as opened:
            return load_file(opened.read(FILE_LIMIT + 1), str(file))
    except OSError as error:
        raise Terminal(Reason.INVALID_SPEC, f"{file}: {error.strerror}") from None


def _for_platforms(image: NixImage, platforms: list[str]) -> NixImage:
    """The image for these platforms, if there are any; else for those of its own."""
    if not platforms:
        return image
    try:
        found = TypeAdapter(Platforms).validate_python(platforms)
    except pydantic.ValidationError:
        raise _usage(
            f"{' '.join(platforms)[:300]!r} cannot be built for",
            f"Give --platform {' or '.join(SYSTEMS)}, each at most once",
        ) from None
    spec = image.spec.model_copy(update={"platforms": found})
    return image.model_copy(update={"spec": spec})


def with_base(image: NixImage, given: str | None) -> tuple[NixImage, PinnedBase | None]:
    """The image with the base that was given or that its spec names, and that base pinned."""
    base = image.spec.base
    if given is None:
        if base is None:
            return image, None
        if base.image is not None:
            return image, PinnedBase.of_registry(base.image)
        assert base.niximage is not None
        raise _usage(
            f"which image of the base {base.niximage.name} to take is not known here",
            "Add --base sha256:…, as that NixImage's status has it",
        )
    name, _, digest = given.rpartition("@")
    if re.fullmatch(SHA256_PATTERN, digest) is None:
        raise _usage(f"{given[:300]!r} has no digest", "Write --base REPOSITORY@sha256:…")
    if not name:
        if base is None or base.niximage is None:
            raise _usage(f"{digest} of which image?", "Write --base REPOSITORY@sha256:…")
        name = f"{image.metadata.namespace}/{base.niximage.name}"
    folders, _, last = name.rpartition("/")
    plain = f"{folders}/{last.partition(':')[0]}"
    if re.fullmatch(REGISTRY_REPOSITORY_PATTERN, plain):
        pinned = PinnedBase(image=plain, digest=digest)
        spec_base = Base(image=str(pinned))
    elif is_repository(name):
        pinned = PinnedBase(repository=name, digest=digest)
        spec_base = base if base is not None and base.niximage else _reference(last)
    else:
        raise _usage(
            f"{name[:300]!r} is no repository",
            "Write HOST/REPOSITORY@sha256:…, or NAMESPACE/NAME@sha256:… for one in the bucket",
        )
    spec = image.spec.model_copy(update={"base": spec_base})
    return image.model_copy(update={"spec": spec}), pinned


def _reference(name: str) -> Base:
    return Base(niximage=NixImageReference.model_construct(name=name))


def _usage(what: str, hint: str) -> Terminal:
    return Terminal(Reason.INVALID_SPEC, what, hint=hint)
