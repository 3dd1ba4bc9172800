"""What runs in a cluster, and what its admin runs.

- `commands`  the commands' names, options and help
- `serve`, `gc`, `crds`   the larger commands
- `logs`      the log lines of what runs for long
"""
