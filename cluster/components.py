"""The components: what each is started with, and where it says that it is well.

Every flag here differs from the default for a reason; the comments give those that do not
speak for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import certificates
import containers
import network
from certificates import Identity, kubeconfig_of
from instance import Instance, write_json


@dataclass(frozen=True)
class Component:
    """A program of the cluster.

    `health` is a URL that answers 200 when all is well, or the path of a socket to connect to.
    """

    name: str
    program: Path
    flags: Sequence[str]
    health: str | Path
    environment: Mapping[str, str] = field(default_factory=dict)
    uses_proxy: bool = False


def control_plane(instance: Instance) -> list[Component]:
    """In the order of their start."""
    return [_etcd(instance), _apiserver(instance), _controller_manager(instance)]


def node(instance: Instance) -> list[Component]:
    """What makes pods run; containerd comes first, as images are loaded while others start."""
    return [
        _containerd(instance),
        _felix(instance),
        _scheduler(instance),
        _kubelet(instance),
        _proxy(instance),
    ]


def all_of(instance: Instance) -> list[Component]:
    """Every component that the instance's mode asks for."""
    return control_plane(instance) + (node(instance) if instance.mode == "node" else [])


def _etcd(instance: Instance) -> Component:
    client = f"http://127.0.0.1:{instance.ports['etcd']}"
    peer = f"http://127.0.0.1:{instance.ports['etcd-peer']}"
    flags = [
        f"--data-dir={instance.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # nobody needs this cluster's data after a power cut
        "--log-level=warn",
    ]
    return Component("etcd", instance.binaries / "etcd", flags, f"{client}/health")


def _apiserver(instance: Instance) -> Component:
    keys = instance.certificates
    flags = [
        f"--bind-address={instance.address}",
        f"--secure-port={instance.ports['kube-apiserver']}",
        f"--etcd-servers=http://127.0.0.1:{instance.ports['etcd']}",
        f"--service-cluster-ip-range={instance.service_subnet}",
        f"--client-ca-file={keys / 'authority.crt'}",
        *_serving(instance),
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",  # PodSecurity decides, for each namespace
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={keys / 'service-accounts.key'}",
        f"--service-account-key-file={keys / 'service-accounts.key'}",
        "--profiling=false",
    ]
    if instance.mode == "node":
        flags += [
            f"--kubelet-certificate-authority={keys / 'authority.crt'}",
            f"--kubelet-client-certificate={keys / 'kubelet-client.crt'}",
            f"--kubelet-client-key={keys / 'kubelet-client.key'}",
            # nobody resolves the node's name
            "--kubelet-preferred-address-types=InternalIP",
        ]
    else:
        # an endpoint on loopback is refused, and no pod is there to use it
        flags.append("--endpoint-reconciler-type=none")
    program = instance.binaries / "kube-apiserver"
    return Component("kube-apiserver", program, flags, f"{instance.server}/readyz")


def _controller_manager(instance: Instance) -> Component:
    name = "kube-controller-manager"
    keys = instance.certificates
    flags = [
        *_leader(instance, name, certificates.CONTROLLER_MANAGER),
        f"--service-account-private-key-file={keys / 'service-accounts.key'}",
        f"--root-ca-file={keys / 'authority.crt'}",
        "--use-service-account-credentials=true",
        # every controller asks for a token of its own first; at the default rate that takes 5 s
        "--kube-api-qps=500",
        "--kube-api-burst=500",
    ]
    return _leading(instance, name, flags)


def _scheduler(instance: Instance) -> Component:
    name = "kube-scheduler"
    return _leading(instance, name, _leader(instance, name, certificates.SCHEDULER))


def _leader(instance: Instance, name: str, identity: Identity) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig_of(instance, identity)}",
        "--leader-elect=false",  # there is no other to agree with
        "--bind-address=127.0.0.1",
        f"--secure-port={instance.ports[name]}",
        *_serving(instance),
        "--profiling=false",
    ]


def _leading(instance: Instance, name: str, flags: Sequence[str]) -> Component:
    health = f"https://127.0.0.1:{instance.ports[name]}/healthz"
    return Component(name, instance.binaries / name, flags, health)


def _serving(instance: Instance) -> list[str]:
    """Given a certificate, no component spends its start on making one."""
    keys = instance.certificates
    return [
        f"--tls-cert-file={keys / 'server.crt'}",
        f"--tls-private-key-file={keys / 'server.key'}",
    ]


def _containerd(instance: Instance) -> Component:
    flags = [f"--config={instance.state / 'containerd' / 'config.toml'}"]
    socket = containers.socket_of(instance)
    return Component("containerd", Path("containerd"), flags, socket, uses_proxy=True)


def _kubelet(instance: Instance) -> Component:
    flags = [
        f"--config={instance.state / 'kubelet.json'}",
        f"--root-dir={instance.state / 'kubelet'}",
        f"--kubeconfig={kubeconfig_of(instance, certificates.kubelet_identity(instance))}",
        f"--hostname-override={instance.name}",
        f"--node-ip={instance.address}",
    ]
    health = f"http://127.0.0.1:{instance.ports['kubelet-health']}/healthz"
    return Component("kubelet", instance.binaries / "kubelet", flags, health)


def write_kubelet_configuration(instance: Instance) -> None:
    """Write the file that kubelet reads at its start."""
    keys = instance.certificates
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{containers.socket_of(instance)}",
        "address": instance.address,
        "port": instance.ports["kubelet"],
        "healthzPort": instance.ports["kubelet-health"],
        "tlsCertFile": str(keys / "server.crt"),
        "tlsPrivateKeyFile": str(keys / "server.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": str(keys / "authority.crt")},
        },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{instance.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,  # a negative one needs CAP_SYS_RESOURCE
        "makeIPTablesUtilChains": False,  # the names of its chains are the same for every kubelet
        "resolvConf": network.resolver_file(),
        "podLogsDir": str(instance.state / "pods"),
        "volumePluginDir": str(instance.state / "volume-plugins"),
        "serializeImagePulls": False,
        "podPidsLimit": 512,  # nothing else stops a fork bomb
        "volumeStatsAggPeriod": "15s",  # how soon a volume that is too large is seen
        # loaded images can be had from nowhere else: never collect them, however full the disk
        "imageGCHighThresholdPercent": 100,
        # ... nor ask for a pull because the same image came from a registry, too
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
    }
    write_json(instance.state / "kubelet.json", document)


def _proxy(instance: Instance) -> Component:
    health = f"{instance.router_address}:{instance.ports['kube-proxy-health']}"
    flags = [
        "--proxy-mode=iptables",
        f"--kubeconfig={kubeconfig_of(instance, certificates.PROXY)}",
        f"--hostname-override={instance.name}",
        f"--healthz-bind-address={health}",
        f"--metrics-bind-address=127.0.0.1:{instance.ports['kube-proxy-metrics']}",
        f"--cluster-cidr={instance.pod_subnet}",
        "--iptables-localhost-nodeports=false",
        # leave the machine's own settings alone
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        "--oom-score-adj=0",
    ]
    program = instance.binaries / "kube-proxy"
    return _in_router(instance, Component("kube-proxy", program, flags, f"http://{health}/healthz"))


def _felix(instance: Instance) -> Component:
    """Calico's agent: it turns NetworkPolicies into firewall rules of the router."""
    settings = {
        "DATASTORETYPE": "kubernetes",
        "FELIXHOSTNAME": instance.name,
        "HEALTHENABLED": "true",
        "HEALTHHOST": instance.router_address,
        "HEALTHPORT": str(instance.ports["felix"]),
        "ENDPOINTSTATUSPATHPREFIX": str(network.felix_folder(instance)),
        # what a pod may ask of its own node is the policies' matter alone
        "DEFAULTENDPOINTTOHOSTACTION": "RETURN",
        # after the rule that lets the node reach its pods
        "CHAININSERTMODE": "append",
        "IPV6SUPPORT": "false",
        "XDPENABLED": "false",
        "USAGEREPORTINGENABLED": "false",
        "MTUIFACEPATTERN": f"^{network.UPLINK}$",
        "LOGFILEPATH": "none",
        "LOGSEVERITYSYS": "none",
        "LOGSEVERITYSCREEN": "Warning",
    }
    environment = {f"FELIX_{name}": value for name, value in settings.items()}
    environment["KUBECONFIG"] = str(kubeconfig_of(instance, certificates.CALICO))
    # it writes to /var/lib/calico, whatever it is told: to a place of its own instead
    folder = network.felix_folder(instance)
    hide = ["--mount", "sh", "-c", 'mount --bind "$0" /var/lib && exec "$@"', str(folder)]
    flags = [*hide, str(instance.binaries / "calico-felix")]
    health = f"http://{instance.router_address}:{instance.ports['felix']}/readiness"
    return _in_router(instance, Component("felix", Path("unshare"), flags, health, environment))


def _in_router(instance: Instance, component: Component) -> Component:
    enter, *flags = network.in_router(instance)
    flags += [str(component.program), *component.flags]
    return replace(component, program=Path(enter), flags=flags)
