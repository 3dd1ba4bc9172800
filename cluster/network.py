"""The node's network: a bridge, the pods' addresses, and firewall rules that leave no trace.

Several nodes share the machine's network namespace, as a pod's port on 127.0.0.1 must be the
machine's. kube-proxy's chains have fixed names, so two of them would overwrite each other:
each gets small wrappers around iptables that replace the prefix of its chains. What carries
the prefix, or a comment with the network's name, is the instance's, and goes with it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from contextlib import suppress
from pathlib import Path

from console import ClusterError, run
from instance import Instance, name_of, write_json
from packages import SYSTEM_PATH

PLUGINS = Path("/usr/lib/cni")
_RESULTS = Path("/var/lib/cni/results")  # fixed in the CNI library
_KUBERNETES_PREFIX = "KUBE-"
# portmap's own chains, shared by everybody on the machine who uses the plugin
_SHARED_CHAINS = ("CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK")


def create(instance: Instance) -> None:
    """Make the bridge, the plugins' configuration and the wrappers."""
    name = instance.name
    mtu = _outer_mtu()
    run(["ip", "link", "add", name, "mtu", str(mtu), "type", "bridge"])
    run(["ip", "address", "add", f"{instance.address}/24", "dev", name])
    run(["ip", "link", "set", name, "up"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    for direction in ("--in-interface", "--out-interface"):
        # a machine with Docker drops what is forwarded unless somebody allows it
        rule = [direction, name, "-m", "comment", "--comment", _comment(name), "-j", "ACCEPT"]
        run(["iptables", "--wait", "-I", "FORWARD", *rule])
    configuration = instance.state / "cni"
    configuration.mkdir()
    write_json(configuration / "pods.conflist", _plugins(instance, mtu))
    _write_wrappers(instance.slot, wrappers_folder(instance))


def wrappers_folder(instance: Instance) -> Path:
    """The folder that kube-proxy has first in its PATH."""
    return instance.state / "iptables"


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
    """Remove the bridge, the firewall rules and the plugins' notes of the instance."""
    name = name_of(slot)
    if Path(f"/sys/class/net/{name}").exists():
        run(["ip", "link", "delete", name])
    _forget_results(name)
    if shutil.which("iptables-save", path=SYSTEM_PATH):
        for table in ("nat", "filter", "mangle"):
            _remove_rules(table, slot)
        _remove_unused_shared_chains()


def _outer_mtu() -> int:
    """The packet size of the way out: with larger ones, downloads in pods would hang."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, destination = line.split()[:2]
        if destination == "00000000":
            return int(Path(f"/sys/class/net/{interface}/mtu").read_text())
    return 1500


def _plugins(instance: Instance, mtu: int) -> dict[str, object]:
    subnet = instance.pod_subnet
    addresses = {
        "type": "host-local",
        "dataDir": str(instance.state / "cni" / "leases"),
        "ranges": [[{"subnet": str(subnet), "gateway": instance.address}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": instance.name,
        "mtu": mtu,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,  # a pod reaches itself through its Service
        "ipam": addresses,
    }
    port_map = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": "0.4.0", "name": instance.name, "plugins": [bridge, port_map]}


def _comment(name: str) -> str:
    """The comment that the CNI plugins put on their rules, up to the container's id."""
    return f'name: "{name}"'


def _prefix(slot: int) -> str:
    """As long as `KUBE-`: the names of chains are as long as the kernel allows."""
    return f"NX{slot:02d}-"


def _write_wrappers(slot: int, folder: Path) -> None:
    folder.mkdir()
    prefix = _prefix(slot)
    real = {
        name: shlex.quote(shutil.which(name, path=SYSTEM_PATH) or name)
        for name in ("iptables", "iptables-save", "iptables-restore")
    }
    scripts = {
        "iptables": f"""\
for argument; do
  shift
  case $argument in
    {_KUBERNETES_PREFIX}*) argument={prefix}${{argument#{_KUBERNETES_PREFIX}}} ;;
  esac
  set -- "$@" "$argument"
done
exec {real["iptables"]} "$@"
""",
        # what another kube-proxy may have made must not look like this one's
        "iptables-save": f"""\
{real["iptables-save"]} "$@" |
  sed -e 's/{_KUBERNETES_PREFIX}/HOST-/g' -e 's/{prefix}/{_KUBERNETES_PREFIX}/g'
""",
        "iptables-restore": f"""\
sed 's/{_KUBERNETES_PREFIX}/{prefix}/g' | {real["iptables-restore"]} "$@"
""",
        # the cluster has IPv4 only, and this is how kube-proxy finds out
        "ip6tables": "exit 1\n",
        "ip6tables-save": "exit 1\n",
        "ip6tables-restore": "exit 1\n",
    }  # fmt: skip
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}")
        (folder / name).chmod(0o755)


def _remove_rules(table: str, slot: int) -> None:
    """Remove what is the instance's from one table, in one transaction."""
    comment = _comment(name_of(slot)).replace('"', '\\"')
    prefix = _prefix(slot)
    lines = run(["iptables-save", "--table", table]).splitlines()
    rules = [line for line in lines if line.startswith("-A ")]
    commented = [rule for rule in rules if comment in rule]
    chains = {line[1:].split()[0] for line in lines if line.startswith(f":{prefix}")}
    # each pod has chains of its own, which only a commented rule leads to
    chains |= {name for rule in commented for name in re.findall(r"-j (CNI-[0-9a-zA-Z-]+)", rule)}
    chains -= set(_SHARED_CHAINS)
    mine = [r for r in rules if r in commented or f"-j {prefix}" in r]
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
