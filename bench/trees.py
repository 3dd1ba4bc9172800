"""Trees to pack, copied from what the machine has: real programs, libraries and texts."""

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCES: Final = ("/usr/lib", "/usr/share", "/usr/local", sys.base_prefix, "/opt")
SMALL: Final = range(64 << 10)  # bytes of a small file
LARGE: Final = range(4 << 20, 1 << 30)


@dataclass(frozen=True)
class Tree:
    """A folder of regular files.

    Attributes:
        path: where it is.
        files: how many.
        size: bytes of all.
    """

    path: Path
    files: int
    size: int


def copy_tree(folder: Path, sizes: range, limit: int) -> Tree:
    """Copy files of these sizes into a new folder, until they have so many bytes together.

    Raises:
        SystemExit: the machine has less than half of that.
    """
    count = total = 0
    for source, size in _files(sizes):
        target = folder / source.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        count += 1
        total += size
        if total >= limit:
            break
    if total < limit / 2:
        raise SystemExit(f"only {total} bytes of files of {sizes} in {', '.join(SOURCES)}")
    return Tree(folder, count, total)


def linked_tree(folder: Path, trees: list[Tree], limit: int) -> Tree:
    """A tree of hard links to the files of others, again and again until it has these bytes."""
    count = total = 0
    while total < limit:
        for tree in trees:
            copy = folder / str(count)
            shutil.copytree(tree.path, copy, copy_function=os.link)
            count += tree.files
            total += tree.size
    return Tree(folder, count, total)


def packages(tree: Tree, folder: Path, count: int) -> list[Tree]:
    """The files of a tree in so many folders, whose sizes are as uneven as packages'.

    Folders get files of the tree in its order: of n bytes in all, the first gets about
    1/(ln count) as much, the second half of that, the third a third, and so on.
    """
    shares = [1 / (i + 1) for i in range(count)]
    made: list[Tree] = []
    files = iter(sorted(path for path in tree.path.rglob("*") if path.is_file()))
    for i, share in enumerate(shares):
        wanted = tree.size * share / sum(shares)
        number = size = 0
        # No numbers: the planner takes them for versions.
        home = folder / "".join(chr(ord("a") + int(digit)) for digit in f"{i:04}")
        home.mkdir(parents=True)
        while size < wanted and (path := next(files, None)) is not None:
            target = home / path.relative_to(tree.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
            number += 1
            size += path.stat().st_size
        made.append(Tree(home, number, size))
    return made


def _files(sizes: range) -> Iterator[tuple[str, int]]:
    """Regular files of these sizes, each once, in the same order each time."""
    seen: set[tuple[int, int]] = set()
    for source in SOURCES:
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)  # noqa: PTH118 (half a million of them)
                try:
                    found = os.lstat(path)
                except OSError:
                    continue
                identity = found.st_dev, found.st_ino
                if (
                    stat.S_ISREG(found.st_mode)
                    and found.st_size in sizes
                    and identity not in seen
                    and os.access(path, os.R_OK)
                ):
                    seen.add(identity)
                    yield path, found.st_size
