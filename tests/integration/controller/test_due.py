"""How often a real Git server is asked, by one life of the operator after another."""

import json
import time

from integration.controller.conftest import Operator
from niximage.api.build import BuildFailure
from niximage.api.source import Source
from niximage.controller.job_view import IMAGE_LABEL
from niximage.controller.sources.due import Question, next_slot
from niximage.errors import Reason, Terminal
from support.kubernetes import Json, conditions, eventually, nix_image

ENOUGH = 35.0  # seconds for two builds and two restarts on a machine that is busy
CHANNEL = {"nixpkgs": {"channel": "nixos-26.05"}}


def interval_due_in(url: str, seconds: float) -> tuple[str, float]:
    """An interval whose next slot begins in so many seconds, give or take a few, and when."""
    key = Question(Source.model_validate(CHANNEL), "", url).key
    now = time.time()
    wait = {each: next_slot(key, each, now) - now for each in range(61, 600)}
    best = min(wait, key=lambda each: abs(wait[each] - seconds))
    return f"{best}s", now + wait[best]


def questions(operator: Operator) -> int:
    return sum("info/refs" in path for path in operator.git.asked)


def looked_at_all(operator: Operator, namespace: str, name: str) -> None:
    """Have the operator answer an image that asks no server, after all that came before."""
    source = {"nixpkgs": {"revision": "1" * 40}}
    operator.cluster.do("create", "-f", "-", given=nix_image(namespace, name, source=source))
    operator.image(namespace, lambda i: conditions(i).get("Reconciling"), name)


def job_of(operator: Operator, namespace: str, image: str, *, other_than: str = "") -> Json:
    def look() -> Json | None:
        jobs = operator.cluster.list("jobs", namespace)
        own = [j for j in jobs if j["metadata"]["labels"][IMAGE_LABEL] == image]
        return next((j for j in own if j["metadata"]["name"] != other_than), None)

    return eventually("a Job", look, within=2 * ENOUGH, log=operator.log)


def test_a_source_is_asked_once_a_slot_whatever_is_restarted_and_heals_what_stalled(
    operator: Operator, namespace: str
) -> None:
    interval, due = interval_due_in(operator.git.url, ENOUGH)
    for name in ("web", "other"):
        image = nix_image(namespace, name, packages=[name], interval=interval)
        operator.cluster.do("create", "-f", "-", given=image)
    good, bad = (job_of(operator, namespace, name) for name in ("web", "other"))
    operator.end_job(good, code=0, message=json.dumps(operator.publish(good)))
    failure = BuildFailure.from_error(Terminal(Reason.BUILD_FAILED, "no"))
    operator.end_job(bad, code=65, message=failure.to_message().decode(), step="build")
    operator.image_with(namespace, "Ready", "True/Succeeded")
    operator.image(namespace, lambda i: "Stalled" in conditions(i), "other")
    assert questions(operator) == 1, "one for both"

    assert operator.stop() == 0
    revision = operator.git.commit("mended")
    operator.start()
    looked_at_all(operator, namespace, "after-a-stop")
    operator.kill()
    operator.start()
    looked_at_all(operator, namespace, "after-a-kill")
    early = time.time() < due
    assert questions(operator) == 1 or not early, "a restart is no reason to ask"

    for name, before in (("web", good), ("other", bad)):
        job = job_of(operator, namespace, name, other_than=before["metadata"]["name"])
        assert revision in json.dumps(job)
    assert questions(operator) == 2
