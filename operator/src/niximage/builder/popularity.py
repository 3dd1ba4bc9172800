"""How the layers of an image are grouped: our own way, or Nixery's, which wants data from a URL."""

import asyncio
from typing import Final

from niximage.api.contents import Layering
from niximage.builder.progress import Say, silent, timed
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.image.planner import Strategy
from niximage.image.popularity import DATA_LIMIT, Popularity
from niximage.nix.transport import Session

_URL_LIMIT: Final = 200  # characters of a URL that a message shows


def layer_strategy(layering: Layering, url: str, *, say: Say = silent) -> Strategy | None:
    """The strategy that a spec asks for; its data is read once for all platforms of an image.

    Args:
        layering: what the spec asks for.
        url: where the popularity data is; "" where nobody said.
        say: takes progress.

    Returns:
        The strategy; None for the planner's own.

    Raises:
        Terminal: there is no URL, nothing is there, or what is there is no popularity data.
        Retryable: it cannot be read now.
    """
    if layering.strategy == "Auto":
        return None
    if not url:
        raise Terminal(
            Reason.INVALID_SPEC,
            "spec.layering.strategy is Popularity, and there is no popularity data",
            hint="Set popularityURL in the NixBuildClass (NIXIMAGE_POPULARITY_URL without one), "
            "or leave the strategy out",
        )
    with timed(say, "read the popularity data"):
        return Popularity.from_json(asyncio.run(_read(url)))


async def _read(url: str) -> bytes:
    folder, _, name = url.rpartition("/")
    try:
        async with Session() as session:
            data = await session.open(folder).read(name, DATA_LIMIT)
    except ValueError as error:
        raise _unusable(url, str(error)) from None
    except NixImageError as error:
        kind = Retryable if isinstance(error, Retryable) else Terminal
        reason = Reason.SOURCE_UNAVAILABLE if kind is Retryable else Reason.INVALID_SPEC
        raise kind(reason, f"the popularity data: {error.message}") from None
    if data is None:
        raise _unusable(url, "there is nothing")
    return data


def _unusable(url: str, why: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC,
        f"the popularity data at {url[:_URL_LIMIT]} cannot be used: {why}",
        hint="Correct popularityURL in the NixBuildClass, or leave the strategy out",
    )
