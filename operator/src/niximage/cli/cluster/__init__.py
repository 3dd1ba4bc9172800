"""NixImages in a cluster: what `kubectl niximage` is for.

- `commands`  the commands' names, options and help
- `connect`   the API server, and its refusals in words for users
- `facts`     what is read of a NixImage, once for all tables
- `tables`    facts as tables
- `reading`   list, status, history
- `actions`   suspend, resume, reconcile, retry, cancel
- `waiting`   whether what was asked for has come about
- `logs`      a build's log
"""
