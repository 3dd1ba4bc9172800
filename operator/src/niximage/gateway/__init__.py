"""A read-only OCI registry over the bucket.

- `routes`            what a request's path asks for: pure
- `ranges`, `accept`  what the headers Range, If-None-Match and Accept ask for: pure
- `problems`          errors as OCI distribution-spec writes them
- `memo`              slow answers remembered, within a bound
- `backend`           reads of the bucket, off the event loop
- `registry`, `blobs` the handlers
- `send_file`         local files, sent on all processors
- `authority`         who may pull what: `htpasswd`, or `service_accounts` of Kubernetes
- `guard`, `tokens`   docker's token protocol in front of it
- `protocol`          connections that send again what equal requests got
- `facts`, `metrics`, `access` what is counted, and one line of JSON per request
- `app`               which handler a request goes to
- `tls`, `service`    listening, and stopping

The distribution-spec's read side is https://github.com/opencontainers/distribution-spec.
"""

from niximage.gateway.access import AccessLog
from niximage.gateway.authority import Authority
from niximage.gateway.backend import Limits
from niximage.gateway.htpasswd import HtpasswdAuthority
from niximage.gateway.service import Options, serve
from niximage.gateway.service_accounts import Reviewer, ServiceAccountAuthority

__all__ = [
    "AccessLog",
    "Authority",
    "HtpasswdAuthority",
    "Limits",
    "Options",
    "Reviewer",
    "ServiceAccountAuthority",
    "serve",
]
