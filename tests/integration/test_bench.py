"""The benchmarks, that they work: those that take no more than some seconds."""

import subprocess
import sys

import pytest

from support.documented import PROJECT


@pytest.mark.parametrize("name", ["gc", "narinfos", "packing", "planner", "publish"])
def test_a_benchmark_prints_its_table(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", name],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"## {name}\n" in done.stdout
