"""The operator.

    watch ──▶ cache ──▶ queue ──▶ reconcile(key) ──▶ decide(image, observed, now) ──▶ Decision
                                       ▲                                                │
                                       └──── what the actions saw ◀──── actions ◀───────┤
                                                                        status ◀────────┘

- `decision/`   the pure heart: what is the state, what to do next, what to say
- `builds/`     build Jobs: how they are made, what their pods say, whose turn it is
- `sources/`    revisions of sources, each asked for once an interval for all images
- `cluster/`    the API server, and what else talks to it

In reading order:

- `views`, `steps`   what the heart sees of the world, and what it can ask for
- `job_view`    a build Job as both sides know it
- `reconcile`, `looks`, `bucket_looks`   the thin executor around the heart
- `queue`, `cache`, `stored`   which image is next, what is known of all, and how one is kept
- `bases`       the NixImage that another is based on
- `events`      what changed from one status to the next, for people
- `health`, `metrics`   how the operator is
- `operator`    events into the queue, workers out of it, and the list that repairs the rest
- `settings`, `run`   how it is set up and started
"""
