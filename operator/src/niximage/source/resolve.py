"""A source reference to one revision, by `git ls-remote`: no clone, no working tree."""

import difflib
import functools
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from niximage.api.build import PinnedSource
from niximage.api.source import GitRef, Source
from niximage.errors import Reason, Retryable, Terminal
from niximage.source.credentials import Credentials
from niximage.source.failures import shown_url
from niximage.source.git import Deadline, must_git

NEAR_REFS: Final = 3  # names that a message proposes

_LINE = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\t(\S+)")
_PEELED: Final = "^{}"  # how git names the commit behind an annotated tag


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look up.

    Attributes:
        url: the repository; "" for what an object of Flux names, or a volume.
        ref: the full name of the ref, the object of Flux, the volume's claim, or "" for a commit.
        commit: the commit, what the spec calls a volume's content, or "" where it moves.
        path: the file or folder to import.
        attr: the attribute that holds the packages.
        nar_hash: what the files must hash to, if that is known.
        kind: what it is pinned as.
    """

    url: str
    ref: str
    commit: str
    path: str = "."
    attr: str | None = None
    nar_hash: str | None = None
    kind: Literal["git", "artifact", "volume"] = "git"

    def pinned(
        self, revision: str, *, digest: str | None = None, url: str = "", origin: str = ""
    ) -> PinnedSource:
        """The source at one revision; of Flux also by its artifact's digest, URL and origin."""
        return PinnedSource(
            kind=self.kind,
            url=url or self.url,
            ref=self.ref,
            revision=revision,
            digest=digest,
            origin=origin,
            path=self.path,
            attr=self.attr,
            nar_hash=self.nar_hash,
        )


def wanted(source: Source, nixpkgs_url: str) -> Wanted:
    """What a source asks for, as a repository and a full ref or a commit. Pure."""
    if source.nixpkgs is not None:
        nixpkgs = source.nixpkgs
        ref = f"refs/heads/{nixpkgs.channel}" if nixpkgs.channel is not None else ""
        return Wanted(nixpkgs_url, ref, nixpkgs.revision or "", nar_hash=nixpkgs.nar_hash)
    if source.source_ref is not None:
        flux = source.source_ref
        return Wanted("", str(flux), "", flux.path, flux.attr, kind="artifact")
    if source.volume is not None:
        volume = source.volume
        ref = f"PersistentVolumeClaim/{volume.claim_name}"
        return Wanted("", ref, volume.revision, volume.path, volume.attr, kind="volume")
    assert source.git is not None
    git = source.git
    return Wanted(git.url, _full_name(git.ref), git.ref.commit or "", git.path, git.attr)


async def resolve(
    source: Source,
    *,
    nixpkgs_url: str,
    timeout: float,  # noqa: ASYNC109 (git is killed when it ends, not just left)
    allow_file: bool = False,
    credentials: Credentials | None = None,
) -> PinnedSource:
    """Pin a source to the revision that it has now, by asking a Git server.

    Args:
        source: what the spec says; not one of Flux, which the cluster knows.
        nixpkgs_url: the repository that `source.nixpkgs` means.
        timeout: seconds for all of it.
        allow_file: whether `file://` URLs may be used: only for what runs on a user's own
            machine.
        credentials: what opens the repository, if it is private.

    Raises:
        Retryable: the repository cannot be reached now.
        Terminal: the repository or the ref is not there, or does not let us in.
    """
    target = wanted(source, nixpkgs_url)
    if target.commit:
        return target.pinned(target.commit)
    deadline = Deadline.after(timeout)
    ask = functools.partial(
        must_git,
        url=target.url,
        deadline=deadline,
        allow_file=allow_file,
        credentials=credentials,
    )
    output = await ask(
        "ls-remote",
        "--",
        target.url,
        target.ref,
        target.ref + _PEELED,
    )
    revision = find_ref(output, target.ref)
    if revision is None:
        near = await _near_refs(target, ask)
        raise Terminal(
            Reason.REFERENCE_NOT_FOUND,
            f"{shown_url(target.url)} has no {target.ref}",
            hint=f"Did you mean {', '.join(near)}?" if near else "Check the name of the ref",
        )
    return target.pinned(revision)


def find_ref(output: bytes, ref: str) -> str | None:
    """The commit of a ref in what `ls-remote` printed; a tag's own commit, not the tag. Pure."""
    refs = parse_refs(output)
    return refs.get(ref + _PEELED) or refs.get(ref)


def parse_refs(output: bytes) -> dict[str, str]:
    """The refs and their objects in what `ls-remote` printed; lines of another kind are left."""
    found = (_LINE.fullmatch(line) for line in output.split(b"\n"))
    return {m[2].decode("utf-8", "replace"): m[1].decode() for m in found if m is not None}


def near_names(ref: str, refs: list[str]) -> list[str]:
    """The refs of the same kind that are spelled most like one that is not there. Pure."""
    kind, _, name = ref.rpartition("/") if ref.count("/") > 1 else ("", "", ref)
    names = {r.removeprefix(kind + "/"): r for r in refs if r.startswith(kind + "/")}
    return difflib.get_close_matches(name, sorted(names), n=NEAR_REFS, cutoff=0.6)


async def _near_refs(target: Wanted, ask: Callable[..., Awaitable[bytes]]) -> list[str]:
    """Names to propose; none where asking for them fails, for the answer is known already."""
    names = target.ref.rpartition("/")[0] + "/*"
    try:
        output = await ask("ls-remote", "--refs", "--", target.url, names)
    except (Retryable, Terminal):
        return []
    return near_names(target.ref, list(parse_refs(output)))


def _full_name(ref: GitRef) -> str:
    if ref.branch is not None:
        return f"refs/heads/{ref.branch}"
    if ref.tag is not None:
        return f"refs/tags/{ref.tag}"
    return ref.name or ""
