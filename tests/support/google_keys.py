"""Key files of a Google service account that nobody has."""

import json
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

EMAIL: Final = "gateway@project.iam.gserviceaccount.com"


def write_key_file(path: Path, key: rsa.RSAPrivateKey) -> Path:
    """Write a key as Google hands it out."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    document = {
        "type": "service_account",
        "client_email": EMAIL,
        "private_key": pem.decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    path.write_text(json.dumps(document))
    return path
