"""niximage on a cluster of its own, in one command: `python3 demo run`.

It makes the cluster, the images, a Git server and a bucket, installs the operator, builds two
NixImages and runs them. With KUBECONFIG set it does so on that cluster.

It is run before anything else is installed, so it needs nothing but Python's standard library;
messages are `cluster/`'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# before what imports it, here and in the other modules
sys.path.append(str(Path(__file__).resolve().parent.parent / "cluster"))

import install
import story
import target
from clock import Clock
from console import ClusterError, say

HINT = """\
With KUBECONFIG set, that cluster is used. Its nodes must be able to pull the images: set
IMAGE_REPOSITORY=registry.example/team, and they are pushed there with skopeo (log in first).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    clock = Clock()
    try:
        place = target.choose(options.state)
        match options.command:
            case "down":
                place.remove(lambda: install.remove(place))
            case "install" | "up":
                install.everything(place, clock)
                say(f"export KUBECONFIG={place.kubeconfig}")
            case "run":
                install.everything(place, clock)
                story.tell(place, clock)
                clock.print_table()
                say(f"\nLook around:  export KUBECONFIG={place.kubeconfig}")
                say(f'              export PATH="{place.programs}:$PATH"')
                say(f"              kubectl describe niximage hello -n {install.EXAMPLES}")
                say("Remove it:    make demo-down")
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; `python3 demo down` removes what is there")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="demo",
        description=(__doc__ or "").splitlines()[0],
        epilog=HINT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, aliases, text in (
        ("run", [], "set everything up, then build and run the examples"),
        ("install", ["up"], "set everything up: cluster, images, services, operator"),
        ("down", [], "remove what the others made"),
    ):
        command = commands.add_parser(name, aliases=aliases, help=text)
        command.add_argument(
            "--state",
            type=lambda path: Path(path).resolve(),
            metavar="DIR",
            help=f"the cluster's folder (default: {target.DEFAULT_STATE})",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
