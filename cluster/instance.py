"""One running cluster: its state folder, and the ports and networks nobody else uses.

A single number, the slot, decides everything that could clash with another instance on the
machine: ports, network namespace, subnets, control group. Slots are given
out under a lock; the reservation is a file in the user's cache, so that `down` knows what
to clean up even when somebody has deleted the state folder.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import cgroups
from cache import cache_folder, digest, locked
from console import ClusterError
from processes import marked

Mode = Literal["node", "control-plane"]

_SLOTS = range(64)
_FIRST_PORT = 16000  # below the kernel's ephemeral ports and the node ports
_PORTS = (
    "kube-apiserver",
    "etcd",
    "etcd-peer",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubelet-health",
    "kube-proxy-health",
    "kube-proxy-metrics",
    "felix",
)
_FIRST_REGISTRY_PORT = 5000
_API_PORT = 6443
# a socket's path may have 107 characters; the longest name below the state folder takes 37
_LONGEST_STATE_PATH = 70


@dataclass(frozen=True)
class Instance:
    """What `cluster.json` records."""

    state: Path
    mode: Mode
    slot: int
    registry_port: int | None  # where the node's image gateway listens on loopback
    binaries: Path
    snapshotter: str = "overlayfs"
    processes: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the node, its network namespace and interface, and the control group."""
        return name_of(self.slot)

    @property
    def ports(self) -> Mapping[str, int]:
        """The ports of the components."""
        ports = _ports_of(self.slot)
        # a node has an address of its own; policies let pods reach API servers at the usual port
        return {**ports, "kube-apiserver": _API_PORT} if self.mode == "node" else ports

    @property
    def pod_subnet(self) -> ipaddress.IPv4Network:
        """Addresses of the node, the router and the pods, in this order."""
        return ipaddress.IPv4Network(f"10.88.{self.slot}.0/24")

    @property
    def service_subnet(self) -> ipaddress.IPv4Network:
        """Addresses of Services; the first one is the API server's."""
        return ipaddress.IPv4Network(f"10.96.{self.slot}.0/24")

    @property
    def address(self) -> str:
        """Where the API server listens: where pods can reach it, or on loopback."""
        return str(self.pod_subnet[1]) if self.mode == "node" else "127.0.0.1"

    @property
    def router_address(self) -> str:
        """The end of the way from the node to the pods."""
        return str(self.pod_subnet[2])

    @property
    def pod_range(self) -> Mapping[str, str]:
        """The addresses that pods get."""
        return {"subnet": str(self.pod_subnet), "rangeStart": str(self.pod_subnet[3])}

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.ports['kube-apiserver']}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def certificates(self) -> Path:
        """The folder with the authority, the certificates and the keys."""
        return self.state / "certificates"

    def log(self, component: str) -> Path:
        """Where a component's output goes."""
        return self.state / "logs" / f"{component}.log"

    def with_process(self, component: str, pid: int) -> Instance:
        """The same instance with one more process written down."""
        return replace(self, processes={**self.processes, component: pid})

    def save(self) -> None:
        """Write `cluster.json`: whole, or not at all."""
        document = {
            "mode": self.mode,
            "slot": self.slot,
            "name": self.name,
            "server": self.server,
            "kubeconfig": str(self.kubeconfig),
            "registryPort": self.registry_port,
            "address": self.address,
            "podSubnet": str(self.pod_subnet),
            "serviceSubnet": str(self.service_subnet),
            "binaries": str(self.binaries),
            "snapshotter": self.snapshotter,
            "ports": dict(self.ports),
            "processes": dict(self.processes),
        }
        write_json(self.state / "cluster.json", document)


def write_json(path: Path, document: object) -> None:
    """Replace a JSON file in one step, so that a reader never sees half of it."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(json.dumps(document, indent=2) + "\n")
    temporary.replace(path)


def name_of(slot: int) -> str:
    """The name of the instance in a slot."""
    return f"niximage{slot}"


def read(state: Path) -> Instance | None:
    """The instance whose state is in this folder, or None."""
    try:
        document: dict[str, Any] = json.loads((state / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ClusterError(f"{state / 'cluster.json'} is damaged: {error}") from error
    return Instance(
        state=state,
        mode=cast("Mode", document["mode"]),
        slot=document["slot"],
        registry_port=document["registryPort"],
        binaries=Path(document["binaries"]),
        snapshotter=document["snapshotter"],
        processes=document["processes"],
    )


def allocate(state: Path, mode: Mode, binaries: Path) -> Instance:
    """Reserve a free slot and registry port and write `cluster.json`."""
    if len(str(state)) > _LONGEST_STATE_PATH:
        raise ClusterError(
            f"the path of the state folder is too long for the sockets in it, which may have 107 "
            f"characters: choose a shorter one with --state: {state}"
        )
    if state.exists() and any(state.iterdir()):
        raise ClusterError(f"{state} holds something else: choose another folder with --state")
    with locked("allocate"):
        taken = list(_reservations())
        slots = {reservation["slot"] for reservation in taken}
        registry_ports = {reservation["registryPort"] for reservation in taken}
        slot = next((slot for slot in _SLOTS if slot not in slots and _is_free(slot)), None)
        if slot is None:
            raise ClusterError("every slot for an instance is taken: `down` one of them")
        # without a node nobody pulls images
        port = _free_registry_port(registry_ports) if mode == "node" else None
        reservation = {"state": str(state), "slot": slot, "registryPort": port}
        write_json(_reservation_file(state), reservation)
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        instance = Instance(
            state=state, mode=mode, slot=slot, registry_port=port, binaries=binaries
        )
        instance.save()
    return instance


def reserved_slot(state: Path) -> int | None:
    """The slot of the instance in this folder, even if the folder is damaged or gone."""
    try:
        return int(json.loads(_reservation_file(state).read_text())["slot"])
    except FileNotFoundError:
        found = read(state)
        return found.slot if found else None


def release(state: Path) -> None:
    """Give the slot back."""
    _reservation_file(state).unlink(missing_ok=True)


def _reservation_file(state: Path) -> Path:
    folder = cache_folder() / "instances"
    folder.mkdir(exist_ok=True)
    return folder / f"{digest(str(state))}.json"


def _reservations() -> Iterator[dict[str, Any]]:
    """What is reserved; forgets what is left of folders deleted by hand after a reboot."""
    for file in (cache_folder() / "instances").glob("*.json"):
        reservation = json.loads(file.read_text())
        state = Path(reservation["state"])
        if state.exists() or marked(state):
            yield reservation
        else:
            file.unlink()


def _ports_of(slot: int) -> Mapping[str, int]:
    first = _FIRST_PORT + 16 * slot
    return {name: first + number for number, name in enumerate(_PORTS)}


def _is_free(slot: int) -> bool:
    name = name_of(slot)
    if Path(f"/sys/class/net/{name}").exists() or cgroups.exists(name):
        return False
    if not all(_is_port_free(port) for port in _ports_of(slot).values()):
        return False
    wanted = [ipaddress.IPv4Network(f"10.{net}.{slot}.0/24") for net in (88, 96)]
    return not any(route.overlaps(subnet) for route in _routes() for subnet in wanted)


def _free_registry_port(taken: Collection[int]) -> int:
    ports = range(_FIRST_REGISTRY_PORT, _FIRST_PORT)
    return next(port for port in ports if port not in taken and _is_port_free(port))


def _is_port_free(port: int) -> bool:
    with socket.socket() as probe:
        # without this, connections of an instance that has just ended count as taken
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _routes() -> list[ipaddress.IPv4Network]:
    """Every IPv4 network that this machine has a route to, the default route aside."""
    lines = Path("/proc/net/route").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    networks = [f"{_address(entry[1])}/{_address(entry[7])}" for entry in fields]
    return [network for network in map(ipaddress.IPv4Network, networks) if network.prefixlen]


def _address(field_of_route: str) -> ipaddress.IPv4Address:
    """An address as /proc/net/route has it: a hexadecimal number in the machine's byte order."""
    return ipaddress.IPv4Address(int(field_of_route, 16).to_bytes(4, sys.byteorder))
