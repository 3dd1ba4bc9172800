"""The Nix programs: evaluate, realise, and ask what the store knows.

- `programs`    running one: its environment, time, output, end
- `evaluate`    package names to derivations and store paths, or all that is wrong with them
- `problems`    what is wrong with packages, in one error for people
- `realise`     derivations to outputs in the store, with the log of what fails
- `activity`    nix's own account of a build, read line by line
- `path_info`   the closure of store paths

    roots ──▶ substituters ──narinfo──▶ closure          a path's NAR ──▶ download ──▶ nar

- `substituters`   binary caches in their order: what they have of paths and their closures
- `narinfo`, `signature`, `hashes`   what they say, and whether to believe it
- `binary_cache`, `closure_walk`   one of them; a closure by its references
- `transport`      their files: `http_cache` over HTTP, `folder_cache` from a folder
- `download`       a NAR on its way; `background` the event loop that fetches it
- `nar_contents`   the files of store paths, whose NARs are fetched some ahead
- `nar_file`       a file of a binary cache to file entries, both its hashes verified
- `decompress`, `nar`   the steps of that: what was compressed, and the tree in it
"""
