"""The two steps of a build, and the result between them.

    build     runs what tenants wrote: fetch, evaluate, realise ─▶ BuildOutputs
    publish   trusted, has the bucket: closure, plan, pack what is missing, publish

- `settings`   what a step is told by its environment
- `build`, `publish`   the steps themselves
- `prepare`    closure, base, root and layers, before anything is packed
- `base`       the image below: fetched if it must be, listed, its blobs in the bucket
- `registry`   taking an image from a registry, with skopeo
- `layers`     which layers an image needs, and bringing them into the bucket
- `steps`      the steps as containers of a Job: settings in, termination message out
- `local`      both in one process, without a cluster
- `export`     an image as a file or folder that other programs load
- `progress`   what is said while it happens
"""
