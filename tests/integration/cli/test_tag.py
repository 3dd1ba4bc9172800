"""`niximage tag`: an image's name before it is built, and that it names the image then."""

import json
from pathlib import Path
from typing import Any

import yaml

from integration.cli.program import Niximage
from integration.nix.demo import Demo
from niximage.bucket import open_store
from niximage.bucket.images import resolve_tag

PINNED = {"nixpkgs": {"revision": "a" * 40}}


def write(folder: Path, name: str = "web", **spec: Any) -> Path:
    document = {
        "apiVersion": "niximage.dev/v1alpha1",
        "kind": "NixImage",
        "metadata": {"name": name, "namespace": "team-a"},
        "spec": {"packages": ["hello"], "source": PINNED, **spec},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def tag(niximage: Niximage, *arguments: str | Path) -> str:
    done = niximage.run("tag", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_tag_that_was_told_before_names_the_image_that_was_built(
    niximage: Niximage, demo: Demo
) -> None:
    source = {"nixpkgs": {"revision": demo.source.revision}}
    given = (
        *("--file", write(niximage.home, source=source)),
        *("--nixpkgs-url", demo.path.as_uri(), "--allow-file"),
    )
    repository, _, told = tag(niximage, *given).partition(":")
    assert repository == "team-a/web"
    bucket = niximage.home / "images"
    bucket.mkdir()
    done = niximage.run("build", *given, "--bucket", bucket.as_uri(), "--json")
    assert done.returncode == 0, done.stderr
    store = open_store(bucket.as_uri())
    assert resolve_tag(store, repository, told) == json.loads(done.stdout)["digest"]


def test_only_what_shapes_the_image_gives_another_name(niximage: Niximage) -> None:
    """Neither the network nor Nix is asked: the source is pinned."""
    file = write(niximage.home)
    first = tag(niximage, "-f", file, "--registry", "registry.example.org:5000")
    assert first.startswith("registry.example.org:5000/team-a/web:")
    digits = first.rpartition(":")[2]
    write(niximage.home, interval="1h", output={"tags": ["stable"], "configMap": True})
    assert tag(niximage, "-f", file) == f"team-a/web:{digits}"
    assert tag(niximage, "-f", write(niximage.home, "shop")) == f"team-a/shop:{digits}"
    write(niximage.home, packages=["hello", "curl"])
    assert tag(niximage, "-f", file) != f"team-a/web:{digits}"
    document = json.loads(tag(niximage, "-f", file, "--json"))
    assert document["image"] == f"team-a/web:{document['inputHash']}"
    assert (document["revision"], document["moves"]) == ("a" * 40, False)


def test_a_source_that_moves_is_told(niximage: Niximage, demo: Demo) -> None:
    file = write(niximage.home, source={"nixpkgs": {"channel": "nixos-26.05"}})
    done = niximage.run("tag", "-f", file, "--nixpkgs-url", demo.path.as_uri(), "--allow-file")
    assert done.returncode == 0, done.stderr
    assert "refs/heads/nixos-26.05 of file://" in done.stderr
    assert f"moves: this names the image at {demo.source.revision}" in done.stderr


def test_what_a_volume_s_content_is_called_is_known_here(niximage: Niximage) -> None:
    volume = {"claimName": "packages", "revision": "first"}
    file = write(niximage.home, source={"volume": volume})
    document = json.loads(tag(niximage, "-f", file, "--json"))
    assert (document["revision"], document["moves"]) == ("first", False)
    write(niximage.home, source={"volume": {**volume, "revision": "second"}})
    assert tag(niximage, "-f", file) != document["image"]


def test_a_base_without_its_digest_is_asked_for(niximage: Niximage) -> None:
    file = write(niximage.home, base={"niximage": {"name": "base"}})
    done = niximage.run("tag", "-f", file)
    assert done.returncode == 65
    assert "Add --base sha256:" in done.stderr
    assert "Traceback" not in done.stderr
