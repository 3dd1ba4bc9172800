"""URLs that let anybody read one object of Google Cloud Storage for a while (V4 signatures).

A registry that sends clients there moves no bytes itself. The signature is made by the key of a
service account: here, if its key file is at hand, and else by Google's IAM, which signs for a
service account that runs this and may `iam.serviceAccounts.signBlob` for itself.
"""

import contextlib
import datetime as dt
import os
from typing import Any, Final

import google.auth.credentials
import google.auth.iam
import google.auth.transport.requests
import requests
from google.auth.credentials import AnonymousCredentials
from google.oauth2 import service_account

GOOGLE: Final = "https://storage.googleapis.com"
KEY_FILE: Final = "GOOGLE_APPLICATION_CREDENTIALS"

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)


class Signer:
    """Signs URLs of objects.

    Args:
        credentials: what the bucket is read with.
        emulator: the URL of an emulator, for which a key file signs if there is one; "" for
            Google itself.
        session: what asks IAM; its own by default.
    """

    def __init__(
        self, credentials: Any, emulator: str = "", session: requests.Session | None = None
    ) -> None:
        self._endpoint = emulator.rstrip("/") or GOOGLE
        self._request = google.auth.transport.requests.Request(session)
        key_file = os.environ.get(KEY_FILE)
        if isinstance(credentials, AnonymousCredentials) and key_file:
            with contextlib.suppress(OSError, ValueError):  # another kind of file: cannot sign
                credentials = service_account.Credentials.from_service_account_file(key_file)  # type: ignore[no-untyped-call]
        self._credentials = credentials

    def url(self, blob: Any, lifetime: float) -> str | None:
        """Where anybody may read an object for so many seconds; None if nobody here can sign.

        Raises:
            GoogleAuthError: IAM refuses, or does not answer.
        """
        credentials = self._signing()
        if credentials is None:
            return None
        return str(
            blob.generate_signed_url(
                version="v4",
                method="GET",
                expiration=dt.timedelta(seconds=lifetime),
                credentials=credentials,
                api_access_endpoint=self._endpoint,
            )
        )

    def _signing(self) -> Any:
        """Credentials that sign, or None."""
        if isinstance(self._credentials, google.auth.credentials.Signing):
            return self._credentials
        if isinstance(self._credentials, AnonymousCredentials):
            return None
        asking = google.auth.credentials.with_scopes_if_required(self._credentials, _SCOPES)  # type: ignore[no-untyped-call]
        if not asking.valid:
            asking.refresh(self._request)  # only now the metadata server tells whose they are
        email = getattr(asking, "service_account_email", None)
        if not email or email == "default":
            return None  # a user, or a workload that stands for no service account
        signer = google.auth.iam.Signer(self._request, asking, email)  # type: ignore[no-untyped-call]
        return service_account.Credentials(signer, email, "")  # type: ignore[no-untyped-call]
