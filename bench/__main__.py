"""`python -m bench [--quick] [name ...]`: run benchmarks, print tables, keep the figures.

A benchmark is a module of this folder with `run(*, quick)` and `table(results)`. Its results
are merged into `results.json` under its name, from which the tables of `results.md` are made;
those of a quick run are only printed.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bench import goals

NAMES = (
    "gateway",
    "gc",
    "nar",
    "narinfos",
    "packing",
    "planner",
    "publish",
    "scale",
    "substitution",
)
RESULTS: Final = Path(__file__).with_name("results.json")
TABLES: Final = Path(__file__).with_name("results.md")


def main() -> None:
    """Run the benchmarks that the command line names, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that they work")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    found: dict[str, Any] = {}
    for name in arguments.names or NAMES:
        print(f"==> {name}", file=sys.stderr)
        found[name] = _benchmark(name).run(quick=arguments.quick)
    if not arguments.quick:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found = {**known, **found}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        TABLES.write_text(tables(found))
    print(tables(found, promised=not arguments.quick), end="")


def tables(found: Mapping[str, Any], *, promised: bool = True) -> str:
    """The results, and what is promised of them unless they are a quick run's, as Markdown."""
    parts = ["# Results", "Made by `make bench`; see README.md."]
    if promised:
        parts.append(f"## goals\n\n{goals.table(found)}")
    parts += [
        f"## {name}\n\n{_benchmark(name).table(found[name])}" for name in NAMES if name in found
    ]
    return "\n\n".join(parts) + "\n"


def _benchmark(name: str) -> ModuleType:
    return importlib.import_module(f"bench.{name}")


if __name__ == "__main__":
    main()
