"""The commands, a folder for each part of the program's help.

- `cluster/`    NixImages in a cluster: `kubectl niximage`
- `contents/`   what is in an image
- `local/`      images without a cluster
- `operation/`  what runs in a cluster, and what its admin runs

In each, `commands` has the names, options and help, quick to import; what they do is beside it.

- `app`, `program`   all of them as one program, and how it begins
- `options`, `groups`, `duration`   what several commands take
- `tables`, `failure`   how they answer: tables, errors, exit codes
"""

from niximage.cli.app import complete, main

__all__ = ["complete", "main"]
