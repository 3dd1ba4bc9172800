"""Real builds: those that go well, and each way in which they do not."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.nix.demo import SYSTEM
from niximage.errors import NixImageError, Reason, Retryable, Terminal
from niximage.nix.activity import Progress
from niximage.nix.evaluate import EvaluatedPackage, evaluate
from niximage.nix.path_info import query_closure
from niximage.nix.programs import NixStore
from niximage.nix.realise import realise

NIX = NixStore()


def build(
    source: Path,
    roots: Path,
    *packages: str,
    timeout: float = 120,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[EvaluatedPackage, ...]:
    found = evaluate(source, packages, attribute=None, system=SYSTEM, store=NIX, timeout=60)
    realise(found, store=NIX, timeout=timeout, roots=roots, on_progress=on_progress)
    return found


def failure(source: Path, roots: Path, *packages: str, timeout: float = 120) -> NixImageError:
    with pytest.raises(NixImageError) as caught:
        build(source, roots, *packages, timeout=timeout)
    return caught.value


def test_all_outputs_are_there_and_kept_from_garbage_collection(
    demo_folder: Path, tmp_path: Path
) -> None:
    hello, manual = build(demo_folder, tmp_path, "hello", "manual^*")
    paths = {*hello.outputs.values(), *manual.outputs.values()}
    assert len(paths) == 4
    assert all(Path(path).is_dir() for path in paths)
    assert {str(link.readlink()) for link in tmp_path.iterdir()} == paths


def test_progress_names_what_is_built(tmp_path: Path, demo_folder: Path) -> None:
    progress: list[Progress] = []
    name = f"p-{time.time_ns()}"
    (tmp_path / "default.nix").write_text(
        f"""{{ system }}: {{ p = derivation {{ name = "{name}"; inherit system;
        builder = "${{{demo_folder}/bootstrap}}/bin/sh";
        args = [ "-c" "echo x > $out; exit 0" ]; }}; }}"""
    )
    build(tmp_path, tmp_path, "p", on_progress=progress.append)
    assert f"building {name}" in [each.what for each in progress]
    assert progress[-1].done == progress[-1].expected == 1


@pytest.mark.parametrize("package", ["broken-build", "needs-broken"])
def test_a_build_that_fails_has_its_derivation_and_the_end_of_its_log(
    demo_folder: Path, tmp_path: Path, package: str
) -> None:
    error = failure(demo_folder, tmp_path, package, "hello")
    assert isinstance(error, Terminal)
    assert (error.reason, error.message) == (
        Reason.BUILD_FAILED,
        "broken-build-1.0 does not build: failed with exit code 3",
    )
    assert error.derivation.endswith("-broken-build-1.0.drv")
    assert error.log_tail == (
        "configure: checking for a reason to go on\n"
        "make: *** [Makefile:7: all] Error 3: the demo breaks here"
    )


def test_a_download_with_another_hash_is_told_so(demo_folder: Path, tmp_path: Path) -> None:
    error = failure(demo_folder, tmp_path, "wrong-hash")
    assert isinstance(error, Terminal)
    assert error.reason is Reason.HASH_MISMATCH
    assert error.derivation.endswith("-wrong-hash-1.0.drv")
    assert "specified: sha256-AAAA" in error.message
    assert "got:    sha256-ycNUZcedEpeM6Cr4aqhlKECs3CLItbzX2CioVaVdvVc=" in error.message


def test_a_build_for_another_system_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "default.nix").write_text(
        '{ p = derivation { name = "p"; system = "m68k-linux"; builder = "/none"; }; }'
    )
    error = failure(tmp_path, tmp_path, "p")
    assert error.reason is Reason.BUILD_FAILED
    assert "m68k-linux" in error.message


def builders_of(marker: str) -> list[int]:
    """Processes whose command line has the marker."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if marker.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue  # it ended meanwhile
    return found


def test_a_build_that_takes_too_long_ends_with_its_builder(
    demo_folder: Path, tmp_path: Path
) -> None:
    start = time.monotonic()
    error = failure(demo_folder, tmp_path, "slow", timeout=3)
    assert error.reason is Reason.BUILD_TIMEOUT
    assert time.monotonic() - start < 20
    assert error.message == (
        "the packages are not built within spec.timeout: slow-1.0 was not done"
    )
    assert error.log_tail.startswith("second 0 of 12")
    deadline = time.monotonic() + 10
    while builders_of('echo "second $i of 60"'):
        assert time.monotonic() < deadline, "the builder lives on"
        time.sleep(0.05)


def test_the_closure_has_everything_that_is_referred_to(demo_folder: Path, tmp_path: Path) -> None:
    (hello,) = build(demo_folder, tmp_path, "hello")
    closure = query_closure([hello.outputs["out"]], store=NIX, timeout=60)
    below = {"greeting-data-1.0", "shell-1.36"}
    assert {info.name for info in closure} == {"hello-2.12", *below}
    info = closure[hello.outputs["out"]]
    assert {path.partition("-")[2] for path in info.references} == below
    assert info.nar_hash.startswith("sha256-")
    assert info.nar_size > 100


def test_a_path_that_is_not_in_the_store_is_an_error() -> None:
    path = "/nix/store/00000000000000000000000000000000-nothing"
    with pytest.raises(Retryable) as caught:
        query_closure([path], store=NIX, timeout=60)
    assert path in caught.value.message


def test_where_the_sandbox_is_demanded_and_cannot_be_had_nothing_is_built(
    tmp_path: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"s-{time.time_ns()}"
    (tmp_path / "default.nix").write_text(
        f"""{{ system }}: {{ p = derivation {{ name = "{name}"; inherit system;
        builder = "${{{demo_folder}/bootstrap}}/bin/sh"; args = [ "-c" "echo x > $out" ]; }}; }}"""
    )
    found = evaluate(tmp_path, ["p"], attribute=None, system=SYSTEM, store=NIX, timeout=60)
    # As in a pod: a user who may make no namespaces.
    program = tmp_path / "bin" / "nix-store"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\nexec unshare --map-root-user sh -c "
        '\'echo 0 > /proc/sys/user/max_user_namespaces && exec /usr/bin/nix-store "$@"\' sh "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(Terminal, match="cannot be had in this pod") as caught:
        realise(found, store=NixStore(sandbox=True), timeout=60, roots=tmp_path)
    assert caught.value.reason is Reason.SANDBOX_UNAVAILABLE
    assert "runtimeClassName" in caught.value.hint
