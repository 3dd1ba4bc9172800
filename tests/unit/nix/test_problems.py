"""What users read about packages that cannot be used."""
# ruff: noqa: RUF001, E501 (nixpkgs writes such quotes, and such lines)

import pytest

from niximage.errors import Reason, Retryable, Terminal
from niximage.nix.problems import Problem, error_message, error_of, near_names, not_found, threw

# What Nix 2.8.0 and 2.26.3 print for the same throw.
OLD = """error: Package ‘unrar-6.1.7’ in /x.nix:25 has an unfree license (‘unfree’), refusing to evaluate.

       a) To temporarily allow unfree packages, you can use an environment variable
          for a single invocation of the nix tools.
(use '--show-trace' to show detailed location information)
"""
NEW = """warning: something else
error:
       … while evaluating the attribute 'unrar'
         at /x.nix:4:2:
            3| in {
            4|  unrar = throw "error: a decoy";
             |  ^

       … while calling the 'throw' builtin

       error: Package ‘unrar-6.1.7’ in /x.nix:25 has an unfree license (‘unfree’), refusing to evaluate.

       a) To temporarily allow unfree packages, you can use an environment variable
          for a single invocation of the nix tools.
"""


@pytest.mark.parametrize("stderr", [OLD, NEW])
def test_the_last_error_is_found_in_both_forms(stderr: str) -> None:
    message = error_message(stderr)
    assert message.startswith("Package ‘unrar-6.1.7’")
    assert message.endswith("of the nix tools.")


# The wordings of nixpkgs until 25.11 and since.
BEFORE = (
    "error: Package ‘x-1.0’ in /x.nix:1 {why}, refusing to evaluate.\n\na) To temporarily allow"
)
SINCE = """error: Refusing to evaluate package 'x-1.0' in /x.nix:1 because it {why}

To allow evaluation regardless, use:
- Nixpkgs import: import nixpkgs {{ config = <below code>; }}
"""


@pytest.mark.parametrize("stderr", [OLD, NEW])
def test_what_nixpkgs_refuses_is_told_in_one_line_with_what_allows_it(stderr: str) -> None:
    assert threw("unrar", stderr) == Problem(
        "unrar",
        Reason.UNFREE_OR_INSECURE,
        "unrar-6.1.7 in /x.nix:25 has an unfree license (‘unfree’); to allow it, set "
        "spec.nixpkgsConfig.allowUnfree: true",
    )


@pytest.mark.parametrize("wording", [BEFORE, SINCE], ids=["before", "since"])
@pytest.mark.parametrize(
    ("why", "field"),
    [
        ("has an unfree license (‘bsl11’)", "allowUnfree: true"),
        ("is marked as insecure", "permittedInsecurePackages: [x-1.0]"),
        ("is marked as broken", "allowBroken: true"),
    ],
)
def test_each_refusal_names_its_field(wording: str, why: str, field: str) -> None:
    problem = threw("x", wording.format(why=why))
    assert problem.reason is Reason.UNFREE_OR_INSECURE
    assert problem.text == (f"x-1.0 in /x.nix:1 {why}; to allow it, set spec.nixpkgsConfig.{field}")


def test_problems_in_a_list_are_told_all() -> None:
    why = "has problems:\n- broken: This package is broken.\n- removal: Use y."
    problem = threw("x", SINCE.format(why=why))
    assert problem.reason is Reason.UNFREE_OR_INSECURE
    assert problem.text == (
        f"x-1.0 in /x.nix:1 {why}; to allow it, set spec.nixpkgsConfig.allowBroken: true"
    )


def test_a_source_without_config_has_to_allow_it_itself() -> None:
    problem = threw("x", BEFORE.format(why="is marked as broken"), takes_config=False)
    assert problem.text == (
        "x-1.0 in /x.nix:1 is marked as broken; the source takes no config: allow it there"
    )


@pytest.mark.parametrize("wording", [BEFORE, SINCE], ids=["before", "since"])
def test_what_no_field_allows_is_a_failed_evaluation(wording: str) -> None:
    platform = (
        "is not available on the requested hostPlatform:\n  hostPlatform.system = "
        '"aarch64-linux"\n  package.meta.platforms = [\n    "x86_64-linux"\n  ]'
    )
    assert threw("x", wording.format(why=platform)) == Problem(
        "x",
        Reason.EVALUATION_FAILED,
        "x-1.0 in /x.nix:1 is not made for aarch64-linux, which spec.platforms asks for",
    )


def test_other_throws_are_failed_evaluations() -> None:
    problem = threw("x", "\x1b[31;1merror:\x1b[0m 'x' has been \x1b[1mremoved\x1b[0m\n")
    assert problem == Problem("x", Reason.EVALUATION_FAILED, "'x' has been removed")


def test_without_an_error_line_the_last_lines_are_told() -> None:
    assert error_message("\n".join(f"line {i}" for i in range(30))).startswith("line 20\n")


def test_messages_are_bounded() -> None:
    assert len(error_message("error: " + "ä" * 5000).encode()) <= 400


def test_one_problem_is_one_line() -> None:
    error = error_of([not_found("tools.uper", ["tools"], ["upper", "lower"])], requested=3)
    assert (error.reason, error.message) == (
        Reason.PACKAGE_NOT_FOUND,
        "tools.uper: there is no 'uper'; near names: tools.upper",
    )


@pytest.mark.parametrize(
    ("reasons", "gravest"),
    [
        ([Reason.UNFREE_OR_INSECURE, Reason.EVALUATION_FAILED], Reason.EVALUATION_FAILED),
        ([Reason.EVALUATION_FAILED, Reason.PACKAGE_NOT_FOUND], Reason.PACKAGE_NOT_FOUND),
        ([Reason.UNFREE_OR_INSECURE, Reason.PACKAGE_NOT_FOUND], Reason.PACKAGE_NOT_FOUND),
        ([Reason.UNFREE_OR_INSECURE], Reason.UNFREE_OR_INSECURE),
    ],
)
def test_the_gravest_reason_names_the_error(reasons: list[Reason], gravest: Reason) -> None:
    problems = [Problem(f"p{i}", reason, "is wrong") for i, reason in enumerate(reasons)]
    error = error_of(problems, requested=5)
    assert error.reason is gravest
    assert error.hint
    assert all(f"p{i}: is wrong" in error.message for i in range(len(reasons)))


def test_very_many_problems_are_counted() -> None:
    problems = [Problem(f"p{i}", Reason.PACKAGE_NOT_FOUND, "no") for i in range(100)]
    message = error_of(problems, requested=128).message
    assert message.startswith("100 of 128 packages cannot be used:\np0: no\n")
    assert message.endswith("p39: no\nand 60 more")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("helo", ["hello"]),
        ("HELLO", ["hello"]),
        ("python", ["python3", "python2"]),
        ("zzz", []),
    ],
)
def test_near_names(name: str, near: list[str]) -> None:
    assert near_names(name, ["python2", "hello", "python3", "curl"]) == near


def test_no_more_than_three_near_names() -> None:
    assert len(near_names("python", [f"python{i}" for i in range(9)])) == 3


UNREACHABLE = (
    "error: unable to download 'https://example.org/x.tar.gz': Couldn't resolve host (6)\n"
)


def test_what_only_the_network_is_to_blame_for_is_tried_again() -> None:
    problem = threw("x", UNREACHABLE)
    error = error_of([problem], requested=1)
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNAVAILABLE
    assert error.message.startswith("x: unable to download 'https://example.org/x.tar.gz'")


def test_a_fault_beside_the_network_s_has_to_be_mended_first() -> None:
    problems = [threw("x", UNREACHABLE), threw("y", "error: 'y' has been removed")]
    error = error_of(problems, requested=2)
    assert isinstance(error, Terminal)
    assert error.reason is Reason.EVALUATION_FAILED
    assert "x: unable to download" in error.message


@pytest.mark.parametrize("drv", ["generated.drv", "generated.drv^out", "generated.drv^*"])
def test_a_build_during_evaluation_is_told_in_our_words(drv: str) -> None:
    path = f"/nix/store/dhr2rl912c0vazxsmfr4xdj25pc9ks3r-{drv}"
    problem = threw(
        "x",
        f"error: cannot build '{path}' during evaluation because the option "
        "'allow-import-from-derivation' is disabled\n\n       at /x.nix:3:4:\n\n     3| import d\n",
    )
    assert problem.reason is Reason.EVALUATION_FAILED
    assert problem.text == (
        "its evaluation needs generated to be built first (import from derivation), and evaluating "
        "builds nothing: keep what that makes in the source at /x.nix:3:4"
    )
