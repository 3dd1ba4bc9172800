"""`niximage gc` that asks a real API server which images are in use."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.cli.program import Niximage
from integration.controller.test_operations import restricted
from integration.tiny import TinyImage, tiny_image
from niximage.bucket import open_store
from niximage.bucket.images import has_repository, read_manifest
from niximage.bucket.logs import read_log, save_log
from support.kubernetes import Cluster, Json, nix_image

NOW, BEFORE, OTHER, LOST = (tiny_image(name) for name in (b"now", b"before", b"other", b"lost"))
AT = "2026-05-04T12:00:00Z"


def told(image: TinyImage, *history: TinyImage) -> Json:
    """A status as the operator writes it."""
    builds = [
        {
            "id": f"j-{number}",
            "jobName": "web-0123456789",
            "result": "Succeeded",
            "reason": "Succeeded",
            "revision": "1" * 40,
            "digest": each.digest,
            "startTime": AT,
            "completionTime": AT,
            "log": f"niximage/v1/logs/team-a/{number}.gz",
        }
        for number, each in enumerate(history)
    ]
    return {
        "image": f"127.0.0.1:5000/x@{image.digest}",
        "digest": image.digest,
        "history": builds,
    }


@pytest.fixture
def bucket(tmp_path: Path, namespace: str) -> Path:
    """A bucket with images that were published ten days ago."""
    folder = tmp_path / "bucket"
    store = open_store(folder.as_uri())
    for image in (NOW, BEFORE, LOST):
        image.publish(store, f"{namespace}/web")
    OTHER.publish(store, f"{namespace}/other")
    for build in ("0", "1", "2"):
        save_log(store, "team-a", build, f"the log of {build}")
    then = time.time() - 10 * 86400
    for found in store.list(""):
        os.utime(folder / found.key, (then, then))
    return folder


@pytest.fixture
def gc(tmp_path: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Json]:
    """Collects the bucket's garbage, by the cluster that a kubeconfig names."""

    def run(kubeconfig: Path, *options: str) -> Json:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        program = Niximage(tmp_path, tmp_path)
        done = program.run("gc", "--bucket", bucket.as_uri(), "--json", *options)
        document: Json = json.loads(done.stdout) if done.returncode == 0 else {}
        return {"code": done.returncode, "words": done.stderr, **document}

    return run


def test_what_statuses_and_histories_name_stays(
    cluster: Cluster, namespace: str, bucket: Path, gc: Callable[..., Json]
) -> None:
    for name, status in (("web", told(NOW, NOW, BEFORE)), ("other", told(OTHER))):
        cluster.do("create", "-f", "-", given=nix_image(namespace, name))
        cluster.set_status("niximage", name, namespace, status)
    done = gc(cluster.kubeconfig)
    assert done["code"] == 0, done["words"]
    assert done["roots"] == 3
    assert (done["freed"]["manifests"], done["kept"]["manifests"]) == (1, 3)
    store = open_store(bucket.as_uri())
    assert read_manifest(store, f"{namespace}/web", LOST.digest) is None
    for image in (NOW, BEFORE):
        assert read_manifest(store, f"{namespace}/web", image.digest) == image.manifest
    assert has_repository(store, f"{namespace}/other")
    logs = [read_log(store, f"niximage/v1/logs/team-a/{build}.gz") for build in "012"]
    assert logs == ["the log of 0", "the log of 1", None]


def test_what_other_clusters_name_stays_and_all_of_them_must_answer(
    cluster: Cluster,
    namespace: str,
    bucket: Path,
    gc: Callable[..., Json],
    tmp_path: Path,
) -> None:
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    cluster.set_status("niximage", "web", namespace, told(NOW))
    roots, folder = tmp_path / "roots", tmp_path / "clusters"
    roots.write_text(OTHER.digest)
    folder.mkdir()
    options = ("--roots", str(roots), "--clusters", str(folder))
    before = list(open_store(bucket.as_uri()).list(""))
    done = gc(tmp_path / "none", *options)
    assert (done["code"], "holds no kubeconfig" in done["words"]) == (65, True)
    (folder / "east").write_bytes(cluster.kubeconfig.read_bytes())
    (folder / "west").write_bytes(restricted(cluster, namespace, tmp_path).read_bytes())
    done = gc(tmp_path / "none", *options)
    assert done["code"] != 0
    assert f"in use in the cluster of {folder / 'west'} cannot be told" in done["words"]
    assert list(open_store(bucket.as_uri()).list("")) == before
    (folder / "west").unlink()
    done = gc(tmp_path / "none", *options)
    assert done["code"] == 0, done["words"]
    assert (done["roots"], done["kept"]["manifests"]) == (2, 2)


def test_with_too_few_rights_nothing_is_deleted(
    cluster: Cluster, namespace: str, bucket: Path, gc: Callable[..., Json], tmp_path: Path
) -> None:
    """One namespace's images are not all: who may not see them all must delete none."""
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    cluster.set_status("niximage", "web", namespace, told(NOW))
    before = list(open_store(bucket.as_uri()).list(""))
    done = gc(restricted(cluster, namespace, tmp_path))
    assert done["code"] != 0
    assert "which images are in use cannot be told" in done["words"]
    assert 'cannot list resource "niximages"' in done["words"]
    assert "Grant it to list niximages in all namespaces" in done["words"]
    assert "Traceback" not in done["words"]
    assert list(open_store(bucket.as_uri()).list("")) == before


def test_a_cluster_without_any_image_is_taken_for_the_wrong_one(
    cluster: Cluster, namespace: str, bucket: Path, gc: Callable[..., Json]
) -> None:
    cluster.do("create", "-f", "-", given=nix_image(namespace))
    before = list(open_store(bucket.as_uri()).list(""))
    done = gc(cluster.kubeconfig)
    assert done["code"] == 65
    assert "is it the cluster of this bucket?" in done["words"]
    assert list(open_store(bucket.as_uri()).list("")) == before
