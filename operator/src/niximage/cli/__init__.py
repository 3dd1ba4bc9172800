"""The commands.

- `app`       the commands' names, options and help
- `failure`   errors as text and exit codes
- `crds`, `build`   what the larger commands do
"""

from niximage.cli.app import main

__all__ = ["main"]
