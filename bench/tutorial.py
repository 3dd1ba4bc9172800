"""The operator as a kopf tutorial would write it: what `scale` compares with.

It does the part of the work that needs no Job: resolve the source, look into the bucket, patch
the status. A look per minute follows the moving source.
"""

import os
import subprocess
from typing import Any

import kopf

from niximage.api.build import PinnedSource, input_hash
from niximage.api.image import NixImage
from niximage.bucket import open_store
from niximage.bucket.known import find_image

KIND = "niximages.niximage.dev"
STORE = open_store(os.environ["BUCKET"])


@kopf.on.create(KIND)
@kopf.on.update(KIND, field="spec")
@kopf.on.resume(KIND)
@kopf.on.timer(KIND, interval=60, initial_delay=60)
def build(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    """Make the status say what the spec asks for."""
    url, ref = (
        os.environ["NIXPKGS_URL"],
        "refs/heads/" + body["spec"]["source"]["nixpkgs"]["channel"],
    )
    said = subprocess.run(
        ["git", "ls-remote", url, ref], check=True, capture_output=True, text=True, timeout=60
    )
    source = PinnedSource(url=url, ref=ref, revision=said.stdout.split()[0])
    image = NixImage.model_validate(
        {"metadata": dict(body["metadata"]), "spec": dict(body["spec"])}
    )
    inputs = input_hash(image, source)
    record = find_image(STORE, image.metadata.namespace, image.repository, inputs)
    if record is None:
        raise kopf.TemporaryError("not built yet", delay=30)
    patch.status["observedGeneration"] = image.metadata.generation
    patch.status["image"] = f"127.0.0.1:5000/{image.repository}@{record.digest}"
    patch.status["digest"] = record.digest
    patch.status["conditions"] = [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Succeeded",
            "message": "published",
            "lastTransitionTime": body["metadata"]["creationTimestamp"],
        }
    ]
