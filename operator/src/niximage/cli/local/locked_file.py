"""Files with NixImages, changed in a few places and nowhere else. Pure.

A file is a user's: its comments, order and quotes stay. So nothing is written anew; the places
of the few values that change are found in the text, and only those are replaced.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import yaml

from niximage.api.base import GROUP
from niximage.api.image import KIND, NixImage, read_image
from niximage.api.yaml_file import load_documents
from niximage.errors import Reason, Terminal, plain_text

MOVING: Final = ("channel", "branch", "tag", "name")
_REMEMBERED: Final = re.compile(r"#\s*(channel|branch|tag|name): ([A-Za-z0-9_][A-Za-z0-9_./+@-]*)")


@dataclass(frozen=True, slots=True)
class Moving:
    """What a source follows.

    Attributes:
        kind: channel, branch, tag or name.
        name: of it.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class ImageInFile:
    """A NixImage in a file.

    Attributes:
        image: what it says.
        node: where in the text it says so.
        follows: what its source follows, or followed before it was locked.
        is_locked: whether the source is a commit already.
    """

    image: NixImage
    node: yaml.MappingNode
    follows: Moving | None
    is_locked: bool

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return f"{self.image.metadata.namespace}/{self.image.metadata.name}"


@dataclass(frozen=True, slots=True)
class Lock:
    """What a NixImage is to be locked to; None leaves a value as it is.

    Attributes:
        revision: the commit.
        nar_hash: what the files of nixpkgs hash to.
        digest: which image comes out.
    """

    revision: str | None = None
    nar_hash: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    text: str


def images_in(text: str, where: str) -> list[ImageInFile]:
    """The NixImages of a file, also those in lists; other objects are not looked at.

    Args:
        text: YAML of any number of documents.
        where: the file's name, for messages.

    Raises:
        Terminal: it is no YAML, or a NixImage is not valid.
    """
    try:
        documents = load_documents(text)
    except ValueError as error:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{where} is {plain_text(str(error), 500)}",
            hint="Templates must be rendered before they can be locked",
        ) from None
    found: list[ImageInFile] = []
    for node, document in documents:
        for inner, each in _objects(node, document):
            if _is_image(each):
                image = read_image(each, where)
                found.append(_in_file(text, inner, image))
    return found


def lock_text(text: str, image: ImageInFile, lock: Lock) -> str:
    """The text with one NixImage locked.

    Raises:
        Terminal: the file writes the source in a way that cannot be edited.
    """
    edits = []
    spec = _child(image.node, "spec")
    assert isinstance(spec, yaml.MappingNode)
    if lock.revision is not None or lock.nar_hash is not None:
        edits += _source_edits(text, spec, image, lock)
    if lock.digest is not None:
        edits += _digest_edits(text, spec, lock.digest)
    return _applied(text, edits)


def _objects(node: yaml.Node, document: Any) -> Iterable[tuple[yaml.MappingNode, Any]]:
    if not isinstance(node, yaml.MappingNode) or not isinstance(document, dict):
        return
    items, inner = document.get("items"), _child(node, "items")
    if isinstance(items, list) and isinstance(inner, yaml.SequenceNode):
        for below, each in zip(inner.value, items, strict=True):
            if isinstance(below, yaml.MappingNode):
                yield below, each
    else:
        yield node, document


def _is_image(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    group = str(document.get("apiVersion")).partition("/")[0]
    return group == GROUP and document.get("kind") == KIND


def _in_file(text: str, node: yaml.MappingNode, image: NixImage) -> ImageInFile:
    source = image.spec.source
    if source.nixpkgs is not None:
        given: Any = source.nixpkgs
        where: tuple[str, ...] = ("nixpkgs", "revision")
    elif source.git is not None:
        given = source.git.ref
        where = ("git", "ref", "commit")
    else:
        return ImageInFile(image, node, None, is_locked=True)
    for kind in MOVING:
        if (name := getattr(given, kind, None)) is not None:
            return ImageInFile(image, node, Moving(kind, name), is_locked=False)
    commit = _find(node, ("spec", "source", *where))
    follows = None
    if commit is not None and (found := _REMEMBERED.search(_rest_of_line(text, commit))):
        follows = Moving(found[1], found[2])
    return ImageInFile(image, node, follows, is_locked=True)


def _source_edits(text: str, spec: yaml.MappingNode, image: ImageInFile, lock: Lock) -> list[_Edit]:
    is_nixpkgs = image.image.spec.source.nixpkgs is not None
    holder = _find(spec, ("source", "nixpkgs") if is_nixpkgs else ("source", "git", "ref"))
    follows = image.follows
    word = "revision" if is_nixpkgs else "commit"
    old = word if image.is_locked or follows is None else follows.kind
    if not isinstance(holder, yaml.MappingNode):
        raise _odd(image)
    pair = next((pair for pair in holder.value if pair[0].value == old), None)
    if pair is None:
        raise _odd(image)
    key, value = pair
    edits = []
    comment = added = ""
    if lock.revision is not None:
        start, end = key.start_mark.index, value.end_mark.index
        edits.append(_Edit(start, end, f"{word}: {lock.revision}"))
        if follows is not None and _REMEMBERED.search(_rest_of_line(text, value)) is None:
            comment = f"  # {follows.kind}: {follows.name}"
    if lock.nar_hash is not None:
        known = _child(holder, "narHash")
        if known is None:
            added = f"narHash: {lock.nar_hash}"
        else:
            edits.append(_Edit(known.start_mark.index, known.end_mark.index, lock.nar_hash))
    at = value.end_mark.index
    end_of_line = _end_of_line(text, at)
    if holder.flow_style:
        more = [(at, f", {added}" if added else ""), (end_of_line, comment)]
    else:
        line = f"\n{' ' * key.start_mark.column}{added}"
        more = [(at, comment), (end_of_line, line if added else "")]
    return edits + [_Edit(place, place, words) for place, words in more if words]


def _digest_edits(text: str, spec: yaml.MappingNode, digest: str) -> list[_Edit]:
    known = _find(spec, ("output", "expectedDigest"))
    if known is not None:
        return [_Edit(known.start_mark.index, known.end_mark.index, digest)]
    output = _child(spec, "output")
    if isinstance(output, yaml.MappingNode):
        return [_added(text, output, f"expectedDigest: {digest}")]
    if output is not None:  # `output:` with nothing in it
        start, end = output.start_mark.index, output.end_mark.index
        return [_Edit(start, end, f" {{expectedDigest: {digest}}}")]
    if spec.flow_style:
        return [_added(text, spec, f"output: {{expectedDigest: {digest}}}")]
    indent = " " * spec.value[0][0].start_mark.column
    return [_added(text, spec, f"output:\n{indent}  expectedDigest: {digest}")]


def _added(text: str, mapping: yaml.MappingNode, entry: str) -> _Edit:
    """The edit that adds an entry at a mapping's end."""
    if mapping.flow_style:
        at = mapping.end_mark.index - 1
        return _Edit(at, at, f", {entry}" if mapping.value else entry)
    # A block ends where the next one begins: blank lines and comments between are not its own.
    at = len(_without_trailer(text[: mapping.end_mark.index]))
    column = mapping.value[0][0].start_mark.column
    return _Edit(at, at, f"\n{' ' * column}{entry}")


def _without_trailer(text: str) -> str:
    lines = text.rstrip().split("\n")
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith(("#", "---", "..."))):
        lines.pop()
    return "\n".join(lines).rstrip("\r")


def _applied(text: str, edits: list[_Edit]) -> str:
    in_order = sorted(edits, key=lambda edit: (edit.start, edit.end))
    # From the end on, so that places stay; of two at one place the first comes first.
    for edit in in_order[::-1]:
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def _find(node: yaml.Node | None, path: tuple[str, ...]) -> yaml.Node | None:
    for name in path:
        node = _child(node, name)
    return node


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    return end - 1 if text[end - 1 : end] == "\r" and end > at else end


def _rest_of_line(text: str, node: yaml.Node) -> str:
    at = node.end_mark.index
    return text[at : _end_of_line(text, at)]


def _odd(image: ImageInFile) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC,
        f"the source of {image.name} is written in a way that cannot be edited",
        hint="Write it out where it is, without a merge",
    )
