"""Build Jobs.

- `job`, `pod`, `federation`   the manifest
- `turns`       whose build may start next
- `progress`, `outcome`   what its pod says, while it runs and at its end
- `advice`      what to do about a pod that does not start
- `build_log`   the log of a build that ended, kept in the bucket
"""
