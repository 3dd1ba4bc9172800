"""The documentation as a site: `docs/`, and the pages that are made from the code."""
