"""The Nix programs: evaluate, realise, and ask what the store knows.

- `programs`    running one: its environment, time, output, end
- `evaluate`    package names to derivations and store paths, or all that is wrong with them
- `problems`    what is wrong with packages, in one error for people
- `realise`     derivations to outputs in the store, with the log of what fails
- `activity`    nix's own account of a build, read line by line
- `path_info`   the closure of store paths
"""
