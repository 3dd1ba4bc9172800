"""Which image of a base is taken, and what is waited for."""

from typing import Any

import pytest

from niximage.api.build import PinnedBase
from niximage.controller.bases import find_base
from niximage.controller.cache import Cache
from niximage.controller.stored import CachedImage
from niximage.controller.views import BaseWanting
from niximage.errors import Terminal
from unit.controller.states import DIGEST

KEY = ("team-a", "web")


def body(name: str, base: str | None = None, **status: Any) -> dict[str, Any]:
    """A NixImage of team-a, as the API server gives it."""
    spec: dict[str, Any] = {"packages": ["x"], "source": {"nixpkgs": {"channel": "nixos-26.05"}}}
    if base is not None:
        spec["base"] = {"niximage": {"name": base}}
    metadata = {
        "name": name,
        "namespace": "team-a",
        "uid": f"u-{name}",
        "generation": 1,
        "resourceVersion": "7",
    }
    return {"metadata": metadata, "spec": spec, "status": status}


def ready(kind: str = "True", message: str = "3 layers") -> list[dict[str, Any]]:
    return [
        {
            "type": "Ready",
            "status": kind,
            "reason": "Succeeded",
            "message": message,
            "observedGeneration": 1,
            "lastTransitionTime": "2026-05-04T12:00:00Z",
        }
    ]


def cache(*bodies: dict[str, Any]) -> Cache:
    made = Cache()
    for each in bodies:
        made.put_image(CachedImage.from_json(each))
    return made


def test_the_last_good_image_is_taken() -> None:
    known = cache(body("web", "base"), body("base", digest=DIGEST, conditions=ready()))
    assert find_base(known, KEY, "base") == PinnedBase(repository="team-a/base", digest=DIGEST)


@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        ((), "there is no such NixImage"),
        ((body("base"),), "it was not looked at yet"),
        (
            (body("base", digest=DIGEST, conditions=ready("False", "no space")),),
            "which is not ready: no space",
        ),
        (({**body("base"), "spec": {"packages": []}},), "its spec is not valid"),
    ],
)
def test_what_is_waited_for_is_said(bodies: tuple[dict[str, Any], ...], words: str) -> None:
    found = find_base(cache(body("web", "base"), *bodies), KEY, "base")
    assert isinstance(found, BaseWanting)
    assert found.words.startswith("waiting for the base base")
    assert words in found.words


def test_a_circle_is_told_by_those_in_it_and_waited_for_by_others() -> None:
    known = cache(body("web", "one"), body("one", "two"), body("two", "web"), body("other", "one"))
    found = find_base(known, KEY, "one")
    assert isinstance(found, Terminal)
    assert "web → one → two → web" in found.message
    assert isinstance(find_base(known, ("team-a", "other"), "one"), BaseWanting)


def test_those_based_on_an_image_are_known_as_specs_come_and_go() -> None:
    known = cache(body("web", "base"), body("api", "base"), body("alone"))
    base = ("team-a", "base")
    assert known.based_on(base) == {KEY, ("team-a", "api")}
    known.put_image(CachedImage.from_json(body("web", "alone")))
    assert known.based_on(base) == {("team-a", "api")}
    assert known.based_on(("team-a", "alone")) == {KEY}
    known.drop_image(("team-a", "api"), "u-api")
    assert known.based_on(base) == frozenset()
    known.begin_list()
    known.finish_list([CachedImage.from_json(body("new", "base")).stored], [], [])
    assert known.based_on(base) == {("team-a", "new")}
    assert known.based_on(("team-a", "alone")) == frozenset()
