"""The node's network: a namespace of its own in which packets between pods are routed and judged.

Several nodes share the machine's network, as a pod's port on 127.0.0.1 must be the machine's.
kube-proxy and Calico's Felix, which enforces NetworkPolicies, take the chains, sets and routes of
their network namespace for theirs alone. So each node has one for them, the router: the pods'
interfaces end there, and one pair of interfaces leads to the machine, where nothing but a few
rules with the node's name is left to clean up.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from contextlib import suppress
from pathlib import Path

from certificates import CALICO, kubeconfig_of
from console import ClusterError, run
from instance import Instance, name_of, write_json
from packages import SYSTEM_PATH

PLUGINS = Path("/usr/lib/cni")
UPLINK = "uplink"  # the router's end of the pair that leads to the machine
_RESULTS = Path("/var/lib/cni/results")  # fixed in the CNI library
# portmap's own chains, shared by everybody on the machine who uses the plugin
_SHARED_CHAINS = ("CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK")


def create(instance: Instance) -> None:
    """Make the router, the way to it, and the plugins' configuration."""
    name = instance.name
    mtu = _outer_mtu()
    _create_router(instance, mtu)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    named = ["-m", "comment", "--comment", _comment(name)]
    for direction in ("--in-interface", "--out-interface"):
        # a machine with Docker drops what is forwarded unless somebody allows it
        run(["iptables", "--wait", "-I", "FORWARD", direction, name, *named, "-j", "ACCEPT"])
    outward = ["--source", str(instance.pod_subnet), "!", "--out-interface", name]
    run(["iptables", "--wait", "-t", "nat", "-A", "POSTROUTING", *outward, *named,
         "-j", "MASQUERADE"])  # fmt: skip
    felix_folder(instance).mkdir()
    plugins = plugins_folder(instance)
    plugins.mkdir(parents=True)
    for plugin in ("host-local", "loopback", "portmap"):
        (plugins / plugin).symlink_to(PLUGINS / plugin)
    calico = shlex.join([*in_router(instance), str(instance.binaries / "calico")])
    (plugins / "calico").write_text(f"#!/bin/sh\nexec {calico}\n")
    (plugins / "calico").chmod(0o755)
    write_json(instance.state / "cni" / "pods.conflist", _plugins(instance, mtu))


def _create_router(instance: Instance, mtu: int) -> None:
    """Make the namespace; the node's address stays the machine's, where the API server listens."""
    name, outside, inside = instance.name, instance.address, instance.router_address
    namespace = _namespace(instance)
    namespace.touch()
    run(["unshare", f"--net={namespace}", "true"])
    pair = ["type", "veth", "peer", "name", UPLINK, "mtu", str(mtu), "netns", str(namespace)]
    run(["ip", "link", "add", name, "mtu", str(mtu), *pair])
    run(["ip", "address", "add", outside, "peer", inside, "dev", name])
    run(["ip", "link", "set", name, "up"])
    for subnet in (instance.pod_subnet, instance.service_subnet):
        run(["ip", "route", "add", str(subnet), "via", inside, "src", outside])
    router = in_router(instance)
    run([*router, "ip", "link", "set", "lo", "up"])
    run([*router, "ip", "address", "add", inside, "peer", outside, "dev", UPLINK])
    run([*router, "ip", "link", "set", UPLINK, "up"])
    run([*router, "ip", "route", "add", "default", "via", outside])
    run([*router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    # no policy stands between a node and its own pods: probes, and ports on loopback
    run([*router, "iptables", "-A", "FORWARD", "--in-interface", UPLINK, "-j", "ACCEPT"])


def in_router(instance: Instance) -> list[str]:
    """What comes before a command that is to run in the router's network."""
    return ["nsenter", f"--net={_namespace(instance)}"]


def _namespace(instance: Instance) -> Path:
    """Where the router's namespace is mounted, so that it goes with the other mounts."""
    return instance.state / "router"


def plugins_folder(instance: Instance) -> Path:
    """The folder in which containerd finds the network plugins."""
    return instance.state / "cni" / "plugins"


def felix_folder(instance: Instance) -> Path:
    """Where Felix says which pods' policies are in force."""
    return instance.state / "felix"


def resolver_file() -> str:
    """The resolv.conf that pods get; empty when the machine's resolver is on loopback.

    There is no cluster DNS; a pod cannot reach a resolver on the machine's loopback.
    """
    for path in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        if path.exists():
            servers = re.findall(r"^nameserver\s+(\S+)", path.read_text(), re.MULTILINE)
            if servers and not any(server.startswith(("127.", "::1")) for server in servers):
                return str(path)
    return ""


def remove(slot: int) -> None:
    """Remove the way to the router, the firewall rules and the plugins' notes of the instance."""
    name = name_of(slot)
    link = Path(f"/sys/class/net/{name}")
    if link.exists():
        try:
            run(["ip", "link", "delete", name])
        except ClusterError:
            if link.exists():  # it goes by itself with the router, in a moment
                raise
    _forget_results(name)
    if shutil.which("iptables-save", path=SYSTEM_PATH):
        for table in ("nat", "filter"):
            _remove_rules(table, name)
        _remove_unused_shared_chains()


def _outer_mtu() -> int:
    """The packet size of the way out: with larger ones, downloads in pods would hang."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, destination = line.split()[:2]
        if destination == "00000000":
            return int(Path(f"/sys/class/net/{interface}/mtu").read_text())
    return 1500


def _plugins(instance: Instance, mtu: int) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(instance.state / "cni" / "leases"),
        "ranges": [[instance.pod_range]],
    }
    calico = {
        "type": "calico",
        "datastore_type": "kubernetes",
        "nodename": instance.name,
        "nodename_file_optional": True,
        "mtu": mtu,
        "ipam": addresses,
        "policy": {"type": "k8s"},
        "kubernetes": {"kubeconfig": str(kubeconfig_of(instance, CALICO))},
        # a pod starts when its policies are there, rather than lose its first packets
        "policy_setup_timeout_seconds": 10,
        "endpoint_status_dir": str(felix_folder(instance) / "endpoint-status"),
        "log_level": "error",
        "log_file_path": str(instance.log("calico")),
    }
    port_map = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": "0.4.0", "name": instance.name, "plugins": [calico, port_map]}


def _comment(name: str) -> str:
    """The comment that the CNI plugins put on their rules, up to the container's id."""
    return f'name: "{name}"'


def _remove_rules(table: str, name: str) -> None:
    """Remove what is the instance's from one table, in one transaction."""
    comment = _comment(name).replace('"', '\\"')
    lines = run(["iptables-save", "--table", table]).splitlines()
    rules = [line for line in lines if line.startswith("-A ")]
    mine = [rule for rule in rules if comment in rule]
    # each pod has chains of its own, which only a commented rule leads to
    chains = {found for rule in mine for found in re.findall(r"-j (CNI-[0-9a-zA-Z-]+)", rule)}
    chains -= set(_SHARED_CHAINS)
    deleted = [f"-D {rule[3:]}" for rule in mine if rule.split()[1] not in chains]
    _restore(table, [*deleted, *(f"-F {c}" for c in chains), *(f"-X {c}" for c in chains)])


def _remove_unused_shared_chains() -> None:
    """Remove portmap's common chains with the last node; it makes them again when needed."""
    lines = run(["iptables-save", "--table", "nat"]).splitlines()
    users = [line for line in lines if line.startswith(f"-A {_SHARED_CHAINS[0]} ")]
    if users or not any(line.startswith(f":{_SHARED_CHAINS[0]} ") for line in lines):
        return
    jumps = [f"-D {line[3:]}" for line in lines if re.search(r"^-A .* -j CNI-HOSTPORT-", line)]
    # the first chain is not emptied: if another node uses it by now, all of this is refused
    flushes = [f"-F {chain}" for chain in _SHARED_CHAINS[1:]]
    with suppress(ClusterError):
        _restore("nat", [*jumps, *flushes, *(f"-X {chain}" for chain in _SHARED_CHAINS)])


def _restore(table: str, commands: list[str]) -> None:
    if commands:
        document = "\n".join([f"*{table}", *commands, "COMMIT", ""])
        run(["iptables-restore", "--wait", "--noflush"], stdin=document)


def _forget_results(name: str) -> None:
    """Delete the CNI library's notes about the instance's pods."""
    for file in _RESULTS.glob(f"{name}-*"):
        container = json.loads(file.read_text())["containerId"]
        for note in _RESULTS.glob(f"*-{container}-*"):
            note.unlink(missing_ok=True)
