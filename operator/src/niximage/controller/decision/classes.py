"""Which NixBuildClass a build is of, what it may not ask for then, and what it gets. Pure."""

from collections.abc import Collection
from dataclasses import replace

from niximage.api.base import seconds
from niximage.api.build import PinnedSource
from niximage.api.build_class import DEFAULT_CLASS, NixBuildClass
from niximage.api.image import NixImage
from niximage.api.placement import amount
from niximage.controller.settings import Settings
from niximage.controller.views import ClassWanting
from niximage.errors import Reason, Terminal
from niximage.source.failures import shown_url


def find_class(
    name: str | None, classes: Collection[NixBuildClass]
) -> NixBuildClass | ClassWanting | None:
    """The class that serves an image.

    Args:
        name: what the image's spec names, if it does.
        classes: all that there are.

    Returns:
        The class; None where the operator's own settings hold; or why neither can be told.
    """
    if name is not None:
        found = next((c for c in classes if c.metadata.name == name), None)
        return found or ClassWanting(
            f"waiting for the NixBuildClass {name}: there is none of that name; create it, or name "
            "one of kubectl get nixbuildclasses in spec.build.className"
        )
    defaults = sorted(c.metadata.name for c in classes if c.is_default)
    if len(defaults) > 1:
        return ClassWanting(
            f"waiting for one default NixBuildClass: {' and '.join(defaults)} are annotated with "
            f"{DEFAULT_CLASS}; name one in spec.build.className"
        )
    return next((c for c in classes if c.is_default), None)


def with_class(settings: Settings, build_class: NixBuildClass | None) -> Settings:
    """The operator's settings with what a class says about them."""
    if build_class is None:
        return settings
    spec = build_class.spec
    substituters, keys = spec.substituters, spec.trusted_public_keys
    local_builds = settings.local_builds
    if spec.local_builds is not None:
        local_builds = spec.local_builds == "Allowed"
    return replace(
        settings,
        build_class=build_class,
        substituters=settings.substituters if substituters is None else tuple(substituters),
        trusted_public_keys=settings.trusted_public_keys if keys is None else tuple(keys),
        local_builds=local_builds,
        nixpkgs_url=spec.nixpkgs_url or settings.nixpkgs_url,
        builder_image=spec.builder_image or settings.builder_image,
        sandbox=settings.sandbox if spec.sandbox is None else spec.sandbox == "Required",
        popularity_url=spec.popularity_url or settings.popularity_url,
        service_account=spec.service_account_name or settings.service_account,
    )


def denied(image: NixImage, build_class: NixBuildClass) -> Terminal | None:
    """What an image asks for that its class does not allow; None where all is well."""
    name, limits = build_class.metadata.name, build_class.spec
    git = image.spec.source.git
    if git is not None and (refused := _denied_url(git.url, build_class)) is not None:
        return refused
    volume = image.spec.source.volume
    if volume is not None and limits.allowed_sources is not None:
        return _denied(
            f"the NixBuildClass {name} allows named sources only, and none on volumes",
            "Choose a class without allowedSources, or another kind of source",
        )
    if limits.max_timeout and seconds(image.spec.timeout) > seconds(limits.max_timeout):
        return _denied(
            f"spec.timeout is {image.spec.timeout}",
            f"The NixBuildClass {name} allows at most {limits.max_timeout}",
        )
    asked, most = image.spec.build.resources.limits, limits.max_resources
    for field in ("cpu", "memory", "ephemeral_storage"):
        ask, bound = getattr(asked, field), getattr(most, field)
        if ask and bound and amount(ask) > amount(bound):
            spelled = field.replace("_", "-")
            return _denied(
                f"spec.build.resources.limits.{spelled} is {ask}",
                f"The NixBuildClass {name} allows at most {bound}",
            )
    return None


def denied_artifact(source: PinnedSource, build_class: NixBuildClass | None) -> Terminal | None:
    """What a class has against the artifact of an object of Flux; None where all is well.

    Of a GitRepository counts the repository that it follows, for the archive is Flux's own; of an
    ExternalArtifact, of which nothing else is known, where the archive is.
    """
    if build_class is None or source.kind != "artifact":
        return None
    return _denied_url(source.origin or source.url, build_class)


def _denied_url(url: str, build_class: NixBuildClass) -> Terminal | None:
    if build_class.allows(url):
        return None
    allowed = ", ".join(shown_url(each) for each in build_class.spec.allowed_sources or ())
    return _denied(
        f"the NixBuildClass {build_class.metadata.name} does not allow the source {shown_url(url)}",
        f"It allows: {allowed or 'nixpkgs only'}",
    )


def without_data(image: NixImage, settings: Settings) -> Terminal | None:
    """What an image asks for that wants data which nobody named; None where all is well.

    Args:
        image: the NixImage.
        settings: the operator's, with what its class says.
    """
    if image.spec.layering.strategy != "Popularity" or settings.popularity_url:
        return None
    named = settings.build_class
    return Terminal(
        Reason.INVALID_SPEC,
        "spec.layering.strategy is Popularity, and there is no popularity data",
        hint=f"Leave the strategy out, or ask for popularityURL in the NixBuildClass "
        f"{named.metadata.name}"
        if named is not None
        else "Leave the strategy out, or ask for a NixBuildClass with popularityURL",
    )


def _denied(message: str, hint: str) -> Terminal:
    return Terminal(Reason.POLICY_DENIED, message, hint=hint)
