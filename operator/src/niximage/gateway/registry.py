"""The handlers: one per endpoint of the distribution-spec's read side."""

import json
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import hdrs, web

from niximage.bucket.manifest import media_type
from niximage.gateway import routes
from niximage.gateway.accept import accepts
from niximage.gateway.backend import Backend, page
from niximage.gateway.blobs import Blobs
from niximage.gateway.problems import Problem
from niximage.gateway.protocol import Replayable
from niximage.gateway.ranges import etag_matches
from niximage.image.descriptor import INDEX

METHODS: Final = ("GET", "HEAD")
PAGE_LIMIT: Final = 10_000  # names in one answer to tags/list

_DIGEST_HEADER: Final = "Docker-Content-Digest"
_FOR_EVER: Final = "max-age=31536000, immutable"  # what a digest names never changes
_ALWAYS_ASK: Final = "no-cache"


class Registry:
    """Answers requests below `/v2` from a bucket."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._blobs = Blobs(backend)

    async def answer(self, request: web.BaseRequest, route: routes.Route) -> web.StreamResponse:
        """Answer a GET or a HEAD.

        Raises:
            Problem: what was asked for is not there, or makes no sense.
            Retryable: the bucket cannot be read now.
        """
        match route:
            case routes.Base():
                return _json({})
            case routes.ManifestByDigest(repository, digest):
                return await self._manifest(request, repository, digest, _FOR_EVER)
            case routes.ManifestByTag(repository, tag):
                found = await self._backend.tag(repository, tag)
                if found is None:
                    raise await self._unknown(repository, "MANIFEST_UNKNOWN", {"tag": tag})
                return await self._manifest(request, repository, found, _ALWAYS_ASK)
            case routes.Blob(repository, digest):
                return await self._blob(request, repository, digest)
            case routes.Tags(repository):
                return await self._tags(request, repository)
            case routes.Referrers(repository, digest):
                return await self._referrers(request, repository, digest)

    async def _manifest(
        self, request: web.BaseRequest, repository: str, digest: str, caching: str
    ) -> web.StreamResponse:
        content = await self._backend.manifest(repository, digest)
        if content is None:
            raise await self._unknown(repository, "MANIFEST_UNKNOWN", {"digest": digest})
        stored = media_type(content)
        if not accepts(request.headers.getall(hdrs.ACCEPT, ()), stored):
            # As Distribution answers: a manifest is never made into one of another type.
            raise Problem(
                404,
                "MANIFEST_UNKNOWN",
                f"the manifest is there, but the Accept header does not name its type, {stored}",
                {"digest": digest, "mediaType": stored},
            )
        headers = {**_identity(digest, caching), hdrs.VARY: hdrs.ACCEPT}
        response: web.Response = web.Response() if caching == _ALWAYS_ASK else Replayable()
        if etag_matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
            response.set_status(304)
        else:
            response.body = content
            response.content_type = stored
        response.headers.update(headers)
        return response

    async def _blob(
        self, request: web.BaseRequest, repository: str, digest: str
    ) -> web.StreamResponse:
        size = await self._backend.blob_size(repository, digest)
        if size is None:
            raise await self._unknown(repository, "BLOB_UNKNOWN", {"digest": digest})
        headers = _identity(digest, _FOR_EVER)
        if etag_matches(request.headers.get(hdrs.IF_NONE_MATCH), headers[hdrs.ETAG]):
            return web.Response(status=304, headers=headers)
        return await self._blobs.answer(request, digest, size, headers)

    async def _tags(self, request: web.BaseRequest, repository: str) -> web.Response:
        limit, last = _limit(request.query.get("n")), request.query.get("last")
        names = await self._backend.tags(repository)
        if not names and not await self._backend.has_repository(repository):
            raise _name_unknown(repository)
        shown, more = page(names, last=last, limit=limit)
        response = _json({"name": repository, "tags": shown})
        if more and shown:
            query = urlencode({"n": limit, "last": shown[-1]})
            response.headers[hdrs.LINK] = f'</v2/{repository}/tags/list?{query}>; rel="next"'
        return response

    async def _referrers(
        self, request: web.BaseRequest, repository: str, digest: str
    ) -> web.Response:
        """An index, empty where nothing is known: the spec wants no 404 here."""
        found = await self._backend.referrers(repository, digest)
        kinds = set(request.query.getall("artifactType", []))
        shown = [each.to_json() for each in found if not kinds or each.artifact_type in kinds]
        response = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": shown}, INDEX)
        if kinds:
            response.headers["OCI-Filters-Applied"] = "artifactType"
        return response

    async def _unknown(self, repository: str, code: str, detail: dict[str, str]) -> Problem:
        if not await self._backend.has_repository(repository):
            return _name_unknown(repository)
        what = "blob" if code == "BLOB_UNKNOWN" else "manifest"
        return Problem(404, code, f"{repository} has no such {what}", detail)


def _name_unknown(repository: str) -> Problem:
    return Problem(
        404, "NAME_UNKNOWN", "nothing was published to this repository", {"name": repository}
    )


def _identity(digest: str, caching: str) -> dict[str, str]:
    return {
        _DIGEST_HEADER: digest,
        hdrs.ETAG: f'"{digest}"',
        hdrs.CACHE_CONTROL: caching,
    }


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 18):  # noqa: PLR2004 (64 bits)
        raise Problem(400, "PAGINATION_NUMBER_INVALID", "n is a number, 0 or more", {"n": text})
    return min(int(text), PAGE_LIMIT)


def _json(document: dict[str, Any], content_type: str = "application/json") -> web.Response:
    return web.Response(body=json.dumps(document).encode(), content_type=content_type)
