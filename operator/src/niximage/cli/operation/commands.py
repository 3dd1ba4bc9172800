"""The commands of those who run all this: their names, options and help."""

import asyncio
import enum
import os
from pathlib import Path
from typing import Annotated, Final

import typer

from niximage.cli.failure import told
from niximage.cli.operation.logs import LogFormat, log_to_stderr
from niximage.cli.options import (
    NIXPKGS,
    AsJson,
    Bucket,
    LocalBuilds,
    LocalBuildsOption,
    NixpkgsUrl,
    PopularityUrl,
    PublicKeys,
    Substituters,
)

PANEL: Final = "Operation"
builder: Final = typer.Typer(
    help="The steps of a build Job; the operator starts them.", hidden=True
)


def add_to(app: typer.Typer) -> None:
    """Add the commands to a program."""
    for command in (operator, serve, crds, gc):
        app.command(rich_help_panel=PANEL)(command)
    app.add_typer(builder, name="builder")


class Auth(enum.StrEnum):
    """Who may pull from the gateway."""

    NONE = "none"
    HTPASSWD = "htpasswd"
    KUBERNETES = "kubernetes"


def operator(
    *,
    bucket: Bucket,
    registry: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_REGISTRY",
            help="Host and port that nodes pull images from; the first part of status.image.",
        ),
    ],
    builder_image: Annotated[
        str, typer.Option(envvar="NIXIMAGE_BUILDER_IMAGE", help="The image of build pods.")
    ],
    nixpkgs_url: NixpkgsUrl = NIXPKGS,
    substituters: Substituters,
    trusted_public_keys: PublicKeys,
    local_builds: LocalBuildsOption = LocalBuilds.ALLOWED,
    bucket_claim: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_BUCKET_CLAIM",
            help="For file://: the PersistentVolumeClaim that build pods find the bucket on.",
        ),
    ] = "",
    service_account: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_SERVICE_ACCOUNT", help="The ServiceAccount of build pods, by name."
        ),
    ] = "default",
    popularity_url: PopularityUrl = "",
    publish_credentials: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_PUBLISH_CREDENTIALS",
            help="For gs://: a credential configuration of workload identity federation, as JSON. "
            "Build pods then publish without the metadata server. See docs/security.md.",
        ),
    ] = "",
    workers: Annotated[
        int, typer.Option(min=1, max=128, envvar="NIXIMAGE_WORKERS", help="Images at once.")
    ] = 8,
    max_builds: Annotated[
        int,
        typer.Option(
            min=1, max=10000, envvar="NIXIMAGE_MAX_BUILDS", help="Builds that may run at once."
        ),
    ] = 20,
    max_builds_per_namespace: Annotated[
        int,
        typer.Option(
            min=1,
            max=10000,
            envvar="NIXIMAGE_MAX_BUILDS_PER_NAMESPACE",
            help="How many of them in one namespace.",
        ),
    ] = 5,
    retry_delay: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=3600,
            envvar="NIXIMAGE_RETRY_DELAY",
            help="Seconds before the first retry; each further one waits twice as long.",
        ),
    ] = 15.0,
    resync_interval: Annotated[
        float,
        typer.Option(
            min=1,
            max=86400,
            envvar="NIXIMAGE_RESYNC_INTERVAL",
            help="Seconds between full lists, which repair what a watch missed.",
        ),
    ] = 600.0,
    listen: Annotated[
        str | None,
        typer.Option(
            envvar="NIXIMAGE_LISTEN",
            help="Answer /healthz, /readyz and /metrics there: 0.0.0.0:8080.",
        ),
    ] = None,
    lease: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_LEASE",
            help="Act only while holding this Lease, NAMESPACE/NAME: for more than one replica.",
        ),
    ] = "",
    namespaces: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_NAMESPACES",
            help="Look into these namespaces only, separated by blanks; needs no rights elsewhere, "
            "and reads no NixBuildClasses.",
        ),
    ] = "",
    log_format: Annotated[
        LogFormat, typer.Option(envvar="NIXIMAGE_LOG_FORMAT", help="How log lines are written.")
    ] = LogFormat.TEXT,
) -> None:
    """Run the operator, in a pod or with a kubeconfig."""
    from niximage.bucket import open_store
    from niximage.controller.builds.federation import parse_federation
    from niximage.controller.run import run
    from niximage.controller.settings import PASSED_ON, Settings

    log_to_stderr(log_format)
    with told():
        settings = Settings(
            bucket=bucket,
            registry=registry,
            nixpkgs_url=nixpkgs_url,
            builder_image=builder_image,
            bucket_claim=bucket_claim,
            substituters=tuple(substituters.split()),
            trusted_public_keys=tuple(trusted_public_keys.split()),
            local_builds=local_builds is LocalBuilds.ALLOWED,
            service_account=service_account,
            popularity_url=popularity_url,
            federation=parse_federation(publish_credentials),
            publish_environment={k: v for k, v in os.environ.items() if k in PASSED_ON},
            workers=workers,
            max_builds=max_builds,
            max_builds_per_namespace=max_builds_per_namespace,
            retry_delay=retry_delay,
            resync_interval=resync_interval,
            namespaces=tuple(namespaces.split()),
            lease=lease,
        )
        # Short: the queue tries again, and a stop waits for calls under way.
        store = open_store(bucket, patience=10)
        try:
            asyncio.run(run(settings, store, listen=listen))
        finally:
            store.close()


def serve(
    *,
    bucket: Bucket,
    host: Annotated[
        str, typer.Option(envvar="NIXIMAGE_HOST", help="The address to listen at.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="NIXIMAGE_PORT", help="The port; 0 takes any.")
    ] = 5000,
    auth: Annotated[
        Auth,
        typer.Option(
            envvar="NIXIMAGE_AUTH",
            help="Who may pull: everybody; the users of --htpasswd; or whom Kubernetes knows, by "
            "the tokens of ServiceAccounts.",
        ),
    ] = Auth.NONE,
    htpasswd: Annotated[
        Path | None,
        typer.Option(
            envvar="NIXIMAGE_HTPASSWD",
            dir_okay=False,
            help="Users, as `htpasswd -B` writes them; USER:HASH:team-a/*,base/* limits one.",
        ),
    ] = None,
    audience: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_AUDIENCE",
            help="With --auth kubernetes: whom tokens must be made for, by default the API server.",
        ),
    ] = "",
    token_key: Annotated[
        Path | None,
        typer.Option(
            envvar="NIXIMAGE_TOKEN_KEY",
            dir_okay=False,
            help="32 random bytes or more, the same for all gateways behind one name; by default "
            "each makes its own.",
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            envvar="NIXIMAGE_TLS_CERTIFICATE",
            dir_okay=False,
            help="A PEM file with the certificate chain; read again when it changes.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(envvar="NIXIMAGE_TLS_KEY", dir_okay=False, help="Its key, a PEM file."),
    ] = None,
    url: Annotated[
        str,
        typer.Option(
            envvar="NIXIMAGE_URL",
            help="What clients call this gateway, https://HOST, where a proxy hides it.",
        ),
    ] = "",
    drain: Annotated[
        float,
        typer.Option(
            min=0,
            max=600,
            envvar="NIXIMAGE_DRAIN",
            help="Seconds to go on after SIGTERM while /readyz says no.",
        ),
    ] = 0.0,
    memory: Annotated[
        int,
        typer.Option(
            min=1,
            max=65536,
            envvar="NIXIMAGE_MEMORY",
            help="MiB of manifests and small blobs to keep, and as much again of answers.",
        ),
    ] = 64,
    tag_lifetime: Annotated[
        float,
        typer.Option(
            min=0,
            max=3600,
            envvar="NIXIMAGE_TAG_LIFETIME",
            help="Seconds that a tag is remembered, after which it is looked up again.",
        ),
    ] = 1.0,
    redirect: Annotated[
        bool,
        typer.Option(
            envvar="NIXIMAGE_REDIRECT",
            help="For gs://: send clients to signed URLs of the bucket, or send blobs ourselves.",
        ),
    ] = True,
    access_log: Annotated[
        bool,
        typer.Option(
            envvar="NIXIMAGE_ACCESS_LOG", help="Print a line of JSON per request, or do not."
        ),
    ] = True,
) -> None:
    """Serve a bucket as a read-only registry; see docs/gateway.md."""
    from niximage.cli.operation import serve as command
    from niximage.gateway import Limits, Options

    log_to_stderr()
    with told():
        command.run(
            bucket,
            Options(
                host=host,
                port=port,
                certificate=tls_certificate,
                key=tls_key,
                url=url,
                drain=drain,
                limits=Limits(memory=memory << 20, tag_lifetime=tag_lifetime, redirect=redirect),
            ),
            auth=auth,
            htpasswd=htpasswd,
            audience=audience,
            token_key=token_key,
            access_log=access_log,
        )


def crds(
    *,
    write: Annotated[
        Path | None, typer.Option(help="Write the files into this folder instead.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Fail unless the files in this folder are up to date.")
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions, for `kubectl apply -f -`."""
    from niximage.cli.operation import crds as command

    with told():
        command.run(write=write, check=check)


def gc(
    *,
    bucket: Bucket,
    grace: Annotated[
        str,
        typer.Option(
            help="How long what is not needed stays, at least 1h; give it to this command as "
            "often as that."
        ),
    ] = "24h",
    roots: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="A file with the digests of images that must stay, instead of asking the "
            "cluster: any text with sha256:… in it, such as NixImages as JSON. An empty file "
            "leaves only what tags name.",
        ),
    ] = None,
    clusters: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="A folder of kubeconfigs, one for each further cluster that shares the bucket: "
            "what their NixImages name stays, too.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete from a bucket what no NixImage, tag or build needs.

    Safe at any time, beside builds and pulls, and safe to interrupt.
    """
    from niximage.cli.operation import gc as command

    with told():
        command.run(
            bucket, roots=roots, clusters=clusters, grace=grace, dry_run=dry_run, as_json=as_json
        )


@builder.command("fetch")
def builder_fetch() -> None:
    """Fetch what takes credentials or a volume; evaluates nothing."""
    from niximage.builder.steps import fetch_step

    raise typer.Exit(fetch_step())


@builder.command("build")
def builder_build() -> None:
    """Fetch, evaluate, realise; runs what tenants wrote, without credentials."""
    from niximage.builder.steps import build_step

    raise typer.Exit(build_step())


@builder.command("publish")
def builder_publish() -> None:
    """Plan, pack what is missing, upload, report."""
    from niximage.builder.steps import publish_step

    raise typer.Exit(publish_step())
