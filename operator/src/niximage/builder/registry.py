"""Taking an image from a registry, by digest, with skopeo.

skopeo speaks to registries and finds their credentials; what it brings is believed only after
the digests were computed here.
"""

import ipaddress
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from niximage.api.build import PinnedBase
from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text
from niximage.image.base import (
    BaseManifest,
    choose_manifest,
    read_base_config,
    read_base_manifest,
)
from niximage.image.descriptor import Descriptor, digest_of

TIMEOUT: Final = 1800.0  # seconds for all of an image
INSECURE: Final = "NIXIMAGE_INSECURE_REGISTRIES"
"""Registries, as `host:port` and separated by blanks, that need neither TLS nor a certificate
that anybody trusts: what Docker calls `insecure-registries`. Digests are verified all the same."""

# What skopeo may know of the process that runs it: where credentials and certificates are.
_INHERITED: Final = (
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
_REFUSED = re.compile(
    r"unauthorized|authentication required|no basic auth|denied|\b40[13]\b|invalid username",
    re.IGNORECASE,
)
_ABSENT = re.compile(r"manifest unknown|name unknown|blob unknown|not found|\b404\b", re.IGNORECASE)
_CHANGED = re.compile(r"d(?:id|oes) not match|digest mismatch|invalid checksum", re.IGNORECASE)
# Words of skopeo's around the image's name, which every message begins with.
_NAMED_AGAIN = re.compile(
    r"^(?:Error (?:parsing image name|initializing source|reading manifest)|initializing source) "
    r'"?(?:docker://)?\S+?@sha256:[0-9a-f]{64}"?: ?'
)
_LEVEL = re.compile(r'^time="[^"]*" level=\w+ msg=|^FATA\[\d+\] ')


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """An image in a folder.

    Attributes:
        manifest: what it is made of.
        config: its config, verified.
        folder: where its blobs are, each under its hexadecimal digest; not verified.
    """

    manifest: BaseManifest
    config: bytes
    folder: Path

    def blob(self, descriptor: Descriptor) -> Path:
        """The file of a blob."""
        return self.folder / descriptor.digest.removeprefix("sha256:")


def fetch_image(base: PinnedBase, folder: Path, *, system: str) -> FetchedImage:
    """Fetch an image from a registry.

    Args:
        base: which; its digest may be that of an index.
        folder: where to; it must not be there yet.
        system: which image of an index, as Nix says it.

    Raises:
        Terminal: the image is not there, not for us, of no kind that we can use, or for
            another platform.
        Retryable: the registry cannot be reached now.
    """
    assert base.image is not None
    skopeo = _Skopeo(base.image, str(base), time.monotonic() + TIMEOUT)
    digest = base.digest
    document = skopeo.document(digest)
    if (chosen := choose_manifest(document, system, str(base))) is not None:
        digest = chosen
        document = skopeo.document(digest)
    manifest = read_base_manifest(document, str(base))
    config = skopeo.config(digest)
    if Descriptor.of(manifest.config.media_type, config) != manifest.config:
        raise _changed(str(base), f"its config is not {manifest.config.digest}")
    # Before all that is large: it may be for another platform.
    read_base_config(config, len(manifest.layers), system, str(base))
    skopeo.copy(digest, folder)
    if (folder / "manifest.json").read_bytes() != document:
        raise _changed(str(base), "the manifest became another one on the way")
    return FetchedImage(manifest, config, folder)


@dataclass(frozen=True, slots=True)
class _Skopeo:
    image: str
    name: str
    deadline: float

    def document(self, digest: str) -> bytes:
        """A manifest or an index, verified."""
        content = self._run("inspect", "--raw", self._tls("--tls-verify"), self._at(digest))
        if digest_of(content) != digest:
            raise _changed(self.name, f"the registry answers with another document for {digest}")
        return content

    def config(self, digest: str) -> bytes:
        """An image's config, not verified."""
        return self._run(
            "inspect", "--config", "--raw", self._tls("--tls-verify"), self._at(digest)
        )

    def copy(self, digest: str, folder: Path) -> None:
        """An image's files as they are."""
        self._run(
            "copy",
            "--quiet",
            "--preserve-digests",
            self._tls("--src-tls-verify"),
            self._at(digest),
            f"dir:{folder}",
        )

    def _at(self, digest: str) -> str:
        return f"docker://{self.image}@{digest}"

    def _tls(self, option: str) -> str:
        plain = may_be_plain(self.image, os.environ.get(INSECURE, ""))
        return f"{option}={'false' if plain else 'true'}"

    def _run(self, *arguments: str) -> bytes:
        left = max(self.deadline - time.monotonic(), 0.1)
        # The digest says which image it is: a policy of signatures would add nothing to it.
        command = ["skopeo", "--insecure-policy", *arguments]
        try:
            finished = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=left,
                env=_environment(),
            )
        except subprocess.TimeoutExpired:
            raise Retryable(
                Reason.SOURCE_UNAVAILABLE,
                f"the base {self.name} did not arrive in time",
                hint="Check the registry, and the network between",
            ) from None
        except OSError as error:
            raise Retryable(
                Reason.INTERNAL_ERROR,
                f"skopeo cannot be started: {error.strerror}",
                hint="Install skopeo and see that it is on PATH",
            ) from None
        if finished.returncode != 0:
            raise _failure(self.name, finished.stderr.decode("utf-8", "replace"))
        return finished.stdout


def may_be_plain(image: str, insecure: str) -> bool:
    """Whether an image may come by plain HTTP, or with a certificate of nobody.

    Args:
        image: the image, with its registry.
        insecure: the registries of which an admin says so, separated by blanks.
    """
    return is_loopback(image) or image.partition("/")[0] in insecure.split()


def is_loopback(image: str) -> bool:
    """Whether an image's registry is this very machine."""
    host = image.partition("/")[0]
    host = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if os.environ.get(name)}
    return {**kept, "LC_ALL": "C.UTF-8"}


def _failure(name: str, complaint: str) -> NixImageError:
    """The error that skopeo's complaint stands for; what is not known may pass."""
    said = _last_words(complaint)
    if _CHANGED.search(said):
        return _changed(name, said)
    if _REFUSED.search(said):
        return Terminal(
            Reason.AUTHENTICATION_FAILED,
            f"the registry does not let us have the base {name}: {said}",
            hint="The image is private, or not there: check its name and the credentials",
        )
    if _ABSENT.search(said):
        return Terminal(
            Reason.REFERENCE_NOT_FOUND,
            f"there is no base {name}: {said}",
            hint="Check its name and digest",
        )
    return Retryable(
        Reason.SOURCE_UNAVAILABLE,
        f"the base {name} cannot be fetched: {said}",
        hint="Check the registry, and the network between",
    )


def _changed(name: str, how: str) -> Terminal:
    return Terminal(
        Reason.HASH_MISMATCH,
        f"the base {name} is not what its digest says: {how}",
        hint="Do not trust this registry, or whoever is between: name another",
    )


def _last_words(complaint: str) -> str:
    lines: Sequence[str] = [line for line in plain_text(complaint, 1 << 16).split("\n") if line]
    said = _LEVEL.sub("", lines[-1] if lines else "skopeo said nothing").strip('"')
    return plain_text(_NAMED_AGAIN.sub("", said.replace('\\"', '"')), 500)
