"""The NixImage that another is based on: which image of it to take, or why to wait."""

from niximage.api.build import PinnedBase
from niximage.api.status import ConditionType
from niximage.controller.cache import Cache
from niximage.controller.stored import Key
from niximage.controller.views import BaseWanting
from niximage.errors import NixImageError, Reason, Terminal, plain_text

SHOWN = 300  # bytes of the base's own words


def find_base(cache: Cache, key: Key, name: str) -> PinnedBase | BaseWanting | NixImageError:
    """The last good image of a base.

    Args:
        cache: what is known of NixImages.
        key: of the image that is based on it.
        name: the base's name, in the same namespace.

    Returns:
        The image by digest; why there is none yet; or Terminal for bases in a circle, which
        would be built anew for ever, each because the other was.
    """
    namespace = key[0]
    base = cache.image((namespace, name))
    if base is None:
        return BaseWanting(
            f"waiting for the base {name}: there is no such NixImage in the namespace {namespace}; "
            "create it, or correct spec.base.niximage.name"
        )
    if circle := _circle(cache, key, name):
        return Terminal(
            Reason.INVALID_SPEC,
            f"the bases go round in a circle: {' → '.join(circle)}",
            hint="Give one of them another base",
        )
    if base.image is None:
        return BaseWanting(f"waiting for the base {name}: its spec is not valid")
    status = base.image.status
    if not status.digest or not status.is_true(ConditionType.READY):
        ready = status.condition(ConditionType.READY)
        words = ready.message if ready is not None else "it was not looked at yet"
        return BaseWanting(
            f"waiting for the base {name}, which is not ready: {plain_text(words, SHOWN)}"
        )
    return PinnedBase(repository=base.image.repository, digest=status.digest)


def _circle(cache: Cache, key: Key, name: str) -> list[str]:
    """The names on the way from an image back to itself, if its bases lead there."""
    way = [key[1]]
    at: str | None = name
    while at is not None and at not in way:
        way.append(at)
        above = cache.base_of((key[0], at))
        at = above and above[1]
    return [*way, key[1]] if at == key[1] else []
