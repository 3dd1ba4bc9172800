"""What an image will be made of: closure, base and layers, then its root.

The layers of store paths follow from path infos alone. The root has links to what lies in the
packages: of those in the store one looks, of those in binary caches the names were written
down when their layers were packed, which may be a moment ago. So the root comes last.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pydantic

from niximage.api.build import BuildOutputs, BuildRequest
from niximage.api.platforms import SYSTEMS, Platform
from niximage.api.spec import Config
from niximage.bucket.store import ObjectStore
from niximage.builder.base import USERS, BaseImage, bring_base
from niximage.builder.layers import WantedLayer, store_layers
from niximage.builder.names import ImageNames
from niximage.builder.progress import Say, size, timed, watcher
from niximage.builder.sources import ImageSources, find_sources
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.base import LAYERS_LIMIT, without
from niximage.image.base_users import BaseUsers
from niximage.image.closure import Closure
from niximage.image.compress import CODECS
from niximage.image.database import DATABASE_NAME, JOURNALS, emptied, registered_paths
from niximage.image.listing import store_lister
from niximage.image.onto import put_onto
from niximage.image.planner import Strategy
from niximage.image.root import Root, RootPackage, build_root
from niximage.nix.programs import NixStore
from niximage.nix.substituters import Substituters

_FEWEST: Final = 2  # layers of an image's own: store paths, and the root


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """All that is known of an image for one platform before any of it is packed.

    Attributes:
        platform: which.
        sources: every store path that runs in it, and where its files come from.
        packages: the outputs that its root has links to.
        base: what it builds upon, if anything; its blobs are in the bucket.
        layers: its own layers of store paths, bottom first; the customisation layer follows.
    """

    platform: Platform
    sources: ImageSources
    packages: tuple[RootPackage, ...]
    base: BaseImage | None
    layers: tuple[WantedLayer, ...]

    @property
    def system(self) -> str:
        """The platform, as Nix says it."""
        return SYSTEMS[self.platform]

    @property
    def closure(self) -> Closure:
        """Every store path that runs in it."""
        return self.sources.closure


def prepare_image(
    request: BuildRequest,
    platform: Platform,
    outputs: BuildOutputs,
    *,
    bucket: ObjectStore,
    nix: NixStore,
    caches: Substituters | None,
    scratch: Path,
    strategy: Strategy | None,
    say: Say,
) -> PreparedImage:
    """Plan the image of one platform's packages; see `run_publish` for what it is given.

    Raises:
        Terminal: the base is at fault, or the closure is too large.
        Retryable: the outputs are not what was asked for, or binary caches, store, bucket or
            registry fail.
    """
    with timed(say, stage="plan"):
        packages = _root_packages(request, platform, outputs)
        with timed(say, "listed the closure"):
            paths = sorted({package.path for package in packages})
            sources = find_sources(paths, caches=caches, nix=nix, say=say)
        closure = sources.closure
        watcher(say).closure_found(len(closure), closure.nar_size)
        watcher(say).fetchable(sources.fetchable)
        say(f"{len(closure)} store paths of {size(closure.nar_size)}")
        base = None
        own = closure
        if request.base is not None:
            base = bring_base(
                request.base,
                bucket=bucket,
                namespace=request.namespace,
                system=SYSTEMS[platform],
                scratch=scratch,
                say=say,
            )
            own = without(closure, base.tree.store_paths())
            say(f"{len(closure) - len(own)} store paths are in the base")
        layers = store_layers(
            own,
            verified=sources.substitutes,
            codec=CODECS[request.compression],
            max_layers=_budget(request, base),
            strategy=strategy,
        )
        return PreparedImage(platform, sources, packages, base, layers)


def prepare_root(request: BuildRequest, image: PreparedImage, *, bucket: ObjectStore) -> Root:
    """The root file system of an image whose layers of store paths are in the bucket.

    Called once: it changes the base's tree.

    Raises:
        Terminal: packages provide different files of one name, or do not fit the base.
        Retryable: binary caches, store or bucket fail.
    """
    list_directory = store_lister(ImageNames(image.sources, image.layers, bucket))
    base = image.base
    root = build_root(
        image.packages,
        list_directory,
        config=_effective(request.config, base),
        files=request.files,
        registered=_registered(image.closure, base) if request.nix_database else None,
        below=_users(base),
    )
    if base is None:
        return root
    left = [name for name in JOURNALS if base.tree.look(name) is not None]
    own = [entry for entry in root.entries if entry.name == DATABASE_NAME]
    entries = put_onto(
        [*root.entries, *(file for database in own for file in emptied(left, database))],
        base.tree,
        list_directory,
        defaults=root.defaults,
        asked=frozenset(f.path.encode()[1:] for f in request.files if f.directory),
    )
    return replace(root, entries=entries)


def _budget(request: BuildRequest, base: BaseImage | None) -> int:
    """How many layers the image may have of its own: runtimes give up beyond a number."""
    below = 0 if base is None else len(base.contents.layers)
    left = LAYERS_LIMIT - below
    if left < _FEWEST:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"the base {request.base} has {below} layers; runtimes take {LAYERS_LIMIT} in all",
            hint="Choose a base of fewer layers",
        )
    return min(request.layering.max_layers, left)


def _users(base: BaseImage | None) -> BaseUsers:
    """The users of the base, wherever its links lead to them."""
    if base is None:
        return BaseUsers()
    found = (base.tree.follow(name) for name in USERS)
    return BaseUsers(*(b"" if each is None else each[1].content for each in found))


def _registered(closure: Closure, base: BaseImage | None) -> Closure:
    """What the image's Nix database is to have: the closure, and what the base's has.

    What both have is there as the base has it, and may be another build of the same inputs.
    """
    found = base.tree.look(DATABASE_NAME) if base is not None else None
    if base is None or found is None:
        return closure
    below = registered_paths(found.content, base.tree.store_paths())
    return Closure.of({**closure.infos, **below}.values())


def _effective(config: Config, base: BaseImage | None) -> Config:
    """The config with the user of the base, where the image names none."""
    user = base.config.runtime.get("User") if base is not None else None
    if config.user or not isinstance(user, str) or not user:
        return config
    try:
        return Config.model_validate({**config.to_json(), "user": user})
    except pydantic.ValidationError:
        return config  # not one that we could look up: nothing is made for it


def _root_packages(
    request: BuildRequest, platform: Platform, outputs: BuildOutputs
) -> tuple[RootPackage, ...]:
    """The outputs to link into the root, once they are those that were asked for."""
    packages = outputs.packages.get(platform, [])
    built = [package.attribute for package in packages]
    if built != request.packages:
        raise Retryable(
            Reason.RESULT_INVALID,
            f"asked for {', '.join(request.packages)} for {platform}; "
            f"the build made {', '.join(built) or 'nothing'}",
            hint="Build it again",
        )
    return tuple(
        RootPackage(label=package.attribute, path=path)
        for package in packages
        for path in package.outputs.values()
    )
