"""What an Accept header takes."""

import pytest

from niximage.gateway.accept import accepts

STORED = "application/vnd.oci.image.manifest.v1+json"
OTHER = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ([], True),
        ([""], True),
        (["*/*"], True),
        (["application/*"], True),
        ([STORED], True),
        ([STORED.upper()], True),
        ([f"{OTHER}, {STORED};q=0.5"], True),
        ([OTHER, STORED], True),
        ([f"{STORED} ; q=0.001"], True),
        ([OTHER], False),
        (["text/*"], False),
        ([f"{STORED};q=0"], False),
        ([f"*/*, {STORED};q=0"], False),
        ([f"application/*;q=0, {STORED}"], True),
        (["application/*;q=0, */*"], False),
        ([f"{STORED};q=much"], False),
        (["application/json"], False),
    ],
)
def test_whether_it_takes_what_is_stored(headers: list[str], taken: bool) -> None:
    assert accepts(headers, STORED) is taken
