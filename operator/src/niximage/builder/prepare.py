"""What an image will be made of: closure, base, root and layers. Nothing is packed yet."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pydantic

from niximage.api.build import BuildOutputs, BuildRequest
from niximage.api.spec import Config
from niximage.bucket.store import ObjectStore
from niximage.builder.base import USERS, BaseImage, bring_base
from niximage.builder.layers import WantedLayer, wanted_layers
from niximage.builder.progress import Say, size, timed, watcher
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.base import LAYERS_LIMIT, without
from niximage.image.base_users import BaseUsers
from niximage.image.closure import Closure
from niximage.image.compress import CODECS
from niximage.image.database import DATABASE_NAME, registered_paths
from niximage.image.listing import list_store_directory
from niximage.image.onto import put_onto
from niximage.image.root import Root, RootPackage, build_root
from niximage.nix.path_info import query_closure
from niximage.nix.programs import NixStore

_QUERY_TIMEOUT: Final = 600.0  # seconds; the store answers for 10,000 paths in a few
_FEWEST: Final = 2  # layers of an image's own: store paths, and the root


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """All that is known of an image before it is packed.

    Attributes:
        closure: every store path that runs in it.
        root: its root file system.
        base: what it builds upon, if anything; its blobs are in the bucket.
        layers: its own layers, bottom first, the customisation layer last.
    """

    closure: Closure
    root: Root
    base: BaseImage | None
    layers: tuple[WantedLayer, ...]


def prepare_image(
    request: BuildRequest,
    outputs: BuildOutputs,
    *,
    bucket: ObjectStore,
    nix: NixStore,
    scratch: Path,
    say: Say,
) -> PreparedImage:
    """Plan the image of built packages; see `run_publish` for what it is given.

    Raises:
        Terminal: packages provide different files of one name, or the base is at fault.
        Retryable: the outputs are not what was asked for, or store, bucket or registry fail.
    """
    with timed(say, stage="plan"):
        root_packages = _root_packages(request, outputs)
        with timed(say, "listed the closure"):
            paths = sorted({package.path for package in root_packages})
            closure = query_closure(paths, store=nix, timeout=_QUERY_TIMEOUT)
        watcher(say).closure_found(len(closure), closure.nar_size)
        say(f"{len(closure)} store paths of {size(closure.nar_size)}")
        base = None
        if request.base is not None:
            base = bring_base(
                request.base,
                bucket=bucket,
                namespace=request.namespace,
                system=request.system,
                scratch=scratch,
                say=say,
            )
        root = build_root(
            root_packages,
            list_store_directory,
            config=_effective(request.config, base),
            files=request.files,
            registered=_registered(closure, base) if request.nix_database else None,
            below=_users(base),
        )
        own = closure
        if base is not None:
            own = without(closure, base.tree.store_paths())
            say(f"{len(closure) - len(own)} store paths are in the base")
            asked = frozenset(f.path.encode()[1:] for f in request.files if f.directory)
            entries = put_onto(
                root.entries,
                base.tree,
                list_store_directory,
                defaults=root.defaults,
                asked=asked,
            )
            root = replace(root, entries=entries)
        layers = wanted_layers(
            own,
            root,
            codec=CODECS[request.compression],
            max_layers=_budget(request, base),
        )
        return PreparedImage(closure, root, base, layers)


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


def _root_packages(request: BuildRequest, outputs: BuildOutputs) -> list[RootPackage]:
    """The outputs to link into the root, once they are those that were asked for."""
    built = [package.attribute for package in outputs.packages]
    if built != request.packages:
        raise Retryable(
            Reason.RESULT_INVALID,
            f"asked for {', '.join(request.packages)}; the build made {', '.join(built)}",
            hint="Build it again",
        )
    return [
        RootPackage(label=package.attribute, path=path)
        for package in outputs.packages
        for path in package.outputs.values()
    ]
