"""What no binary cache has of an image's packages, for each platform, and whether to build it here.

Packages of a platform that this machine cannot build for come from binary caches or not at all:
nothing of another platform is ever run. All that is lacking is told at once.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from niximage.api.platforms import SYSTEMS, Platform
from niximage.builder.progress import Say
from niximage.builder.sources import look_up, tell_refused
from niximage.errors import Reason, Terminal
from niximage.image.closure import store_path_name
from niximage.nix.closure_walk import Walk
from niximage.nix.evaluate import EvaluatedPackage
from niximage.nix.programs import NixStore
from niximage.nix.substituters import Substituters

_SHOWN: Final = 10  # packages of a platform, in a message
# What a machine's processor runs besides its own system's programs.
_BUILT_BY: Final = {"x86_64": ("x86_64-linux", "i686-linux")}
_FORBIDDEN: Final = "local builds are forbidden"
# Errors that another platform's answer would add nothing to.
_OF_ALL: Final = frozenset({Reason.BUILD_TIMEOUT, Reason.OUT_OF_MEMORY})

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Lacking:
    """Packages of one platform with the outputs that no binary cache has.

    Attributes:
        platform: which.
        packages: they, with no other outputs.
        walk: what was found in binary caches instead.
    """

    platform: Platform
    packages: Sequence[EvaluatedPackage]
    walk: Walk


def for_each(
    platforms: Sequence[Platform], look: Callable[[Platform], _Found]
) -> dict[Platform, _Found]:
    """What there is for each platform, or all that is wrong with them at once.

    Raises:
        Terminal: what one platform's look raised, or what those of several did, together.
    """
    found: dict[Platform, _Found] = {}
    wrong: dict[Platform, Terminal] = {}
    for platform in platforms:
        try:
            found[platform] = look(platform)
        except Terminal as error:
            if error.reason in _OF_ALL:
                raise
            wrong[platform] = error
    if wrong:
        raise _together(wrong, len(platforms))
    return found


def _together(wrong: Mapping[Platform, Terminal], count: int) -> Terminal:
    first, *others = wrong.values()
    if len(wrong) == count and all(str(each) == str(first) for each in others):
        return first
    alike = all(each.hint == first.hint for each in others)
    told = {platform: each.message if alike else str(each) for platform, each in wrong.items()}
    return Terminal(
        first.reason,
        "\n".join(f"for {platform}: {words}" for platform, words in told.items()),
        hint=first.hint if alike else "",
        derivation=first.derivation,
        log_tail=first.log_tail,
    )


def look_up_packages(
    packages: Mapping[Platform, Sequence[EvaluatedPackage]],
    caches: Substituters | None,
    *,
    say: Say,
) -> list[Lacking]:
    """What binary caches lack of packages, for each platform of which they lack anything.

    Raises:
        Terminal: more store paths than an image may have.
        Retryable: a cache cannot be reached that might have had one.
    """
    lacking = []
    for platform, asked in packages.items():
        outputs = {path for package in asked for path in package.outputs.values()}
        walk, missing = look_up(outputs, caches)
        if caches is not None:
            there = len(outputs) - len(missing)
            say(f"{there} of {len(outputs)} outputs for {platform} are in binary caches")
            tell_refused(walk, say)
        wanted = [found for package in asked if (found := package.only(missing)).outputs]
        if wanted:
            lacking.append(Lacking(platform, wanted, walk))
    return lacking


def check_buildable(lacking: Sequence[Lacking], nix: NixStore) -> None:
    """See that all that is lacking may be built on this machine.

    Raises:
        Terminal: with all that may not.
    """
    refused = [(each, why) for each in lacking if (why := _why_not_here(nix, each.platform))]
    if not refused:
        return
    lines = [line for each, why in refused for line in _lines(each, why)]
    others = "allow builds" if _FORBIDDEN in {why for _, why in refused} else "leave it out"
    raise Terminal(
        Reason.LOCAL_BUILD_REQUIRED,
        "\n".join(lines),
        hint=f"Choose a revision that a binary cache has, add a cache that has it, or {others}",
        derivation=refused[0][0].packages[0].derivation,
    )


def _why_not_here(nix: NixStore, platform: Platform) -> str:
    """Why nothing may be built on this machine for a platform; "" if it may."""
    machine = os.uname().machine
    system = SYSTEMS[platform]
    # Without settings of ours the machine's own Nix may know of other builders.
    if nix.substituters is not None and system not in _BUILT_BY.get(machine, (f"{machine}-linux",)):
        return f"this machine cannot build for {system}"
    return "" if nix.local_builds else _FORBIDDEN


def _lines(lacking: Lacking, why: str) -> list[str]:
    packages, refused = lacking.packages, lacking.walk.refused
    shown = [
        f"{package.attribute}: {store_path_name(package.derivation)}"
        + "".join(f"; {refused[path]}" for path in package.outputs.values() if path in refused)
        for package in packages[:_SHOWN]
    ]
    more = [f"and {len(packages) - _SHOWN} more"] if len(packages) > _SHOWN else []
    count = "1 package" if len(packages) == 1 else f"{len(packages)} packages"
    verb = "is" if len(packages) == 1 else "are"
    head = f"{count} for {lacking.platform} {verb} in no trusted binary cache, and {why}:"
    return [head, *shown, *more]
