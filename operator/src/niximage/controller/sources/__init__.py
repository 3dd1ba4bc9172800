"""Revisions of sources.

- `due`         when a moving source is asked for its revision again
- `resolver`    each (url, ref) asked once for all images that follow it
- `origins`     who is asked: Git servers, and the cluster for what opens them
- `flux_watch`  the watch of Flux's kinds, which may come and go
"""
