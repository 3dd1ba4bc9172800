"""Minutes of everything that may go wrong, all at once.

Clients edit, builds end in every way, two operators are killed and cut off, the API server
refuses, Git server and bucket go away. Then the world is whole again, and every image must come
to its right state.

    make soak DURATION=30m SEED=7

Whatever goes wrong meanwhile, some things always hold; they are watched all the time: no status
lies, no two Jobs build one input, caps are kept, and never do two operators act at once.
"""

import argparse
import asyncio
import logging
import random
from pathlib import Path

from integration.controller.soak.run import soak

log = logging.getLogger("soak")


def main() -> None:
    """Run it on a control plane of its own."""
    from bench.fleet import control_plane

    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--duration", default="30m", help="90s, 30m or 2h")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--folder", type=Path, required=True, help="an empty one, for the logs")
    given = parser.parse_args()
    seconds = float(given.duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[given.duration[-1]]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    log.info("soaking for %.0f s with the seed %d", seconds, given.seed)
    with control_plane() as kubeconfig:
        seen = asyncio.run(soak(kubeconfig, given.folder, seconds=seconds, seed=given.seed))
    log.info("all came to its right state: %s", seen)


if __name__ == "__main__":
    main()
