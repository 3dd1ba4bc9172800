"""Argo CD and kubectl wait tell the states of an image apart; Flux does so in test_kstatus."""

from pathlib import Path
from typing import Any, cast

import lupa  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml

from support.kubectl_wait import is_met
from unit.controller.gitops_states import STATES, TABLE, Json, without_status

CONFIG = Path(__file__).parents[3] / "examples" / "argocd" / "argocd-cm.yaml"
KIND = "niximage.dev_NixImage"
NEEDED = ("obj", "os", "ipairs", "pairs")  # all that Argo CD gives a script


@pytest.fixture(scope="module")
def config() -> dict[str, str]:
    found: dict[str, str] = yaml.safe_load(CONFIG.read_text())["data"]
    return found


@pytest.fixture(scope="module")
def actions(config: dict[str, str]) -> dict[str, str]:
    document = yaml.safe_load(config[f"resource.customizations.actions.{KIND}"])
    scripts = {each["name"]: each["action.lua"] for each in document["definitions"]}
    return {"discovery": document["discovery.lua"], **scripts}


def run(script: str, image: Json) -> Json:
    """What a script answers when it is given an object."""
    lua = lupa.LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    lua.globals().obj = _lua(lua, image)
    names = set(lua.globals()) - set(NEEDED)
    for name in names:
        lua.globals()[name] = None
    return cast(Json, _python(lua.execute(script)))


def _lua(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: _lua(lua, each) for key, each in value.items()})
    if isinstance(value, list):
        return lua.table_from([_lua(lua, each) for each in value])
    return value


def _python(value: Any) -> Any:
    return {k: _python(v) for k, v in value.items()} if lupa.lua_type(value) == "table" else value


@pytest.mark.parametrize("state", STATES)
def test_each_tool_sees_each_state_as_it_is(state: str, config: dict[str, str]) -> None:
    image = STATES[state]()
    health = run(config[f"resource.customizations.health.{KIND}"], image)
    assert (is_met(image), health["status"]) == TABLE[state][1:]
    assert health["message"]


def test_argo_takes_an_image_without_a_status_for_a_new_one(config: dict[str, str]) -> None:
    health = run(config[f"resource.customizations.health.{KIND}"], without_status())
    assert health["status"] == "Progressing"


def test_argo_says_what_went_wrong(config: dict[str, str]) -> None:
    script = config[f"resource.customizations.health.{KIND}"]
    assert "hello failed" in run(script, STATES["failed"]())["message"]
    assert "hello failed" in run(script, STATES["rebuild failed"]())["message"]


def test_argo_offers_what_makes_sense(actions: dict[str, str]) -> None:
    offers = run(actions["discovery"], STATES["ready"]())
    assert {name for name, offer in offers.items() if not offer["disabled"]} == {
        "reconcile",
        "build-again",
        "suspend",
    }
    offers = run(actions["discovery"], STATES["suspended"]())
    assert {name for name, offer in offers.items() if not offer["disabled"]} == {"resume"}
    assert set(offers) == set(actions) - {"discovery"}


def test_actions_edit_what_they_say(actions: dict[str, str]) -> None:
    image = STATES["ready"]()
    del image["metadata"]["annotations"]
    asked = run(actions["reconcile"], image)["metadata"]["annotations"]
    assert set(asked) == {"reconcile.fluxcd.io/requestedAt"}
    forced = run(actions["build-again"], image)["metadata"]["annotations"]
    assert forced["reconcile.fluxcd.io/requestedAt"] == forced["reconcile.fluxcd.io/forceAt"] != ""
    assert run(actions["suspend"], image)["spec"]["suspend"] is True
    assert run(actions["resume"], STATES["suspended"]())["spec"]["suspend"] is False
