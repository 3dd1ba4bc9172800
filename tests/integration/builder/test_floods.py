"""Builds that write without end, with the real Nix: what is kept of it is little and harmless."""

import shutil
from pathlib import Path

import pytest

from integration.nix.demo import PROJECT, Demo
from niximage.api.build import BuildFailure, BuildRequest
from niximage.api.spec import Config
from niximage.builder.build import run_build
from niximage.builder.narrate import Narrator
from niximage.errors import Reason, Terminal
from niximage.nix.programs import NixStore
from niximage.source.folder import pin_folder


@pytest.fixture(scope="module")
def attacks(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set of packages whose builds are attacks."""
    folder = demo.check_out(tmp_path_factory.mktemp("attacks") / "set")
    shutil.copy(PROJECT / "tests" / "support" / "hostile_set" / "default.nix", folder)
    return folder


@pytest.mark.parametrize(("attack", "shown"), [("flood", "flood"), ("line", "end")])
def test_a_flood_of_the_log_is_cut_and_stripped(
    attacks: Path, tmp_path: Path, attack: str, shown: str
) -> None:
    request = BuildRequest(
        namespace="team",
        repository="team/image",
        input_hash="0" * 64,
        packages=[attack],
        source=pin_folder(attacks),
        config=Config(),
    )
    (tmp_path / "roots").mkdir()
    said: list[str] = []
    with pytest.raises(Terminal) as caught:
        run_build(
            request,
            nix=NixStore(),
            scratch=tmp_path / "scratch",
            roots=tmp_path / "roots",
            timeout=120,
            allow_file=True,
            say=Narrator(said.append),
        )
    assert caught.value.reason is Reason.BUILD_FAILED
    failure = BuildFailure.from_error(caught.value)
    assert shown in failure.log_tail
    assert "\x1b" not in failure.log_tail
    assert len(failure.to_message()) <= 4096
    assert sum(map(len, said)) < 20_000, "megabytes were written"
