"""Evaluation of a real package set, and what users read of everything that can be wrong."""
# ruff: noqa: RUF001 (nixpkgs writes such quotes)

from collections.abc import Sequence
from pathlib import Path

import pytest

from integration.nix.demo import SYSTEM
from niximage.api.contents import NixpkgsConfig
from niximage.errors import NixImageError, Reason, Terminal
from niximage.nix.evaluate import EvaluatedPackage, evaluate
from niximage.nix.programs import NixStore


def look_up(
    source: Path,
    *packages: str,
    attribute: str | None = None,
    timeout: float = 60,
    config: NixpkgsConfig | None = None,
) -> tuple[EvaluatedPackage, ...]:
    return evaluate(
        source,
        packages,
        attribute=attribute,
        system=SYSTEM,
        store=NixStore(),
        timeout=timeout,
        config=config,
    )


def refused(
    source: Path,
    *packages: str,
    attribute: str | None = None,
    config: NixpkgsConfig | None = None,
) -> Terminal:
    with pytest.raises(Terminal) as caught:
        look_up(source, *packages, attribute=attribute, config=config)
    return caught.value


def written(folder: Path, expression: str) -> Path:
    """A source of one expression."""
    (folder / "default.nix").write_text(expression)
    return folder


def names(package: EvaluatedPackage) -> Sequence[str]:
    return [f"{name}:{path.partition('-')[2]}" for name, path in package.outputs.items()]


# A package without a builder: enough to be evaluated.
PACKAGE = """derivation { name = "p"; inherit system; builder = "/none"; }"""


def test_packages_come_in_their_order_with_derivations_and_paths(demo_folder: Path) -> None:
    upper, hello = look_up(demo_folder, "tools.upper", "hello")
    assert (upper.attribute, names(upper)) == ("tools.upper", ["out:upper-1.0"])
    assert (hello.attribute, names(hello)) == ("hello", ["out:hello-2.12"])
    assert Path(hello.derivation).is_file()
    assert hello.derivation.endswith("-hello-2.12.drv")


@pytest.mark.parametrize(
    ("package", "outputs"),
    [
        ("manual", ["out:manual-4.2", "doc:manual-4.2-doc"]),
        ("manual^*", ["out:manual-4.2", "doc:manual-4.2-doc", "dev:manual-4.2-dev"]),
        ("manual^dev", ["dev:manual-4.2-dev"]),
        ("manual^dev,out", ["dev:manual-4.2-dev", "out:manual-4.2"]),
        ("manual.doc", ["doc:manual-4.2-doc"]),
        ("wrong-hash", ["out:wrong-hash-1.0"]),
    ],
)
def test_outputs(demo_folder: Path, package: str, outputs: Sequence[str]) -> None:
    (found,) = look_up(demo_folder, package)
    assert names(found) == outputs


def test_missing_packages_are_told_all_at_once_with_near_names(demo_folder: Path) -> None:
    error = refused(demo_folder, "hello", "helo", "tools.uper", "lib.version.major", "xyzzy")
    assert error.reason is Reason.PACKAGE_NOT_FOUND
    assert error.message == (
        "4 of 5 packages cannot be used:\n"
        "helo: there is no 'helo'; near names: hello\n"
        "tools.uper: there is no 'uper'; near names: tools.upper\n"
        "lib.version.major: there is no 'major'\n"
        "xyzzy: there is no 'xyzzy'"
    )
    assert error.hint == "Correct spec.packages, or choose a source that has them"


def test_what_is_no_package_says_what_it_is(demo_folder: Path) -> None:
    error = refused(demo_folder, "tools", "lib.version", "manual^debug")
    assert error.reason is Reason.PACKAGE_NOT_FOUND
    assert error.message == (
        "3 of 3 packages cannot be used:\n"
        "tools: it is no package but a set; name one of the packages in it: tools.…\n"
        "lib.version: it is no package but a string\n"
        "manual^debug: it has no output debug, only out, doc, dev"
    )


def test_refused_packages_are_told_with_what_allows_them(demo_folder: Path) -> None:
    error = refused(demo_folder, "unfree-tool", "insecure-tool", "marked-broken", "hello")
    assert error.reason is Reason.UNFREE_OR_INSECURE
    assert error.message == (
        "3 of 4 packages cannot be used:\n"
        "unfree-tool: unfree-tool-6.1.7 in default.nix:25 has an unfree license (‘unfree’);"
        " to allow it, set spec.nixpkgsConfig.allowUnfree: true\n"
        "insecure-tool: insecure-tool-1.0.2u in default.nix:25 is marked as insecure;"
        " to allow it, set spec.nixpkgsConfig.permittedInsecurePackages: [insecure-tool-1.0.2u]\n"
        "marked-broken: marked-broken-0.1 in default.nix:25 is marked as broken;"
        " to allow it, set spec.nixpkgsConfig.allowBroken: true"
    )
    assert error.hint == "Otherwise choose other packages"


def test_what_is_allowed_is_taken(demo_folder: Path) -> None:
    config = NixpkgsConfig(
        allow_unfree=True,
        allow_broken=True,
        permitted_insecure_packages=["insecure-tool-1.0.2u"],
    )
    found = look_up(demo_folder, "unfree-tool", "insecure-tool", "marked-broken", config=config)
    assert len(found) == 3


def test_nothing_more_is_allowed_than_was_said(demo_folder: Path) -> None:
    config = NixpkgsConfig(allow_unfree=True, permitted_insecure_packages=["insecure-tool-1.0.2"])
    error = refused(demo_folder, "unfree-tool", "insecure-tool", "marked-broken", config=config)
    assert [line.partition(":")[0] for line in error.message.split("\n")[1:]] == [
        "insecure-tool",
        "marked-broken",
    ]


REFUSAL = 'throw "Package ‘p-1’ in x.nix:1 is marked as broken, refusing to evaluate."'


@pytest.mark.parametrize(
    ("function", "attribute", "way"),
    [
        ("{ system }: { p = %s; }", None, "the source takes no config: allow it there"),
        ("{ p = %s; }", None, "the source takes no config: allow it there"),
        ("{ config }: { p = %s; }", None, "to allow it, set spec.nixpkgsConfig.allowBroken: true"),
        ("{ a = { ... }: { p = %s; }; }", "a", "to allow it, set spec.nixpkgsConfig.allowBroken"),
    ],
)
def test_a_source_without_config_is_not_told_to_have_one(
    tmp_path: Path, function: str, attribute: str | None, way: str
) -> None:
    source = written(tmp_path, function % f'{{ type = "derivation"; drvPath = {REFUSAL}; }}')
    error = refused(source, "p", attribute=attribute)
    assert error.message.startswith(f"p: p-1 in x.nix:1 is marked as broken; {way}")


def test_an_empty_configuration_is_what_others_call_the_source_with(tmp_path: Path) -> None:
    source = written(
        tmp_path, f"{{ system, config }}: assert config == {{ }}; {{ p = {PACKAGE}; }}"
    )
    assert len(look_up(source, "p", config=NixpkgsConfig(allow_unfree=False))) == 1


def test_a_throw_is_told_with_its_message(demo_folder: Path) -> None:
    error = refused(demo_folder, "throws")
    assert error.reason is Reason.EVALUATION_FAILED
    assert error.message == (
        "throws: 'throws' has been removed, as nobody maintained it. Use 'hello' instead"
    )


def test_all_kinds_of_trouble_are_in_one_message(demo_folder: Path) -> None:
    error = refused(demo_folder, "throws", "unfree-tool", "helo")
    assert error.reason is Reason.PACKAGE_NOT_FOUND
    assert [line.partition(":")[0] for line in error.message.split("\n")[1:]] == [
        "throws",
        "unfree-tool",
        "helo",
    ]


def test_an_abort_is_told_of_the_package_that_has_it(demo_folder: Path) -> None:
    error = refused(demo_folder, "hello", "aborts", "throws")
    assert error.reason is Reason.EVALUATION_FAILED
    assert error.message == (
        "2 of 3 packages cannot be used:\n"
        "aborts: evaluation aborted with the following error message: "
        "'this attribute ends every evaluation'\n"
        "throws: 'throws' has been removed, as nobody maintained it. Use 'hello' instead"
    )


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("{ }: { x = }", "syntax error, unexpected '}'"),
        ("abort ''stop''", "evaluation aborted with the following error message: 'stop'"),
        ("throw ''not today''", "not today"),
        ("{ needed }: { }", "called without required argument 'needed'"),
        ("let x = x; in x", "infinite recursion encountered"),
    ],
)
def test_a_source_that_does_not_evaluate_is_told_so(
    tmp_path: Path, expression: str, said: str
) -> None:
    error = refused(written(tmp_path, expression), "hello")
    assert error.reason is Reason.EVALUATION_FAILED
    assert error.message.startswith("the source does not evaluate: ")
    assert said in error.message
    assert "\x1b" not in error.message
    assert str(tmp_path.parent) not in error.message
    assert "evaluate.nix" not in error.message
    assert said.partition(" ")[0] in error.log_tail
    assert "evaluate.nix" not in error.log_tail
    assert ("give all else a default" in error.hint) == ("required argument" in said)


def test_a_source_that_is_no_set_is_told_so(tmp_path: Path) -> None:
    error = refused(written(tmp_path, "{ system, ... }: [ 1 ]"), "hello")
    assert (error.reason, error.message) == (
        Reason.INVALID_SOURCE,
        "the source evaluates to a list, not to a set of packages",
    )


def test_a_source_without_default_nix_is_told_so(tmp_path: Path) -> None:
    error = refused(tmp_path, "hello")
    assert error.reason is Reason.INVALID_SOURCE
    assert error.message == "the source has no default.nix at its path"
    (tmp_path / "all.nix").write_text("{ }")
    assert refused(tmp_path, "hello").message.endswith("at its path; there is all.nix")
    (tmp_path / "flake.nix").write_text("{ }")
    error = refused(tmp_path, "hello")
    assert error.message.endswith("flakes are not read")
    assert error.hint == "Add a default.nix that evaluates to a set of packages"


@pytest.mark.parametrize(
    "function",
    [
        "{ system ? builtins.currentSystem, config ? { }, overlays ? [ ] }:",
        "{ system }:",
        "{ system, ... }:",
        "{ ... }@given: let inherit (given) system config overlays; in",
        "given: let inherit (given) system config overlays; in",
        'let system = "x86_64-linux"; in { }:',
        'let system = "x86_64-linux"; in',
    ],
)
def test_sources_get_the_arguments_that_they_take(tmp_path: Path, function: str) -> None:
    (found,) = look_up(written(tmp_path, f"{function} {{ p = {PACKAGE}; }}"), "p")
    assert names(found) == ["out:p"]


def test_an_attribute_of_the_source_may_hold_the_packages(tmp_path: Path) -> None:
    source = written(tmp_path, f"{{ ... }}: {{ sets.mine = {{ system }}: {{ p = {PACKAGE}; }}; }}")
    (found,) = look_up(source, "p", attribute="sets.mine")
    assert names(found) == ["out:p"]


def test_an_attribute_that_is_not_there_is_told_with_near_names(tmp_path: Path) -> None:
    source = written(tmp_path, "{ sets.mine = { }; }")
    error = refused(source, "p", attribute="sets.mien")
    assert (error.reason, error.message) == (
        Reason.INVALID_SOURCE,
        "source.attr 'sets.mien' leads nowhere: there is no 'mien'; near names: sets.mine",
    )


def test_a_source_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "packages.nix"
    path.write_text(f"{{ system }}: {{ p = {PACKAGE}; }}")
    assert len(look_up(path, "p")) == 1


def test_the_requested_system_is_the_one_that_counts(tmp_path: Path) -> None:
    source = written(tmp_path, f"{{ system }}: {{ p = {PACKAGE}; }}")
    (found,) = evaluate(
        source, ["p"], attribute=None, system="aarch64-linux", store=NixStore(), timeout=60
    )
    assert b"aarch64-linux" in Path(found.derivation).read_bytes()


OTHER = "aarch64-linux" if SYSTEM == "x86_64-linux" else "x86_64-linux"


def test_a_package_of_another_platform_is_no_package_of_this_one(tmp_path: Path) -> None:
    package = PACKAGE.replace("inherit system", f'system = "{OTHER}"')
    crossed = f'{package} // {{ stdenv.hostPlatform.system = "{SYSTEM}"; }}'
    built = PACKAGE.replace("inherit system", 'system = "builtin"')
    source = written(
        tmp_path, f"{{ system }}: {{ p = {package}; crossed = {crossed}; built = {built}; }}"
    )
    assert len(look_up(source, "crossed", "built")) == 2
    error = refused(source, "p")
    assert (error.reason, error.message) == (
        Reason.EVALUATION_FAILED,
        f"p: it is for {OTHER}, not for {SYSTEM}: its source must take `system`",
    )


@pytest.mark.parametrize(
    "outputs",
    [
        "[ 1 2 ]",
        "[ [ ] { } ]",
        "[ (builtins.foldl' (a: _: [ a ]) 1 (builtins.genList (n: n) 3000)) ]",
    ],
)
def test_outputs_that_are_no_names_are_told(tmp_path: Path, outputs: str) -> None:
    package = f'{{ type = "derivation"; outputs = {outputs}; drvPath = "x"; }}'
    with pytest.raises(NixImageError):
        look_up(written(tmp_path, f"{{ p = {package}; }}"), "p^doc")


@pytest.mark.parametrize(
    "package",
    [
        '{ type = "derivation"; drvPath = "--option"; outPath = "/etc"; }',
        '{ type = "derivation"; drvPath = "/nix/store/x.drv"; outPath = "/nix/store/x"; }',
        '{ type = "derivation"; outputs = [ ]; meta.outputsToInstall = [ ]; drvPath = "x"; }',
    ],
)
def test_what_only_looks_like_a_derivation_goes_no_further(tmp_path: Path, package: str) -> None:
    error = refused(written(tmp_path, f"{{ p = {package}; }}"), "p")
    assert error.message == "p: its derivation or outputs are malformed"


def test_what_has_no_string_for_a_path_is_told_so(tmp_path: Path) -> None:
    package = '{ type = "derivation"; drvPath = 7; outPath = "/nix/store/x"; }'
    error = refused(written(tmp_path, f"{{ p = {package}; }}"), "p")
    assert error.message.startswith("p: cannot coerce an integer to a string")


def test_names_are_data_and_never_code(demo_folder: Path) -> None:
    name = 'hello"; x = builtins.abort "injected'
    error = refused(demo_folder, name, "${builtins.abort ''injected''}")
    assert error.reason is Reason.PACKAGE_NOT_FOUND
    assert "evaluation aborted" not in error.message


def test_the_user_s_channels_and_settings_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIX_PATH", f"nixpkgs={tmp_path}")
    monkeypatch.setenv("NIXPKGS_ALLOW_UNFREE", "1")
    source = written(
        tmp_path,
        f"""{{ system }}: {{
          path = assert builtins.nixPath == [ ]; {PACKAGE};
          unfree = assert builtins.getEnv "NIXPKGS_ALLOW_UNFREE" == ""; {PACKAGE};
        }}""",
    )
    assert len(look_up(source, "path", "unfree")) == 2


def test_an_evaluation_without_end_is_ended(tmp_path: Path) -> None:
    loop = "let f = n: if n < 0 then n else f (n + 1 - 1); in f 1"
    with pytest.raises(Terminal) as caught:
        look_up(written(tmp_path, f"{{ p = builtins.seq ({loop}) 1; }}"), "p", timeout=2)
    assert caught.value.reason in {Reason.BUILD_TIMEOUT, Reason.EVALUATION_FAILED}


def test_nothing_is_built(demo_folder: Path) -> None:
    (found,) = look_up(demo_folder, "broken-build")
    assert not Path(found.outputs["out"]).exists()
