"""Many small requests at once: a bucket is slow to answer and quick to serve."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

WORKERS: Final = 16

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """The function of every item, in the items' order.

    Raises:
        Exception: the first that a call raised, in the items' order; calls that have not
            begun by then are left out, those that have are waited for.
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="bucket") as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
