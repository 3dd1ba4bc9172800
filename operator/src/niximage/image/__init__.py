"""Store paths to an OCI image: closure, layers, tar, compression, documents.

    closure ─▶ planner ─▶ keys ─▶ entries ─▶ tar ─▶ compress ─▶ pack ─▶ documents
    root ───────────────────────▶┘

- `closure`     path infos and the validated graph of them
- `planner`     which store paths share a layer
- `keys`        what a layer will be, known before it is packed
- `entries`     files, directories and links, and the walk that lists them
- `contents`    where the files of store paths come from
- `listing`     what lies in the store's directories; `names` the same of a layer, kept beside it
- `root`        the links that make `/bin/<program>` work; `forest` merges them
- `tar`         entries to the one tar that they have
- `compress`    bytes to frames that do not depend on threads
- `pack`        all of these in one pass, both digests included
- `documents`   config and manifest
- `base`        the image below: its documents, and configs merged; `base_users` its users
- `layer_reader`, `tree`   its layers read and verified, and its files
- `onto`        our root over its, without breaking either
- `descriptor`  how documents point at blobs

No I/O but reading what it packs and spooling what it packed.
"""
