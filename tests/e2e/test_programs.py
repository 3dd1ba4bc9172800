"""Real programs on a real node: Debian's bash, Python, curl and Nix in images of every kind.

Three images are built at once: one by itself, one upon another NixImage, and one upon a Debian
in a registry. Each runs as root and as user 1000, and Nix verifies its store in it.
"""

import base64
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import yaml

from e2e.conftest import PROJECT, Node
from integration.debian_registry import debian_registry, public_folder
from support.debian_set.make import make_repository
from support.kubernetes import Json, nix_image

TEAM = "team-programs"
PATIENCE = 400.0  # seconds: each build unpacks half a hundred packages, in a store of its own
pytestmark = pytest.mark.timeout(900)
USERS = (0, 1000)
each_user = pytest.mark.parametrize("user", USERS)
each_image = pytest.mark.parametrize("name", ["alone", "upon", "debian"])
# The cluster's API server, as pods find it: its authority is the cluster's own.
API = "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/version"

FILES: list[Json] = [
    {"path": "/etc/app/settings.ini", "content": "[app]\nport = 80\n"},
    {"path": "/etc/app/secret", "content": "x", "mode": "0600", "uid": 1000, "gid": 1000},
    {"path": "/opt/app/run", "content": "#!/bin/sh\necho running $1\n", "mode": "0755"},
    {"path": "/opt/app/bytes", "contentBase64": base64.b64encode(bytes(range(256))).decode()},
    {"path": "/var/lib/app", "directory": True, "mode": "2770", "uid": 1000, "gid": 33},
    {"path": "/usr/local/bin/app", "symlink": "/opt/app/run"},
    {"path": "/bin/tac", "content": "#!/bin/sh\necho mine\n", "mode": "0755"},
]


@dataclass(frozen=True)
class Images:
    """The built images.

    Attributes:
        node: where they run.
        references: of each, with its digest.
        base: the layers of the Debian.
    """

    node: Node
    references: dict[str, str]
    base: list[str]

    def run(self, name: str, script: str, user: int) -> str:
        """What a shell script prints in a pod of an image."""
        reference = self.references[name]
        return self.node.output(TEAM, reference, "/bin/bash", "-euc", script, user=user)

    def layers(self, name: str) -> list[str]:
        return layers(self.references[name])


def layers(reference: str) -> list[str]:
    """The digests of an image's layers, bottom first."""
    inspect = ["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"]
    done = subprocess.run(inspect, check=True, capture_output=True, timeout=60)
    found: list[str] = json.loads(done.stdout)["Layers"]
    return found


@pytest.fixture(scope="module")
def source(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The set in the cluster's Git server."""
    folder = tmp_path_factory.mktemp("programs")
    make_repository(folder / "programs.git", "main")
    with tarfile.open(folder / "programs.tar", "w") as tar:
        tar.add(folder / "programs.git", "programs.git")
    unpack = ("tar", "-x", "--no-same-owner", "-C", "/git")
    node.cluster.send(
        folder / "programs.tar",
        *("exec", "-i", "-n", "niximage-demo", "deploy/packages", "-c", "git", "--", *unpack),
    )
    service = node.cluster.get("service", "packages", "niximage-demo")
    assert service is not None
    host = f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"
    return {"git": {"url": f"http://{host}/programs.git", "ref": {"branch": "main"}}}


@pytest.fixture(scope="module")
def debian(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Debian by digest, in a registry that build pods reach over the node's address."""
    (machine,) = node.cluster.list("nodes", "default")
    (host,) = (a["address"] for a in machine["status"]["addresses"] if a["type"] == "InternalIP")
    built = [sys.executable, str(PROJECT / "images"), "build", "demo"]
    image = subprocess.run(built, check=True, capture_output=True, text=True, timeout=120).stdout
    archive = image.split()[-1]
    folder = tmp_path_factory.mktemp("registry")
    with (
        public_folder() as bucket,
        debian_registry(bucket, {}, folder, host=host, is_writable=True) as url,
    ):
        address = url.removeprefix("http://")
        push = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        push += ["--digestfile", str(folder / "digest")]
        subprocess.run(
            [*push, f"oci-archive:{archive}", f"docker://{address}/library/debian:13"],
            check=True,
            capture_output=True,
            timeout=120,
        )
        with insecure(node, address):
            yield f"{address}/library/debian:13@{(folder / 'digest').read_text()}"


@contextmanager
def insecure(node: Node, address: str) -> Iterator[None]:
    """Meanwhile the operator lets bases come from a registry without a certificate."""
    operator = ("deploy/niximage-operator", "-n", "niximage-system")
    variable = "NIXIMAGE_INSECURE_REGISTRIES"

    def set_variable(given: str) -> None:
        node.cluster.do("set", "env", *operator, given)
        node.cluster.do("rollout", "status", *operator, "--timeout=50s")

    set_variable(f"{variable}={address}")
    try:
        yield
    finally:
        set_variable(f"{variable}-")


@pytest.fixture(scope="module")
def images(node: Node, source: Json, debian: str) -> Iterator[Images]:
    """The images, all ready."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}}
    node.apply(namespace)
    kubeconfig = yaml.safe_load(node.cluster.kubeconfig.read_text())
    authority = base64.b64decode(kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"])

    def apply(name: str, *packages: str, **spec: object) -> None:
        common = {"source": source, "nixDatabase": True, "layering": {"maxLayers": 12}}
        node.apply(nix_image(TEAM, name, packages=list(packages), **common, **spec))

    config = {"user": "1000:33", "workingDir": "/work", "volumes": ["/data"]}
    apply(
        "alone",
        *("bash", "coreutils", "python3", "curl", "cacert", "nix"),
        config=config,
        files=FILES,
    )
    apply("below", "bash", "coreutils", "nix")
    apply("upon", "python3", "cacert", base={"niximage": {"name": "below"}})
    bundle = {"path": "/etc/ssl/certs/ca-certificates.crt", "content": authority.decode()}
    apply("debian", "curl", "nix", "python3", base={"image": debian}, files=[bundle])
    names = ("alone", "below", "upon", "debian")
    ready = {name: node.ready(TEAM, name, within=PATIENCE) for name in names}
    references = {name: image["status"]["image"] for name, image in ready.items()}
    yield Images(node, references, layers(debian.replace(":13@", "@")))
    node.cluster.do("delete", "namespace", TEAM, "--wait=false")


@each_user
@each_image
def test_programs_run_and_nix_finds_the_store_as_it_was(
    images: Images, name: str, user: int
) -> None:
    # A store belongs to whom its image runs as: root, unless config.user or the base say so.
    nix = "nix-store --verify --check-contents >&2;" if (name, user) != ("upon", 1000) else ""
    python = "import ctypes, os, sqlite3, ssl; print(os.getuid(), ssl.OPENSSL_VERSION)"
    first, last = images.run(name, f'{nix} python3 -c "{python}"; echo $UID', user).split("\n")[
        -3:-1
    ]
    assert first.startswith(f"{user} OpenSSL 3.")
    assert last == str(user)


def test_files_have_their_modes_owners_and_contents(images: Images) -> None:
    paths = " ".join(str(file["path"]) for file in FILES)
    found = images.run("alone", f"stat -c '%n %A %u:%g' {paths}", 1000).splitlines()
    assert found == [
        "/etc/app/settings.ini -rw-r--r-- 0:0",
        "/etc/app/secret -rw------- 1000:1000",
        "/opt/app/run -rwxr-xr-x 0:0",
        "/opt/app/bytes -rw-r--r-- 0:0",
        "/var/lib/app drwxrws--- 1000:33",
        "/usr/local/bin/app lrwxrwxrwx 0:0",
        "/bin/tac -rwxr-xr-x 0:0",
    ]
    script = """
        cat /etc/app/settings.ini
        cat /etc/app/secret; echo
        /usr/local/bin/app fast
        tac
        sha256sum < /opt/app/bytes
        touch /var/lib/app/a /work/a /data/a /tmp/a ~/a
        echo ~ $PWD $(id -un)
    """
    assert images.run("alone", script, 1000).splitlines() == [
        "[app]",
        "port = 80",
        "x",
        "running fast",
        "mine",
        "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880  -",
        "/home/user /work user",
    ]


def test_the_bundle_of_a_package_is_believed_and_no_other(images: Images) -> None:
    script = f"""
        echo $SSL_CERT_FILE
        python3 -c "import ssl; print(len(ssl.create_default_context().get_ca_certs()) > 50)"
        curl -s -o /dev/null {API} || echo $?
    """
    bundle = "/etc/ssl/certs/ca-bundle.crt"
    assert images.run("alone", script, 1000).split() == [bundle, "True", "60"]


@each_user
def test_a_bundle_of_the_files_is_believed(images: Images, user: int) -> None:
    script = f"echo $SSL_CERT_FILE; curl -sS --fail {API} 2>&1"
    bundle, _, version = images.run("debian", script, user).partition("\n")
    assert bundle == "/etc/ssl/certs/ca-certificates.crt"
    assert json.loads(version)["gitVersion"].startswith("v1.")


def test_what_the_base_has_stays_and_is_not_packed_again(images: Images) -> None:
    assert images.layers("debian")[: len(images.base)] == images.base
    below = images.layers("below")
    assert images.layers("upon")[: len(below)] == below
    script = "dpkg --status git | grep ^Status; git --version; readlink /bin"
    status, version, link = images.run("debian", script, 1000).splitlines()
    assert (status, link) == ("Status: install ok installed", "usr/bin")
    assert version.startswith("git version ")


def test_nix_knows_the_base_s_paths_and_keeps_them(images: Images) -> None:
    script = """
        before=$(ls /nix/store | wc -l)
        nix-store --check-validity /nix/store/*
        nix-store --gc 2>&1 | tail -1
        after=$(ls /nix/store | wc -l)
        echo $before $after
        python3 -c 'print(1)'
    """
    *_, counts, one = images.run("upon", script, 0).splitlines()
    before, after = counts.split()
    assert (before, one) == (after, "1")
