"""The operator.

    watch ──▶ cache ──▶ queue ──▶ reconcile(key) ──▶ decide(image, observed, now) ──▶ Decision
                                       ▲                                                │
                                       └──── what the actions saw ◀──── actions ◀───────┤
                                                                        status ◀────────┘

In reading order:

- `decide`      the pure heart: what is the state, what to do next
- `build`, `publication`   the same once the inputs are known, and once their image is there
- `case`        what it takes and gives
- `answers`, `failures`, `history`   the status that follows
- `conditions`, `words`   states to conditions and sentences
- `removal`     the end of a NixImage, and of its repository
- `views`, `job_view`   what the heart sees of Jobs, pods and the bucket
- `steps`       what it can ask for
- `reconcile`, `looks`   the thin executor around `decide`
- `classes`     the NixBuildClass of an image: what it allows, what it gives
- `job`, `pod`  the manifest of a build Job
- `progress`, `outcome`   what its pod says, while it runs and at its end
- `advice`      what to do about a pod that does not start
- `config_map`  the ConfigMap that names an image
- `build_log`   the log of a build that ended, kept in the bucket
- `turns`       whose build may start next
- `events`, `announcer`   what changed from one status to the next, for people
- `bases`       the NixImage that another is based on
- `due`, `resolver`   revisions of sources, each (url, ref) asked once an interval for all images
- `queue`, `cache`, `stored`   which image is next, what is known of all, and how one is kept
- `client`      the API server; the only module that imports the Kubernetes client
- `informer`    the watch; the only module that imports kopf
- `flux_watch`  the watch of Flux's kinds, which may come and go
- `lease`, `rights`, `health`, `metrics`   one process among others: may it act, and how is it
- `settings`, `run`   how it is set up and started
"""
