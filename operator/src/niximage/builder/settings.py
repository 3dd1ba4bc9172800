"""What a step of a build Job is told by its environment.

NIXIMAGE_REQUEST              the BuildRequest, as JSON
NIXIMAGE_BUCKET               the bucket's URL; `publish` only
NIXIMAGE_BUCKET_PATIENCE      seconds that one call to it may go on trying; 60 by default
NIXIMAGE_SUBSTITUTERS         binary caches, separated by blanks; may be empty
NIXIMAGE_TRUSTED_PUBLIC_KEYS  whose signatures count, separated by blanks; may be empty
NIXIMAGE_FETCHED              the folder that `fetch` puts the source into, and `build` finds it in;
                              empty where `build` fetches for itself
NIXIMAGE_CREDENTIALS          the folder with the Secret's keys; `fetch` only
NIXIMAGE_SECRET               that Secret's name, for messages; `fetch` only
NIXIMAGE_VOLUME               where the volume with the source is mounted; `fetch` only
NIXIMAGE_LOCAL_BUILDS         "Forbidden" where what no binary cache has is not to be built
NIXIMAGE_SANDBOX              "Required" where nothing is to be built outside of Nix's sandbox
NIXIMAGE_POPULARITY_URL       the data of the layering strategy Popularity; `publish` only
NIXIMAGE_WORK                 the folder that `build` and `publish` share; /build by default
NIXIMAGE_TERMINATION_LOG      where the kubelet reads the result; /dev/termination-log
NIXIMAGE_BUILD_TIMEOUT        seconds that `build` may take; a day by default, for the
                              Job's own deadline ends it sooner
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydantic

from niximage.api.build import REQUEST_LIMIT, BuildRequest
from niximage.api.image import explain
from niximage.bucket.store import DEFAULT_PATIENCE
from niximage.errors import Reason, Retryable
from niximage.nix.programs import NixStore

PATIENCE: Final = "NIXIMAGE_BUCKET_PATIENCE"
DEFAULT_WORK: Final = "/build"
DEFAULT_TERMINATION_LOG: Final = "/dev/termination-log"
ALLOWED: Final = "Allowed"
FORBIDDEN: Final = "Forbidden"
PREFERRED: Final = "Preferred"
REQUIRED: Final = "Required"
DAY: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class BuilderSettings:
    """What a step is told.

    Attributes:
        request: what to build.
        bucket: the bucket's URL, or "" where none was given.
        popularity_url: where popularity data is, or "".
        nix: how the Nix programs are set up.
        work: the folder that `build` and `publish` share.
        timeout: seconds that `build` may take.
        bucket_patience: seconds that one call to the bucket may go on trying.
        fetched: the folder that `fetch` puts the source into, if there is such a step.
        credentials: the folder with the keys that open the source, if it needs any.
        secret: the name of the Secret that these are from.
        volume: where the volume with the source is mounted, if it is on one.
    """

    request: BuildRequest
    bucket: str
    nix: NixStore
    work: Path
    timeout: float
    bucket_patience: float = DEFAULT_PATIENCE
    popularity_url: str = ""
    fetched: Path | None = None
    credentials: Path | None = None
    secret: str = ""
    volume: Path | None = None

    @property
    def outputs_file(self) -> Path:
        """Where `build` leaves its outputs for `publish`."""
        return self.work / "outputs.json"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "BuilderSettings":
        """Read the settings.

        Raises:
            Retryable: one is missing or malformed: the operator's fault, not the user's.
        """
        text = environment.get("NIXIMAGE_REQUEST", "")
        if not 0 < len(text.encode()) <= REQUEST_LIMIT:
            raise _wrong("NIXIMAGE_REQUEST", f"has {len(text.encode())} bytes")
        try:
            request = BuildRequest.model_validate_json(text)
        except pydantic.ValidationError as error:
            raise _wrong("NIXIMAGE_REQUEST", f"is malformed: {explain(error)}") from None
        return cls(
            request=request,
            bucket=environment.get("NIXIMAGE_BUCKET", ""),
            popularity_url=environment.get("NIXIMAGE_POPULARITY_URL", ""),
            nix=NixStore(
                substituters=tuple(environment.get("NIXIMAGE_SUBSTITUTERS", "").split()),
                trusted_public_keys=tuple(
                    environment.get("NIXIMAGE_TRUSTED_PUBLIC_KEYS", "").split()
                ),
                local_builds=_local_builds(environment),
                sandbox=_sandbox(environment),
            ),
            work=Path(environment.get("NIXIMAGE_WORK") or DEFAULT_WORK),
            timeout=_seconds(environment, "NIXIMAGE_BUILD_TIMEOUT", DAY),
            bucket_patience=_seconds(environment, PATIENCE, DEFAULT_PATIENCE),
            fetched=_folder(environment, "NIXIMAGE_FETCHED"),
            credentials=_folder(environment, "NIXIMAGE_CREDENTIALS"),
            secret=environment.get("NIXIMAGE_SECRET", ""),
            volume=_folder(environment, "NIXIMAGE_VOLUME"),
        )


def termination_log(environment: Mapping[str, str]) -> Path:
    """Where the kubelet reads the result; known even where other settings are wrong."""
    return Path(environment.get("NIXIMAGE_TERMINATION_LOG") or DEFAULT_TERMINATION_LOG)


def _folder(environment: Mapping[str, str], name: str) -> Path | None:
    given = environment.get(name, "")
    return Path(given) if given else None


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    given = environment.get(name) or str(default)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= DAY:
        raise _wrong(name, f"is {given!r:.40}, not seconds up to a day")
    return seconds


def _local_builds(environment: Mapping[str, str]) -> bool:
    given = environment.get("NIXIMAGE_LOCAL_BUILDS") or ALLOWED
    if given not in {ALLOWED, FORBIDDEN}:
        raise _wrong("NIXIMAGE_LOCAL_BUILDS", f"is {given!r:.40}, not {ALLOWED} or {FORBIDDEN}")
    return given == ALLOWED


def _sandbox(environment: Mapping[str, str]) -> bool:
    given = environment.get("NIXIMAGE_SANDBOX") or PREFERRED
    if given not in {PREFERRED, REQUIRED}:
        raise _wrong("NIXIMAGE_SANDBOX", f"is {given!r:.40}, not {PREFERRED} or {REQUIRED}")
    return given == REQUIRED


def _wrong(name: str, what: str) -> Retryable:
    return Retryable(
        Reason.INTERNAL_ERROR,
        f"the environment variable {name} {what}",
        hint="The operator sets it: are operator and builder image of one version?",
    )
