"""The operator.

    watch ──▶ cache ──▶ queue ──▶ reconcile(key) ──▶ decide(image, observed, now) ──▶ Decision
                                       ▲                                                │
                                       └──── what the actions saw ◀──── actions ◀───────┤
                                                                        status ◀────────┘

In reading order:

- `decide`      the pure heart: what is the state, what to do next
- `conditions`  states to conditions
- `views`       what the heart sees of Jobs, pods and the bucket
- `job`         the manifest of a build Job
- `outcome`     what a finished pod says
- `reconcile`   the thin executor around `decide`
- `bases`       the NixImage that another is based on
- `resolver`    revisions of sources, each (url, ref) asked once for all images
- `queue`, `cache`   which image is next, and what is known of it
- `client`      the API server; the only module that imports the Kubernetes client
- `informer`    the watch; the only module that imports kopf
- `settings`, `run`   how it is set up and started
"""
