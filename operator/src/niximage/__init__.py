"""Run Nix packages on Kubernetes: a NixImage in, an image digest out.

Rooms, lowest first; each knows only those before it (import-linter holds this):

- `errors`      the one error tree, with the reasons that users see
- `api`         what users write and read: spec, status, conditions, the CRD
- `image`       store paths to an OCI image: layers, tar, compression, documents
- `source`, `nix`, `bucket`   git, the Nix programs, and object stores
- `builder`, `gateway`, `controller`   the build Job's steps, the registry, the operator
- `cli`         the commands
"""
