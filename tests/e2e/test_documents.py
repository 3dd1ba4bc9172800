"""The commands of the documentation that want a cluster: page by page, as they are written.

What a page takes for granted, `BEFORE` makes; what it leaves to its reader (names, hosts, packages
of a set that is not here) is put in by `REPLACED`. The rest is run as it stands.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from e2e.conftest import PROJECT, Node
from e2e.user import Shell
from support.documented import PAGES, Place, Shown, script, shown
from support.kubernetes import nix_image

pytestmark = pytest.mark.timeout(400)
TEAM: Final = "team-docs"
COMMANDS: Final[dict[str, list[Shown]]] = {
    str(page.relative_to(PROJECT)): [each for each in shown(page) if each.place is Place.NODE]
    for page in PAGES
}

REPLACED: Final = {
    # of the installation
    "gs://my-images": "gs://niximage",
    "team-a": TEAM,
    "team-c": TEAM,
    "-n NAMESPACE": f"-n {TEAM}",
    " NAME": " web",
    " REASON": " BuildFailed",
    # of the package set
    "why web openssl": "why web greeting-data",
    "why hello glibc": "why hello greeting-data",
    # of the world
    "docker login": "skopeo login --tls-verify=false",
    "registry.example": "$REGISTRY",
    "password=…": "password=x",
    # what the page says in words
    "helm install niximage": "helm install --dry-run=server niximage",
    "niximage retry web": "niximage retry broken",
    "niximage lock --digest cluster": (
        """kubectl apply -f examples/hello.yaml
        kubectl niximage reconcile hello --wait
        niximage lock -f examples/hello.yaml --digest cluster"""
    ),
    "apply -f examples/class.yaml": (
        "apply -f examples/class.yaml && kubectl delete nixbuildclass standard"
    ),
    "niximage cancel web": "niximage cancel web && kubectl niximage resume web",
    "kubectl niximage diff hello": (
        """kubectl patch niximg/hello --type=merge -p '{"spec":{"packages":["hello","shell"]}}'
        kubectl niximage reconcile hello --wait
        kubectl niximage diff hello"""
    ),
}

BEFORE: Final = {
    "docs/gitops.md": """
        kubectl create namespace argocd
        kubectl create configmap argocd-cm -n argocd
        kubectl create deployment hello --image=hello
        kubectl create namespace staging
    """,
    "docs/sources.md": "ssh-keygen -q -t ed25519 -N '' -f identity; touch known_hosts",
}

SAYS: Final = {
    "README.md": ("PLATFORMS", "Hello from Nix"),
    "docs/quickstart.md": ("Hello from Nix", "shell"),
    "docs/kubectl.md": ("cowsay-3.8", "greeting-data", "published"),
    "docs/operating.md": ("expects sha256:",),
    "docs/gitops.md": ("127.0.0.1:", "/staging/staging-greeting@sha256:"),
}
"""Words among what it prints."""


def environment(node: Node, folder: Path) -> dict[str, str]:
    """What the pages take for granted: the team's namespace, the plugin, the services."""
    services = {
        each["metadata"]["name"]: f"{each['spec']['clusterIP']}:{port['port']}"
        for each in node.cluster.list("services", "niximage-demo")
        for port in each["spec"]["ports"]
    }
    config = yaml.safe_load(node.cluster.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = TEAM
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "PATH": f"{Path(sys.executable).parent}:{node.cluster.programs}:{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "REGISTRY": node.registry,
        "REGISTRY_AUTH_FILE": str(folder / "auth.json"),
        "STORAGE_EMULATOR_HOST": f"http://{services['bucket']}",
        "NIXIMAGE_NIXPKGS_URL": f"http://{services['packages']}/demo.git",
        "NIXIMAGE_SUBSTITUTERS": "",
    }


@pytest.fixture(scope="module")
def shell(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """With NixImages: `web` of two builds, `staging-web`, `hello`, and a `broken` one."""
    folder = tmp_path_factory.mktemp("documents")
    shutil.copytree(PROJECT / "examples", folder / "examples")
    (folder / "charts").symlink_to(PROJECT / "charts")
    run = Shell(node, folder, **environment(node, folder))
    run("git init -q && git config user.name a && git config user.email a@b && git add examples")
    run(f"git commit -qm first && kubectl create namespace {TEAM}")
    # Of different packages: what was built for another name has no build of its own.
    for name, package in (("web", "hello"), ("staging-web", "cowsay"), ("broken", "helo")):
        node.apply(nix_image(TEAM, name, packages=[package]))
    run("kubectl apply -f examples/hello.yaml")
    run("kubectl wait --for=condition=Ready --timeout=3m niximg web staging-web hello")
    run("kubectl wait --for=condition=Stalled --timeout=3m niximg broken")
    node.apply(nix_image(TEAM, packages=["cowsay", "hello"]))
    run("kubectl niximage reconcile web --wait")
    yield run
    node.cluster.run("delete", "namespace", TEAM, "staging", "argocd", "--wait=false")


@pytest.mark.parametrize("page", [page for page, commands in COMMANDS.items() if commands])
def test_what_a_page_shows_works(shell: Shell, page: str) -> None:
    shell("git checkout -q examples; kubectl delete pod hello --ignore-not-found")
    shell(BEFORE.get(page, ""))
    output = shell(script(COMMANDS[page], REPLACED))
    for words in SAYS.get(page, ()):
        assert words in output
