"""`python -m niximage` is the program `niximage`."""

from niximage.cli import main

main()
