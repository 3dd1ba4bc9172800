"""The bucket: where images live, in the layout of CNCF Distribution.

- `store`      the protocol that every object store implements, and how a URL opens one
- `file`, `gcs`   the two implementations
- `keys`       the names of objects: Distribution's, and our own below `niximage/v1/`
- `records`    our own records: the layer index and builds
- `contents`   which store paths lie in which layer of an image
- `evaluations`   what packages were evaluated to before
- `manifest`   what a manifest's bytes say
- `hold`       using again what is there, beside a garbage collection
- `tags`       tags move last, and only forward
- `referrers`  what tells something about an image: one index under the fallback tag
- `artifacts`  attaching files to an image
- `publish`    the commit order that no reader can see half of
- `images`     reading images back
- `layout`, `sweep`, `collect`   garbage collection: what keys say, what to delete, doing it
- `leases`     running builds tell garbage collection that they are there
- `remove`     removing a repository
- `known`      images built before, under any name
- `threads`    many small requests at once
"""

from niximage.bucket.store import ObjectStat, ObjectStore, open_store

__all__ = ["ObjectStat", "ObjectStore", "open_store"]
