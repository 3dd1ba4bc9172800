"""`python -m bench [--quick] [name ...]`: run benchmarks, print tables, keep the figures.

A benchmark is a module of this folder with `run(*, quick)` and `table(results)`. Its results
are merged into `results.json` under its name; those of a quick run are only printed.
"""

import argparse
import importlib
import json
from pathlib import Path

NAMES = ("packing", "planner")
RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Run the benchmarks that the command line names, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that they work")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    for name in arguments.names or NAMES:
        benchmark = importlib.import_module(f"bench.{name}")
        results = benchmark.run(quick=arguments.quick)
        print(f"## {name}\n\n{benchmark.table(results)}\n")
        if not arguments.quick:
            known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            RESULTS.write_text(
                json.dumps({**known, name: results}, indent=1, sort_keys=True) + "\n"
            )


if __name__ == "__main__":
    main()
