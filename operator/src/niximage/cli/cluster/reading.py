"""What users look at: lists, one image, its history."""

import datetime as dt
import json

import typer

from niximage.cli.cluster.connect import in_cluster
from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.options import Document, Form, Where
from niximage.cli.cluster.tables import build_history, image_list, image_status
from niximage.cli.tables import show


def list_images(where: Where, *, everywhere: bool, form: Form) -> None:
    """Print the NixImages of a namespace, or of all."""
    found = in_cluster(where, lambda here: here.images(everywhere=everywhere))
    found.sort(key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"]))
    if form is Form.JSON:
        typer.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": found}, indent=2))
    elif not found:
        typer.echo("no NixImages found" + ("" if everywhere else "; -A looks everywhere"), err=True)
    else:
        images = [Facts.of(each) for each in found]
        show(
            image_list(
                images, dt.datetime.now(dt.UTC), wide=form is Form.WIDE, namespaces=everywhere
            )
        )


def status(where: Where, name: str, *, form: Document) -> None:
    """Print what is known of one NixImage."""
    stored = in_cluster(where, lambda here: here.image(name))
    if form is Document.JSON:
        typer.echo(json.dumps(stored, indent=2))
    else:
        packages = (stored.get("spec") or {}).get("packages") or []
        show(*image_status(Facts.of(stored), dt.datetime.now(dt.UTC), packages=packages))


def history(where: Where, name: str, *, form: Document) -> None:
    """Print the builds of a NixImage that ended, newest first."""
    stored = in_cluster(where, lambda here: here.image(name))
    image = Facts.of(stored)
    if form is Document.JSON:
        typer.echo(json.dumps([each.to_json() for each in image.status.history], indent=2))
    elif not image.status.history:
        typer.echo(f"{name} has no build that ended", err=True)
    else:
        show(build_history(image, dt.datetime.now(dt.UTC)))
