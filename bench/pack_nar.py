"""`python -m bench.pack_nar FILE NARINFO FOLDER`: pack a NAR, say what came of it.

A program of its own, as `bench.pack_tree` is, and for the same reasons.
"""

import sys
from pathlib import Path

from bench.pack_tree import report
from niximage.image.pack import pack
from niximage.nix.decompress import PIECE
from niximage.nix.nar_file import nar_file_entries
from niximage.nix.narinfo import parse_narinfo


def main() -> None:
    """Pack a NAR."""
    name, told, folder = sys.argv[1:]
    text = Path(told).read_bytes()
    nar = parse_narinfo(text, text.split(b"/nix/store/")[1][:32].decode())
    with Path(name).open("rb", buffering=0) as file:
        layer = pack(nar_file_entries(iter(lambda: file.read(PIECE), b""), nar), Path(folder))
    report(layer)


if __name__ == "__main__":
    main()
