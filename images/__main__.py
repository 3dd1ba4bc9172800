"""The project's container images, made from Debian packages and wheels: `python3 images build`.

It is run before anything else is installed, so it needs nothing but Python's standard library;
messages, locks and Debian packages are `cluster/`'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# before what imports it, here and in the other modules
sys.path.append(str(Path(__file__).resolve().parent.parent / "cluster"))

import push
import recipes
from console import ClusterError, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="images", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    build = commands.add_parser(
        "build", help="make what is missing; prints each image's name and its OCI archive"
    )
    build.add_argument(
        "names",
        nargs="*",
        metavar="IMAGE",
        help=f"of {' and '.join(recipes.IMAGES)}; all when none is named",
    )
    send = commands.add_parser(
        "push", help="make the operator's image and push it; prints its name in the registry"
    )
    send.add_argument("target", metavar="HOST/NAME[:TAG]", help="where nodes pull it")
    send.add_argument(
        "names", nargs="?", default="operator", metavar="IMAGE", help="another image than operator"
    )
    options = parser.parse_args(arguments)
    names = [options.names] if isinstance(options.names, str) else options.names
    unknown = [name for name in names if name not in recipes.IMAGES]
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}; there are {' and '.join(recipes.IMAGES)}")
    try:
        if options.command == "push":
            print(push.push(recipes.IMAGES[options.names](), options.target), flush=True)
            return 0
        for name in options.names or recipes.IMAGES:
            image = recipes.IMAGES[name]()
            print(f"{image.reference} {image.archive}", flush=True)
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; what is complete is kept")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
