"""The commands' names, options and help. What they do is elsewhere, and imported late."""

import asyncio
import enum
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from niximage.cli.failure import told
from niximage.cli.logs import LogFormat, log_to_stderr

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

CACHE: Final = "https://cache.nixos.org"
CACHE_KEY: Final = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="


def _unless_set(variable: str, otherwise: str) -> Callable[[], str]:
    """A default that leaves a variable set to "" alone: click would take it for unset."""
    return lambda: os.environ.get(variable, otherwise)


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
        default_factory=_unless_set("NIXIMAGE_SUBSTITUTERS", CACHE),
        show_default=CACHE,
        help="Binary caches, separated by blanks; empty for none.",
    ),
]
PublicKeys = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_TRUSTED_PUBLIC_KEYS",
        default_factory=_unless_set("NIXIMAGE_TRUSTED_PUBLIC_KEYS", CACHE_KEY),
        show_default=CACHE_KEY,
        help="The keys that sign what binary caches give, separated by blanks.",
    ),
]


class LocalBuilds(enum.StrEnum):
    """Whether what no binary cache has may be built."""

    ALLOWED = "Allowed"
    FORBIDDEN = "Forbidden"


LocalBuildsOption = Annotated[
    LocalBuilds,
    typer.Option(
        envvar="NIXIMAGE_LOCAL_BUILDS", help="Whether what no binary cache has may be built."
    ),
]
NIXPKGS: Final = "https://github.com/NixOS/nixpkgs"

File = Annotated[
    Path | None,
    typer.Option("--file", "-f", exists=True, dir_okay=False, help="A NixImage, as YAML."),
]
Packages = Annotated[
    list[str] | None,
    typer.Option(
        "--package", "-p", help="A package instead of a file, as in spec.packages. May be repeated."
    ),
]
SourceFolder = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="A folder to take packages from, instead of the file's source. A copy is built; its "
        "revision is a hash of all that lies in it, .git left out.",
    ),
]
BaseOption = Annotated[
    str | None,
    typer.Option(
        help="What to build upon: HOST/REPOSITORY@sha256:…, or NAMESPACE/NAME@sha256:… for an "
        "image in the bucket, or the digest alone of the file's base.niximage."
    ),
]
OptionalBucket = Annotated[
    str,
    typer.Option(
        envvar="NIXIMAGE_BUCKET",
        help="Where images live: gs://bucket/prefix or file:///folder; with --output, a folder "
        "in the user's cache by default.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of words.")]


class Auth(enum.StrEnum):
    """Who may pull from the gateway."""

    NONE = "none"
    HTPASSWD = "htpasswd"
    KUBERNETES = "kubernetes"


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
    system: Annotated[
        str, typer.Option(envvar="NIXIMAGE_SYSTEM", help="The Nix system to build for.")
    ] = "x86_64-linux",
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
            publish_environment={k: v for k, v in os.environ.items() if k in PASSED_ON},
            system=system,
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
    from niximage.cli import serve as command
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


@app.command()
def build(
    *,
    file: File = None,
    package: Packages = None,
    source: SourceFolder = None,
    path: Annotated[
        str, typer.Option(help="With --source: the file or folder in it to import.")
    ] = ".",
    attr: Annotated[
        str | None, typer.Option(help="With --source: the attribute that holds the packages.")
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(help="With -p: the channel of nixpkgs to take packages from: nixos-26.05."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With -p: what the image is called.  [default: image]")
    ] = None,
    base: BaseOption = None,
    bucket: OptionalBucket = "",
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the image there, too: oci:FOLDER, oci-archive:FILE or "
            "docker-archive:FILE, which `docker load` takes. May be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
    nixpkgs_url: Annotated[
        str,
        typer.Option(envvar="NIXIMAGE_NIXPKGS_URL", help="The repository behind source.nixpkgs."),
    ] = NIXPKGS,
    substituters: Substituters,
    trusted_public_keys: PublicKeys,
    local_builds: LocalBuildsOption = LocalBuilds.ALLOWED,
    system: Annotated[
        str, typer.Option(envvar="NIXIMAGE_SYSTEM", help="The Nix system to build for.")
    ] = "x86_64-linux",
    allow_file: Annotated[
        bool, typer.Option("--allow-file", help="Allow file:// as the URL of a source.")
    ] = False,
) -> None:
    """Build an image on this machine: what the operator does, without a cluster.

    Progress goes to standard error. The exit code is 65 where the input is at fault, and 75
    where another try may help.
    """
    from niximage.cli import build as command
    from niximage.cli.wanted import Options

    options = Options(
        file=file,
        packages=tuple(package or ()),
        source=source,
        path=path,
        attr=attr,
        channel=channel,
        name=name,
        base=base,
        nixpkgs_url=nixpkgs_url,
        substituters=tuple(substituters.split()),
        trusted_public_keys=tuple(trusted_public_keys.split()),
        local_builds=local_builds is LocalBuilds.ALLOWED,
        system=system,
        allow_file=allow_file,
    )
    with told():
        command.run(options, bucket=bucket, outputs=output or [], as_json=as_json)


@app.command()
def plan(
    *,
    file: File = None,
    package: Packages = None,
    source: SourceFolder = None,
    path: Annotated[
        str, typer.Option(help="With --source: the file or folder in it to import.")
    ] = ".",
    attr: Annotated[
        str | None, typer.Option(help="With --source: the attribute that holds the packages.")
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(help="With -p: the channel of nixpkgs to take packages from: nixos-26.05."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With -p: what the image is called.  [default: image]")
    ] = None,
    base: BaseOption = None,
    bucket: OptionalBucket = "",
    as_json: AsJson = False,
    nixpkgs_url: Annotated[
        str,
        typer.Option(envvar="NIXIMAGE_NIXPKGS_URL", help="The repository behind source.nixpkgs."),
    ] = NIXPKGS,
    substituters: Substituters,
    trusted_public_keys: PublicKeys,
    local_builds: LocalBuildsOption = LocalBuilds.ALLOWED,
    system: Annotated[
        str, typer.Option(envvar="NIXIMAGE_SYSTEM", help="The Nix system to build for.")
    ] = "x86_64-linux",
    allow_file: Annotated[
        bool, typer.Option("--allow-file", help="Allow file:// as the URL of a source.")
    ] = False,
) -> None:
    """Print the layers that an image would have; nothing is packed.

    What a binary cache has is not even downloaded: the plan takes its description alone. Other
    packages are built.
    """
    from niximage.cli import plan as command
    from niximage.cli.wanted import Options

    options = Options(
        file=file,
        packages=tuple(package or ()),
        source=source,
        path=path,
        attr=attr,
        channel=channel,
        name=name,
        base=base,
        nixpkgs_url=nixpkgs_url,
        substituters=tuple(substituters.split()),
        trusted_public_keys=tuple(trusted_public_keys.split()),
        local_builds=local_builds is LocalBuilds.ALLOWED,
        system=system,
        allow_file=allow_file,
    )
    with told():
        command.run(options, bucket=bucket, as_json=as_json)


@app.command()
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete from a bucket what no NixImage, no tag and no running build needs.

    Safe at any time, beside builds and pulls, and safe to interrupt.
    """
    from niximage.cli import gc as command

    with told():
        command.run(bucket, roots=roots, grace=grace, dry_run=dry_run, as_json=as_json)


@app.command()
def attach(
    image: Annotated[str, typer.Argument(help="NAMESPACE/NAME@sha256:… or NAMESPACE/NAME:TAG.")],
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="What to attach.")
    ],
    *,
    artifact_type: Annotated[
        str, typer.Option("--type", help="What it is, as a media type: application/spdx+json.")
    ],
    file_type: Annotated[
        str | None, typer.Option(help="What each file is, where that is another media type.")
    ] = None,
    annotation: Annotated[
        list[str] | None, typer.Option(help="What else to say: KEY=VALUE. May be repeated.")
    ] = None,
    bucket: OptionalBucket = "",
    as_json: AsJson = False,
) -> None:
    """Attach an artifact to an image: an SBOM, a signature, any file.

    Clients find it by the referrers API, or by the tag sha256-….
    """
    from niximage.cli import attach as command

    with told():
        command.run(
            image,
            files,
            bucket=bucket,
            artifact_type=artifact_type,
            file_type=file_type,
            annotations=annotation or [],
            as_json=as_json,
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
