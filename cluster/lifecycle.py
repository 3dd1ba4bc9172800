"""From nothing to a running cluster, and back to nothing."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import binaries
import certificates
import cgroups
import components
import containers
import instance as instances
import network
import packages
import policies
import processes
import readiness
import requirements
from cache import digest, locked
from components import Component
from console import ClusterError, step
from instance import Instance, Mode

# a busy machine can make a healthy component miss a question; only then is patience right
_PATIENCE_SECONDS = 20
_LOG_LINKS = Path("/var/log/containers")  # fixed in kubelet


@dataclass(frozen=True)
class ComponentStatus:
    """What `status` knows about one component."""

    name: str
    pid: int | None
    running: bool
    healthy: bool
    log: Path


def up(state: Path, mode: Mode) -> Instance:
    """Bring the cluster up, unless it is; what a crash left behind is removed first."""
    with _only_one_command(state):
        running = instances.read(state)
        if running and _stays_healthy(running):
            if mode == "node" and running.mode != "node":
                raise ClusterError(
                    f"a cluster without a node runs in {state}: `down` it, or give another --state"
                )
            return running
        if running or instances.reserved_slot(state) is not None:
            with step("removing what is left of a cluster that did not end well"):
                _remove_everything(state)
        return _start(state, mode)


def down(state: Path) -> bool:
    """Remove the cluster and all its traces; False when there was none."""
    with _only_one_command(state):
        if instances.reserved_slot(state) is None and not processes.marked(state):
            if state.exists() and any(state.iterdir()):
                raise ClusterError(f"{state} holds no cluster; it is left alone")
            return False
        with step(f"removing the cluster in {state}"):
            _remove_everything(state)
        return True


def load(state: Path, archives: Sequence[Path]) -> list[str]:
    """Import OCI archives into the node's containerd; returns the names that pods can use."""
    with _only_one_command(state):
        running = instances.read(state)
        if running is None or running.mode != "node":
            raise ClusterError(f"no node runs in {state}: start one with `up`")
        return containers.load(running, archives)


def status_of(instance: Instance) -> list[ComponentStatus]:
    """Ask every component once."""
    return [
        ComponentStatus(
            name=component.name,
            pid=instance.processes.get(component.name),
            running=readiness.is_component_running(instance, component),
            healthy=readiness.is_healthy(instance, component),
            log=instance.log(component.name),
        )
        for component in components.all_of(instance)
    ]


def is_healthy(instance: Instance, statuses: Sequence[ComponentStatus]) -> bool:
    """Whether every component is well, and with a node, the node too."""
    well = all(status.running and status.healthy for status in statuses)
    return well and (instance.mode == "control-plane" or readiness.is_node_ready(instance))


@contextmanager
def _only_one_command(state: Path) -> Iterator[None]:
    with locked(f"state-{digest(str(state))}"):
        yield


def _stays_healthy(instance: Instance) -> bool:
    """Whether the cluster is well, or becomes so while all of its processes live."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        statuses = status_of(instance)
        if is_healthy(instance, statuses):
            return True
        if not all(status.running for status in statuses) or time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def _start(state: Path, mode: Mode) -> Instance:
    wanted = packages.NODE if mode == "node" else packages.CONTROL_PLANE
    requirements.check(wanted, binaries.COMPONENTS, pods=mode == "node")
    packages.install(wanted)
    programs = binaries.binaries_folder(binaries.COMPONENTS)
    archive = containers.base_image_archive() if mode == "node" else None
    instance = instances.allocate(state, mode, programs)
    with step(f"starting a Kubernetes {binaries.KUBERNETES} {mode} in {state}"):
        certificates.create(instance)
        if archive:
            instance = _prepare_node(instance)
        etcd, apiserver, controller_manager = components.control_plane(instance)
        instance = _run(instance, etcd)
        if archive:
            containerd, *rest = components.node(instance)
            instance = _run(instance, containerd)
        readiness.wait_for_components(instance, [etcd])
        instance = _run(instance, apiserver)
        if archive:
            readiness.wait_for_components(instance, [containerd])
            containers.import_archive(instance, archive)
        readiness.wait_for_components(instance, [apiserver])
        if archive:
            policies.install(instance)
        for component in [controller_manager, *(rest if archive else [])]:
            instance = _run(instance, component)
        readiness.wait_for_components(instance, components.all_of(instance))
        readiness.wait_for_pods_to_be_welcome(instance)
    return instance


def _prepare_node(instance: Instance) -> Instance:
    instance = replace(instance, snapshotter=containers.best_snapshotter(instance.state))
    instance.save()
    cgroups.create(instance.name)
    network.create(instance)
    containers.write_configuration(instance)
    components.write_kubelet_configuration(instance)
    return instance


def _run(instance: Instance, component: Component) -> Instance:
    """Start a component and write its process down at once."""
    pid = processes.start(
        [component.program, *component.flags],
        state=instance.state,
        log=instance.log(component.name),
        environment=component.environment,
        uses_proxy=component.uses_proxy,
    )
    instance = instance.with_process(component.name, pid)
    instance.save()
    return instance


def _remove_everything(state: Path) -> None:
    """Remove an instance in whatever condition it is; can be repeated after an interruption.

    Nothing is asked to end by itself: all that it would put in order goes anyway. The order
    matters. First those who start others, then the pods, then what was busy because of them;
    the folder and the reservation, which tell what there is to remove, come last.
    """
    slot = instances.reserved_slot(state)
    shim_sockets = containers.shim_sockets(state)
    processes.kill_until_none(lambda: processes.marked(state), what="components")
    if slot is not None and os.geteuid() == 0:  # nobody else can have made a node
        name = instances.name_of(slot)
        cgroups.kill_processes(name)
        containers.unmount_all(state)
        cgroups.remove(name)
        network.remove(slot)
        _remove_log_links(state)
        for socket in shim_sockets:
            socket.unlink(missing_ok=True)
    if state.exists():
        for entry in sorted(state.iterdir(), key=lambda path: path.name == "cluster.json"):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        state.rmdir()
    instances.release(state)


def _remove_log_links(state: Path) -> None:
    """Kubelet links every log into one folder of the machine, and nobody removes the links."""
    for link in _LOG_LINKS.glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(f"{state}/"):
            link.unlink(missing_ok=True)


def environment_of(instance: Instance) -> str:
    """What a shell runs so that kubectl is there, and speaks to the cluster."""
    return (
        f"export KUBECONFIG={shlex.quote(str(instance.kubeconfig))}\n"
        f'export PATH={shlex.quote(str(instance.binaries))}:"$PATH"'
    )
