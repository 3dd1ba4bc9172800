"""YAML that somebody handed to the command line, read as the API server would, and bounded.

PyYAML's own loader takes minutes over a few lines that merge each other, and dies of nesting,
of long numbers and of dates that are none.
"""

import re
from typing import Any, Final

import yaml

FILE_LIMIT: Final = 1 << 20  # bytes of a file; etcd takes no larger object either
DEPTH_LIMIT: Final = 64
NODES_LIMIT: Final = 20_000
MERGED_LIMIT: Final = 1_000  # keys of one mapping

# As in JSON and Kubernetes: a date, and 1:30, are text, and so is what no 64 bits hold.
_INTEGER: Final = re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17}|0o?[0-7]{1,20}|0x[0-9a-fA-F]{1,15})$")
_FLOAT: Final = re.compile(r"^[-+]?([0-9]{1,32}\.[0-9]{0,32}|\.[0-9]{1,32})([eE][-+]?[0-9]{1,3})?$")
_OWN: Final = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"}


def load_yaml(text: str | bytes) -> Any:
    """The one document of a YAML text.

    Raises:
        ValueError: it is none, or out of bounds; the words say where.
    """
    if len(text) > FILE_LIMIT:
        raise ValueError(f"larger than {FILE_LIMIT} bytes")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader, and stricter)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        # Besides its own, PyYAML raises what Python does for a `!!int` or `!!bool` of words.
        raise ValueError(f"not YAML: {error}") from None


def load_documents(text: str) -> list[tuple[yaml.Node, Any]]:
    """All documents of a YAML text, each with its node, which tells where in the text it is.

    Raises:
        ValueError: it is no YAML, or out of bounds; the words say where.
    """
    if len(text) > FILE_LIMIT:
        raise ValueError(f"larger than {FILE_LIMIT} characters")
    found = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            found.append((node, loader.construct_document(node)))
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"not YAML: {error}") from None
    return found


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds, and without what YAML 1.1 alone has."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own class variable)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OWN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        self._nodes += 1
        if self._depth > DEPTH_LIMIT or self._nodes > NODES_LIMIT:
            what = f"nested deeper than {DEPTH_LIMIT}" if self._depth > DEPTH_LIMIT else "too long"
            raise yaml.MarkedYAMLError(problem=what, problem_mark=self.get_mark())
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MERGED_LIMIT:
            words = f"a mapping of more than {MERGED_LIMIT} keys"
            raise yaml.MarkedYAMLError(problem=words, problem_mark=node.start_mark)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                words = f"{key.value[:80]!r} is there twice"
                raise yaml.MarkedYAMLError(problem=words, problem_mark=key.start_mark)
            seen.add(key.value)
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
