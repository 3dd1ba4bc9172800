"""Credentials for the publish step alone, without a key: workload identity federation. Pure.

A cloud's metadata server answers every container of a pod, also the one that runs what tenants
wrote. So `publish` gets a token of its pod's ServiceAccount, in a volume of its own, and exchanges
it for the cloud's; a NetworkPolicy can then deny the whole pod the metadata server.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from niximage.errors import Reason, Terminal

ANNOTATION: Final = "niximage.dev/credentials"
FOLDER: Final = "/var/run/niximage"
VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
TOKEN_SECONDS: Final = 3600  # the kubelet renews it before
LIMIT: Final = 16 << 10  # bytes of a configuration

_KIND: Final = "external_account"
_FILE: Final = "credentials.json"
_TOKEN: Final = "token"  # noqa: S105 (a file's name)
_POOL: Final = "//iam.googleapis.com/"
_HINT: Final = (
    "Make it with: gcloud iam workload-identity-pools create-cred-config PROVIDER"
    " --credential-source-file=token --output-file=credentials.json"
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Federation:
    """How a token of a ServiceAccount is exchanged.

    Attributes:
        configuration: what Google's libraries read, as JSON; it holds no secret.
        audience: whom the token is made for.
    """

    configuration: str
    audience: str

    def volume(self, name: str) -> Json:
        """The volume with the token and the configuration that names it."""
        token = {
            "audience": self.audience,
            "expirationSeconds": TOKEN_SECONDS,
            "path": _TOKEN,
        }
        field = {"fieldPath": f"metadata.annotations['{ANNOTATION}']"}
        configuration = {"items": [{"path": _FILE, "fieldRef": field}]}
        sources = [{"serviceAccountToken": token}, {"downwardAPI": configuration}]
        return {"name": name, "projected": {"defaultMode": 0o440, "sources": sources}}

    @property
    def environment(self) -> dict[str, str]:
        """Where Google's libraries look for the configuration."""
        return {VARIABLE: f"{FOLDER}/{_FILE}"}


def parse_federation(text: str) -> Federation | None:
    """Read a credential configuration, as gcloud writes it; "" for none.

    Where it says that the token comes from does not matter: here it comes from the volume.

    Raises:
        Terminal: it is none of workload identity federation, or holds a key.
    """
    if not text:
        return None
    if len(text.encode()) > LIMIT:
        raise _wrong(f"larger than {LIMIT} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong("not JSON") from None
    if not isinstance(document, dict) or document.get("type") != _KIND:
        raise _wrong(f'not of the type "{_KIND}"; keys do not belong into pods')
    audience, exchange = document.get("audience"), document.get("token_url")
    if not isinstance(audience, str) or not audience.startswith(_POOL):
        raise _wrong(f"without an audience that begins with {_POOL}")
    if not isinstance(exchange, str) or not exchange.startswith("https://"):
        raise _wrong("without an https:// token_url")
    document["credential_source"] = {"file": f"{FOLDER}/{_TOKEN}", "format": {"type": "text"}}
    return Federation(json.dumps(document, sort_keys=True), f"https:{audience}")


def _wrong(what: str) -> Terminal:
    return Terminal(
        Reason.INVALID_SPEC, f"the credential configuration of publish is {what}", hint=_HINT
    )
