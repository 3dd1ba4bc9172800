"""The shell commands that the documentation shows, and where each of them is run.

A command is a line after `$ ` in a block of console, with what continues it, or a code span that
begins with a program's name and says more than which subcommand is meant; in an example, a comment.
They are run literally, page by page: those of `FOLDER` by tests/integration/cli/test_documents, of
`NODE` by tests/e2e/test_documents, of `EMPTY` by tests/e2e/test_chart, with the chart's notes. What
is left to others is named here, with the test or the reason.
"""

import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2]
CHART: Final = PROJECT / "charts" / "niximage-operator"
PAGES: Final = (
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((PROJECT / "docs").glob("*.md")),
    CHART / "README.md",
    *(PROJECT / name / "README.md" for name in ("cluster", "bench")),
    *sorted(file for file in (PROJECT / "examples").rglob("*") if file.is_file()),
)
PROGRAMS: Final = (
    *(
        "kubectl",
        "niximage",
        "helm",
        "make",
        "git",
        "uv",
        "python3",
        "gcloud",
        "htpasswd",
        "docker",
    ),
    *("skopeo", "pipx", "pip", "pre-commit", "ctr", "crane", "flux", "podman", "nix", "curl"),
)

_BLOCK: Final = re.compile(r"^ *```console\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINE: Final = re.compile(r"^ *\$ ((?:.*\\\n)*.*)$", re.MULTILINE)
_SPAN: Final = re.compile(rf"(?<!`)`((?:{'|'.join(PROGRAMS)})\s[^`]*)`")
_COMMENT: Final = re.compile(rf"^# +((?:{'|'.join(PROGRAMS)}) .*)$", re.MULTILINE)
_LOOSE: Final = re.compile(rf"^ {{4,}}(?:\$ )?(?:{'|'.join(PROGRAMS)}) .*$", re.MULTILINE)


class Place(enum.Enum):
    """Where commands are run."""

    FOLDER = "a folder and a bucket in it, without a cluster"
    NODE = "a node with the operator, a Git server and a bucket"
    EMPTY = "a node without the operator"


@dataclass(frozen=True)
class Shown:
    """A command that a page shows.

    Attributes:
        page: the file, relative to the repository.
        line: where in it.
        text: the command, on one line.
        section: the heading that it stands below.
    """

    page: str
    line: int
    text: str
    section: str = ""

    @property
    def place(self) -> Place | None:
        """Where it is run; None where others do, or nobody can."""
        if self.text in RUN_BY or self.text in NOT_RUN:
            return None
        if any(self.is_of(*each) for each in SECTIONS):
            return None
        if self.text in MOVED:
            return MOVED[self.text]
        if self.page == "docs/local.md" or self.text.startswith("niximage "):
            return Place.FOLDER
        return Place.NODE

    def is_of(self, page: str, section: str, program: str) -> bool:
        """Whether it is one of a section's commands that begin so."""
        return (self.page, self.section) == (page, section) and self.text.startswith(program)


def shown(page: Path) -> list[Shown]:
    """Every command of a page, in its order; the same one again only where blocks have it."""
    text = page.read_text()
    name = str(page.relative_to(PROJECT))
    found = [(block.start(1) + line.start(1), line[1]) for block in _BLOCK.finditer(text)
             for line in _LINE.finditer(block[1])]  # fmt: skip
    if page.suffix != ".md":
        return [
            Shown(name, text.count("\n", 0, each.start()) + 1, each[1])
            for each in _COMMENT.finditer(text)
        ]
    in_blocks = {_words(command) for _, command in found}
    for span in _SPAN.finditer(text):
        words = _words(span[1])
        if not _is_mention(words) and words not in in_blocks:
            in_blocks.add(words)
            found.append((span.start(1), span[1]))
    return [
        Shown(name, text.count("\n", 0, start) + 1, _words(command), _section(text, start))
        for start, command in sorted(found)
    ]


def loose(page: Path) -> Iterator[str]:
    """Lines that look like commands and are in no block of them."""
    if page.suffix == ".md":
        outside = _BLOCK.sub("", page.read_text())
        yield from (line.strip() for line in _LOOSE.findall(outside))


def script(commands: Sequence[Shown], replaced: Mapping[str, str]) -> str:
    """What bash is given: the commands of a page, each after a line that tells its place."""
    lines = ["set -euo pipefail"]
    for each in commands:
        text = each.text
        for placeholder, value in replaced.items():
            text = text.replace(placeholder, value)
        lines += [f"echo '+ {each.page}:{each.line}' >&2", text]
    return "\n".join(lines)


def _section(text: str, place: int) -> str:
    headings = re.findall(r"^##+ (.+)$", text[:place], re.MULTILINE)
    return headings[-1] if headings else ""


def _words(command: str) -> str:
    """A command on one line, without what continues it and without a comment."""
    joined = re.sub(r"\s*\\?\n\s*", " ", command)
    return re.sub(r"\s+#\s.*", "", joined).strip()


def _is_mention(command: str) -> bool:
    """Whether no more is said than which program or subcommand is meant."""
    words = command.split()
    named = 3 if words[:2] == ["kubectl", "niximage"] else 2
    return len(words) <= named


_PUSH: Final = "python3 images push registry.example/team/niximage-operator"
_INSTALL: Final = (
    "helm install niximage charts/niximage-operator --namespace niximage-system --create-namespace"
    " --set image.repository=registry.example/team/niximage-operator"
)
MOVED: Final[Mapping[str, Place]] = {
    _PUSH: Place.EMPTY,
    f"{_INSTALL} --wait": Place.EMPTY,
    "helm upgrade niximage charts/niximage-operator --namespace niximage-system"
    " --reset-then-reuse-values --wait": Place.EMPTY,
    "helm upgrade niximage charts/niximage-operator --namespace niximage-system"
    " --reset-then-reuse-values --set gc.enabled=true": Place.EMPTY,
    "kubectl delete jobs -A -l app.kubernetes.io/component=builder": Place.EMPTY,
    "helm uninstall niximage --namespace niximage-system --wait": Place.EMPTY,
    "kubectl delete crd niximages.niximage.dev nixbuildclasses.niximage.dev": Place.EMPTY,
    "niximage gc --bucket gs://my-images": Place.NODE,  # it asks the cluster what is in use
    "niximage gc --bucket gs://my-images --dry-run": Place.NODE,
    "niximage lock --digest cluster": Place.NODE,
}
"""What is run elsewhere than its program or page would say."""

_CLUSTER: Final = "tests/e2e/test_cluster.py::test_a_node_runs_pods_and_goes_without_a_trace"
_DEMO: Final = "demo/__main__.py"
RUN_BY: Final[Mapping[str, str]] = {
    "make help": (
        "tests/unit/website/test_documented.py"
        "::test_every_target_that_pages_name_is_one_that_make_lists"
    ),
    "make lint": ".ci/run",
    "make test": ".ci/run",
    "python3 cluster up": _CLUSTER,
    'eval "$(python3 cluster up)"': _CLUSTER,
    "python3 cluster up --mode control-plane": "tests/integration/conftest.py::cluster",
    "python3 cluster up --mode control-plane --state /tmp/plane": (
        "tests/integration/conftest.py::cluster"
    ),
    "export NIXIMAGE_TEST_CONTROL_PLANE=/tmp/plane/kubeconfig": (
        "tests/integration/conftest.py::cluster"
    ),
    "python3 cluster status": "tests/e2e/conftest.py::node",
    "python3 cluster status [--json]": "tests/e2e/conftest.py::node",
    "python3 cluster load ARCHIVE...": (
        "tests/e2e/test_cluster.py::test_load_makes_archives_known_by_the_names_that_pods_use"
    ),
    "python3 cluster down": _CLUSTER,
    "python3 cluster tools [PROGRAM...]": "tests/integration/conftest.py::tools",
    ".ci/version set 0.2.0": (
        "tests/unit/test_release.py::test_a_release_sets_every_version_and_opens_a_new_chapter"
    ),
    "kubectl patch configmap argocd-cm -n argocd --patch-file argocd-cm.yaml": (
        "tests/integration/controller/test_examples.py::test_argo_s_configuration_is_patched"
    ),
    "kubectl kustomize examples/kustomize": (
        "tests/integration/controller/test_examples.py::test_kustomize_follows_the_names_of_niximages"
    ),
}
"""What a test or CI runs just so, or a fixture before all tests."""

SECTIONS: Final[Mapping[tuple[str, str, str], str]] = {
    ("docs/gateway.md", "By name, for all nodes", ""): (
        "tests/e2e/test_many.py::test_each_gateway_takes_the_others_tokens"
    ),
    ("docs/operating.md", "Garbage collection", "kubectl"): (
        "tests/e2e/test_many.py::test_the_collection_deletes_what_no_image_needs"
    ),
}
"""Page, section and what its commands begin with: a test runs them as they stand."""

_ITS_PARTS: Final = "a test within the tests: CI runs all of them, by `make test`"
_NAMES: Final = "names a command of another program, and shows no use of it"
NOT_RUN: Final[Mapping[str, str]] = {
    "make demo": "its first half, `demo install`, is how the tests' node comes to be",
    "make prepare": "what `make test` begins with",
    "make soak DURATION=30m": "takes half an hour; controller/test_soak.py is the short one",
    "make generate lint test": "`make lint` says that nothing is left to generate",
    'git commit --all --message "Release 0.2.0" && git tag v0.2.0': "releases",
    '"$(.ci/uv)" run pytest tests/unit/controller -q': _ITS_PARTS,
    '"$(.ci/uv)" run pytest tests/integration/controller -q': _ITS_PARTS,
    '"$(.ci/uv)" tool run pre-commit install': "writes into the repository's .git/hooks",
    "apt-get install nix-bin git skopeo pipx": "Debian's program; `make test` does it for itself",
    "pipx install .": "fetches all dependencies anew; `make dist` and the image use the same wheel",
    "pipx ensurepath": "writes into the files of the user's shell",
    "kubectl delete node NAME": "there is but one",
    "kubectl set image": _NAMES,
    "kubectl top pod": _NAMES,
    "ctr images import": _NAMES,
    "ctr images import --all-platforms": _NAMES,
    "skopeo copy --all": _NAMES,
    "docker pull nixery.dev/shell/git/htop": "what people did before, of a service in the internet",
    "ctr --address .cluster/containerd/containerd.sock --namespace k8s.io images list": (
        "for a look at a cluster that is ill"
    ),
    "gcloud storage cat gs://my-images/niximage/v1/logs/team-a/0b0dd1b2-….gz | gunzip": (
        "Google's program and its real storage"
    ),
    "gcloud iam workload-identity-pools create-cred-config PROVIDER"
    " --credential-source-file=token --output-file=credentials.json": (
        "Google's program; tests/integration/chart/test_federation.py takes what it writes"
    ),
}
"""What cannot be run here, and why."""
