"""The commands.

- `app`       the commands' names, options and help
- `failure`   errors as text and exit codes
- `program`   what it is called, and how it begins
- `cluster`   the commands about NixImages in a cluster: `kubectl niximage`
- `contents`  the commands about what is in an image
- `groups`    options that several commands share
- `crds`, `build`, `plan`, `lock`   what the larger commands do
- `locked_file`  changes to files of users
- `wanted`    what to build, as options say it
- `progress`  what is seen of a build while it runs
- `report`    what came of it
"""

from niximage.cli.app import complete, main

__all__ = ["complete", "main"]
