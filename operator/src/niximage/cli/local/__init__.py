"""Images without a cluster: built on this machine, and their files.

- `commands`  the commands' names, options and help
- `options`   what several of them take
- `wanted`    what to build, as options say it
- `build`, `plan`, `tag`, `lock`, `attach`   the commands
- `locked_file`  changes to files of users
- `progress`  what is seen of a build while it runs
- `report`    what came of it
"""
