"""A read-only OCI registry over the bucket.

- `routes`     what a request's path asks for: pure
- `ranges`     what a Range header asks for: pure
- `problems`   errors as OCI distribution-spec writes them
- `backend`    blocking reads of the bucket, off the event loop, with a bounded memory
- `registry`   the handlers
- `app`        the application, and `serve`
- `access`     one line of JSON per request

The distribution-spec's read side is https://github.com/opencontainers/distribution-spec.
"""

from niximage.gateway.app import create_app, serve

__all__ = ["create_app", "serve"]
