"""The cluster's certificate authority, the certificates it signs, and kubeconfig files.

Python's standard library cannot make certificates, so the openssl program does.
Elliptic curve keys, because nine RSA keys would take longer than the API server's start.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from console import run
from instance import Instance

_DAYS = "3650"
# openssl's own defaults would mark every certificate as an authority
_CONFIGURATION = "[req]\ndistinguished_name = name\n[name]\n"


@dataclass(frozen=True)
class Identity:
    """Who a certificate speaks for: Kubernetes reads the user and the group from its subject."""

    file: str
    user: str
    group: str = ""


ADMINISTRATOR = Identity("administrator", "administrator", "system:masters")
# the API server's own calls to kubelet: logs, exec, port-forward
KUBELET_CLIENT = Identity("kubelet-client", "kube-apiserver", "system:masters")
CONTROLLER_MANAGER = Identity("kube-controller-manager", "system:kube-controller-manager")
SCHEDULER = Identity("kube-scheduler", "system:kube-scheduler")
PROXY = Identity("kube-proxy", "system:kube-proxy")
# Felix, and the network plugin
CALICO = Identity("calico", "calico", "system:masters")


def kubelet_identity(instance: Instance) -> Identity:
    """The Node authorizer recognises a node by this user and group."""
    return Identity("kubelet", f"system:node:{instance.name}", "system:nodes")


def create(instance: Instance) -> None:
    """Make every key, certificate and kubeconfig of the instance."""
    folder = instance.certificates
    folder.mkdir(mode=0o700)
    (folder / "openssl.cnf").write_text(_CONFIGURATION)
    _authority(folder)
    _serving_certificate(instance)
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out",
         folder / "service-accounts.key"])  # fmt: skip
    identities = [ADMINISTRATOR, CONTROLLER_MANAGER]
    if instance.mode == "node":
        identities += [SCHEDULER, PROXY, CALICO, kubelet_identity(instance)]
        _client_certificate(folder, KUBELET_CLIENT)
    for identity in identities:
        _client_certificate(folder, identity)
        _kubeconfig(instance, identity)


def kubeconfig_of(instance: Instance, identity: Identity) -> Path:
    """The kubeconfig of a component, or the administrator's for people."""
    if identity == ADMINISTRATOR:
        return instance.kubeconfig
    return instance.certificates / f"{identity.file}.kubeconfig"


def _authority(folder: Path) -> None:
    extensions = [
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,keyCertSign,cRLSign",
        "subjectKeyIdentifier=hash",
    ]
    _certificate(folder, "authority", "/CN=niximage-cluster", extensions, signed=False)


def _serving_certificate(instance: Instance) -> None:
    """One certificate for every HTTPS server: all of them run on the same addresses."""
    addresses = {"127.0.0.1", instance.address, str(instance.service_subnet[1])}
    hosts = ["localhost", instance.name, "kubernetes", "kubernetes.default.svc"]
    names = [f"IP:{address}" for address in sorted(addresses)] + [f"DNS:{host}" for host in hosts]
    extensions = [f"subjectAltName={','.join(names)}", *_leaf("serverAuth")]
    _certificate(instance.certificates, "server", "/CN=niximage-cluster-server", extensions)


def _client_certificate(folder: Path, identity: Identity) -> None:
    group = f"/O={identity.group}" if identity.group else ""
    _certificate(folder, identity.file, f"{group}/CN={identity.user}", _leaf("clientAuth"))


def _leaf(usage: str) -> list[str]:
    # Python 3.13 refuses certificates that do not name their authority's key
    return [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        f"extendedKeyUsage={usage}",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
    ]


def _certificate(
    folder: Path, name: str, subject: str, extensions: Sequence[str], *, signed: bool = True
) -> None:
    command: list[str | Path] = ["openssl", "req", "-x509", "-config", folder / "openssl.cnf"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    command += ["-days", _DAYS, "-subj", subject]
    command += ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
    for extension in extensions:
        command += ["-addext", extension]
    if signed:
        command += ["-CA", folder / "authority.crt", "-CAkey", folder / "authority.key"]
    run(command)


def _kubeconfig(instance: Instance, identity: Identity) -> None:
    """Certificates go into the file, so that it works from anywhere; JSON is valid YAML."""
    folder = instance.certificates
    authority = _encoded(folder / "authority.crt")
    cluster = {"server": instance.server, "certificate-authority-data": authority}
    user = {
        "client-certificate-data": _encoded(folder / f"{identity.file}.crt"),
        "client-key-data": _encoded(folder / f"{identity.file}.key"),
    }
    name = instance.name
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": identity.user, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": identity.user}}],
        "current-context": name,
    }
    path = kubeconfig_of(instance, identity)
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=2) + "\n")


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
