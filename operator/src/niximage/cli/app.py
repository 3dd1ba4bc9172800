"""The commands' names, options and help. What they do is elsewhere, and imported late."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Annotated, Final

import typer

from niximage.cli.failure import told

app: Final = typer.Typer(
    name="niximage",
    help="Run Nix packages on Kubernetes: a NixImage in, an image digest out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
builder: Final = typer.Typer(
    help="The steps of a build Job; the operator starts them.", hidden=True
)
app.add_typer(builder, name="builder")

Bucket = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_BUCKET", help="Where images live: gs://bucket/prefix or file:///folder."
    ),
]
Substituters = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_SUBSTITUTERS",
        help="Binary caches, separated by blanks; empty for none.",
    ),
]
PublicKeys = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_TRUSTED_PUBLIC_KEYS",
        help="The keys that sign what binary caches give, separated by blanks.",
    ),
]
CACHE: Final = "https://cache.nixos.org"
CACHE_KEY: Final = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
NIXPKGS: Final = "https://github.com/NixOS/nixpkgs"


def main() -> None:
    """The program `niximage`."""
    app()


@app.command()
def crds(
    *,
    write: Annotated[
        Path | None, typer.Option(help="Write the files into this folder instead.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Fail unless the files in this folder are up to date.")
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions: `niximage crds | kubectl apply -f -`."""
    from niximage.cli import crds as command

    with told():
        command.run(write=write, check=check)


@app.command()
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
    nixpkgs_url: Annotated[
        str,
        typer.Option(envvar="NIXIMAGE_NIXPKGS_URL", help="The repository behind source.nixpkgs."),
    ] = NIXPKGS,
    substituters: Substituters = CACHE,
    trusted_public_keys: PublicKeys = CACHE_KEY,
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
    system: Annotated[
        str, typer.Option(envvar="NIXIMAGE_SYSTEM", help="The Nix system to build for.")
    ] = "x86_64-linux",
    workers: Annotated[
        int, typer.Option(min=1, max=128, envvar="NIXIMAGE_WORKERS", help="Images at once.")
    ] = 8,
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
    liveness: Annotated[
        str | None,
        typer.Option(
            envvar="NIXIMAGE_LIVENESS", help="Answer probes here: http://0.0.0.0:8080/healthz."
        ),
    ] = None,
) -> None:
    """Run the operator, in a pod or with a kubeconfig."""
    from niximage.bucket import open_store
    from niximage.controller.run import run
    from niximage.controller.settings import EMULATOR, Settings

    _log_to_stderr()
    with told():
        settings = Settings(
            bucket=bucket,
            registry=registry,
            nixpkgs_url=nixpkgs_url,
            builder_image=builder_image,
            bucket_claim=bucket_claim,
            substituters=tuple(substituters.split()),
            trusted_public_keys=tuple(trusted_public_keys.split()),
            service_account=service_account,
            publish_environment={k: v for k, v in os.environ.items() if k == EMULATOR},
            system=system,
            workers=workers,
            retry_delay=retry_delay,
            resync_interval=resync_interval,
        )
        # Short: the queue tries again, and a stop waits for calls under way.
        store = open_store(bucket, patience=10)
        try:
            asyncio.run(run(settings, store, liveness=liveness))
        finally:
            store.close()


@app.command()
def serve(
    *,
    bucket: Bucket,
    host: Annotated[
        str, typer.Option(envvar="NIXIMAGE_HOST", help="The address to listen at.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="NIXIMAGE_PORT", help="The port; 0 takes any.")
    ] = 5000,
) -> None:
    """Serve a bucket as a read-only registry."""
    from niximage.bucket import open_store
    from niximage.gateway import serve as gateway

    _log_to_stderr()
    with told():
        # Short: whoever pulls tries again sooner than it would wait.
        store = open_store(bucket, patience=10)
        try:
            asyncio.run(gateway(store, host, port))
        finally:
            store.close()


@app.command()
def build(
    *,
    file: Annotated[
        Path, typer.Option("--file", "-f", exists=True, dir_okay=False, help="A NixImage, as YAML.")
    ],
    bucket: Bucket,
    nixpkgs_url: Annotated[
        str,
        typer.Option(envvar="NIXIMAGE_NIXPKGS_URL", help="The repository behind source.nixpkgs."),
    ] = NIXPKGS,
    substituters: Substituters = CACHE,
    trusted_public_keys: PublicKeys = CACHE_KEY,
    system: Annotated[
        str, typer.Option(envvar="NIXIMAGE_SYSTEM", help="The Nix system to build for.")
    ] = "x86_64-linux",
    allow_file: Annotated[
        bool, typer.Option("--allow-file", help="Allow file:// as the URL of a source.")
    ] = False,
) -> None:
    """Build an image on this machine, into a bucket: what the operator does, without a cluster.

    Prints progress on standard error, and the result as one JSON document.
    """
    from niximage.cli import build as command

    with told():
        command.run(
            file=file,
            bucket=bucket,
            nixpkgs_url=nixpkgs_url,
            substituters=tuple(substituters.split()),
            trusted_public_keys=tuple(trusted_public_keys.split()),
            system=system,
            allow_file=allow_file,
        )


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


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
