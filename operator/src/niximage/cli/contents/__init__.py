"""What is in an image: its closure as a tree, why a path is there, what an update changes.

- `commands`  the commands' names, options and help
- `locate`    which image is meant, and where it is read from
- `registry`  images read from a registry over HTTP
- `through_cluster`  the same by way of the API server
- `login`     what a registry asks for before it answers
- `names`     store paths as packages with versions
- `graph`     questions to a closure
- `tree`, `why`, `diff`, `export`   the commands
"""
