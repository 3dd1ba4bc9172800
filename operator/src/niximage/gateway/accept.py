"""Whether an Accept header takes what is stored, as RFC 9110 §12.5.1 defines it. Pure."""

from collections.abc import Sequence


def accepts(headers: Sequence[str], media_type: str) -> bool:
    """Whether a client takes a media type; one that says nothing takes all.

    Args:
        headers: the values of all Accept headers of one request.
        media_type: what is stored, without parameters.
    """
    wanted = [part.strip() for header in headers for part in header.split(",") if part.strip()]
    if not wanted:
        return True
    family = f"{media_type.partition('/')[0]}/*"
    # The most specific name decides: `*/*, type/it;q=0` takes all but one.
    for name in (media_type, family, "*/*"):
        weights = [_weight(part) for part in wanted if _name(part) == name.lower()]
        if weights:
            return max(weights) > 0
    return False


def _name(part: str) -> str:
    return part.partition(";")[0].strip().lower()


def _weight(part: str) -> float:
    for parameter in part.split(";")[1:]:
        name, _, value = parameter.strip().partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
