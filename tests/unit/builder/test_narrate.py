"""The lines by which an operator learns how far a build is."""

from niximage.api.status import Progress
from niximage.builder.narrate import EVERY, Narrator
from niximage.builder.progress import timed
from niximage.controller.builds.progress import last_progress


class Log:
    """A container's log, and a clock."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0.0
        self.narrator = Narrator(self.lines.append, lambda: self.now)

    @property
    def progress(self) -> object:
        return last_progress("\n".join(self.lines))


def test_the_operator_reads_what_a_step_writes() -> None:
    log = Log()
    with timed(log.narrator, "realised 3 outputs", stage="realise"):
        log.now += EVERY
        log.narrator.realising(12, 40, "building hello-2.12")
        log.narrator("a line for people")
    assert log.progress == Progress(
        phase="realise", done=12, total=40, message="building hello-2.12"
    )
    assert log.lines[-1] == "realised 3 outputs in 0.0 s"


def test_layers_are_counted() -> None:
    log = Log()
    log.narrator.layers_found(3, 10)
    assert log.progress == Progress(
        phase="pack", done=0, total=3, message="7 of 10 layers are there"
    )
    log.narrator.packed("glibc", 1)
    log.now += EVERY
    log.narrator.packed("bash", 1)
    assert log.progress == Progress(phase="pack", done=2, total=3, message="bash")


def test_a_log_is_not_flooded() -> None:
    log = Log()
    for done in range(1000):
        log.narrator.realising(done, 1000, "building x")
    assert len(log.lines) == 1
