"""What users read about packages that cannot be used."""
# ruff: noqa: RUF001, E501 (nixpkgs writes such quotes, and such lines)

import pytest

from niximage.errors import Reason
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


@pytest.mark.parametrize("stderr", [OLD, NEW])
def test_what_nixpkgs_refuses_is_told_in_one_line(stderr: str) -> None:
    assert threw("unrar", stderr) == Problem(
        "unrar",
        Reason.UNFREE_OR_INSECURE,
        "Package ‘unrar-6.1.7’ in /x.nix:25 has an unfree license (‘unfree’)",
    )


@pytest.mark.parametrize("why", ["is marked as insecure", "is marked as broken"])
def test_insecure_and_broken_packages_are_refused_ones(why: str) -> None:
    problem = threw("x", f"error: Package ‘x’ in /x.nix:1 {why}, refusing to evaluate.\n")
    assert problem.reason is Reason.UNFREE_OR_INSECURE
    assert problem.text == f"Package ‘x’ in /x.nix:1 {why}"


def test_other_throws_are_failed_evaluations() -> None:
    problem = threw("x", "\x1b[31;1merror:\x1b[0m 'x' has been \x1b[1mremoved\x1b[0m\n")
    assert problem == Problem("x", Reason.EVALUATION_FAILED, "'x' has been removed")


def test_without_an_error_line_the_last_lines_are_told() -> None:
    assert error_message("\n".join(f"line {i}" for i in range(30))).startswith("line 20\n")


def test_messages_are_bounded() -> None:
    assert len(error_message("error: " + "ä" * 5000).encode()) <= 400


def test_one_problem_is_one_line() -> None:
    error = error_of([not_found("tools.uper", "uper", ["upper", "lower"])], requested=3)
    assert (error.reason, error.message) == (
        Reason.PACKAGE_NOT_FOUND,
        "tools.uper: there is no 'uper'; near names: upper",
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
