"""A real Kubernetes on this machine, for the demo and the tests: `python3 cluster up`.

It is run before anything else is installed, so it needs nothing but Python: argparse and the
standard library, on purpose.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import binaries
import containers
import instance as instances
import lifecycle
from console import ClusterError, say
from instance import Instance

_DEFAULT_STATE = Path(__file__).resolve().parent.parent / ".cluster"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"error: {error}; is it the cluster of another user?", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `down` removes what is there", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the cluster, or find that it runs")
    _add_state(up)
    up.add_argument(
        "--mode",
        choices=["node", "control-plane"],
        default="node",
        help="`node` runs pods and needs root; `control-plane` only answers as the API does",
    )
    up.set_defaults(command=_up)

    down = commands.add_parser("down", help="remove the cluster and all its traces")
    _add_state(down)
    down.set_defaults(command=_down)

    status = commands.add_parser("status", help="show the components; exit code 1 if one is ill")
    _add_state(status)
    status.add_argument("--json", action="store_true", help="for programs: ports and paths too")
    status.set_defaults(command=_status)

    load = commands.add_parser("load", help="give the node images from OCI archives")
    _add_state(load)
    load.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    load.set_defaults(command=_load)

    tools = commands.add_parser("tools", help="build programs; prints the folder they are in")
    tools.add_argument(
        "names",
        nargs="*",
        metavar="PROGRAM",
        help=f"of {', '.join(binaries.PROGRAMS)}; all when none is named",
    )
    tools.set_defaults(command=_tools)
    return parser


def _add_state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        type=lambda path: Path(path).resolve(),
        default=_DEFAULT_STATE,
        metavar="DIR",
        help=f"the cluster's folder (default: {_DEFAULT_STATE})",
    )


def _up(options: argparse.Namespace) -> int:
    print(lifecycle.environment_of(lifecycle.up(options.state, options.mode)))
    return 0


def _down(options: argparse.Namespace) -> int:
    if not lifecycle.down(options.state):
        say(f"there is no cluster in {options.state}")
    return 0


def _status(options: argparse.Namespace) -> int:
    instance = instances.read(options.state)
    if instance is None:
        if options.json:
            print(json.dumps({"state": str(options.state), "healthy": False}, indent=2))
        else:
            say(f"there is no cluster in {options.state}")
        return 1
    statuses = lifecycle.status_of(instance)
    healthy = lifecycle.is_healthy(instance, statuses)
    if options.json:
        print(json.dumps(_document(instance, statuses, healthy=healthy), indent=2, default=str))
    else:
        _print_table(instance, statuses)
        print(f"\n{'healthy' if healthy else 'not healthy'}; {instance.mode} at {instance.server}")
        print(f"kubeconfig     {instance.kubeconfig}")
        if instance.registry_port:
            print(f"registry port  127.0.0.1:{instance.registry_port}")
    return 0 if healthy else 1


def _document(
    instance: Instance, statuses: Sequence[lifecycle.ComponentStatus], *, healthy: bool
) -> dict[str, object]:
    recorded: dict[str, object] = json.loads((instance.state / "cluster.json").read_text())
    return {
        "state": instance.state,
        "healthy": healthy,
        **recorded,
        "baseImage": containers.BASE_IMAGE,
        "components": [asdict(status) for status in statuses],
    }


def _print_table(instance: Instance, statuses: Sequence[lifecycle.ComponentStatus]) -> None:
    print(f"{'COMPONENT':<25}{'PROCESS':<10}{'STATE':<10}LOG")
    for status in statuses:
        state = ("healthy" if status.healthy else "ill") if status.running else "ended"
        log = status.log.relative_to(instance.state)
        print(f"{status.name:<25}{status.pid or '-':<10}{state:<10}{log}")


def _load(options: argparse.Namespace) -> int:
    for name in lifecycle.load(options.state, options.archives):
        print(name)
    return 0


def _tools(options: argparse.Namespace) -> int:
    if unknown := [name for name in options.names if name not in binaries.PROGRAMS]:
        raise ClusterError(f"unknown: {' '.join(unknown)}; there are {' '.join(binaries.PROGRAMS)}")
    print(binaries.binaries_folder(options.names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
