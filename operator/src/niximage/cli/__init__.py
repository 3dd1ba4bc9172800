"""The commands.

- `app`       the commands' names, options and help
- `failure`   errors as text and exit codes
- `crds`, `build`, `plan`   what the larger commands do
- `wanted`    what to build, as options say it
- `progress`  what is seen of a build while it runs
- `report`    what came of it
"""

from niximage.cli.app import main

__all__ = ["main"]
