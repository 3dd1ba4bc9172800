"""A source reference to a pinned revision, and a pinned revision to files.

- `git`       the git program, run so that nobody's configuration or repository can steer it
- `failures`  what git says, as the project's errors: pure
- `resolve`   a branch, tag, channel or commit to one revision, by `git ls-remote`
- `folder`    a folder on this machine, whose content is its revision
- `fetch`     a revision's files, without history where the server can
"""

from niximage.source.failures import shown_url
from niximage.source.fetch import fetch
from niximage.source.resolve import resolve

__all__ = ["fetch", "resolve", "shown_url"]
