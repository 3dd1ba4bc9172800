"""Names of store paths, read as Nix reads them."""

import pytest

from niximage.image.package_name import PackageName


@pytest.mark.parametrize(
    ("name", "expected", "shown"),
    [
        ("hello-2.12.1", PackageName("hello", "2.12.1"), "hello"),
        ("curl-8.11.0-bin", PackageName("curl", "8.11.0", "bin"), "curl (bin)"),
        ("glibc-2.40-36", PackageName("glibc", "2.40-36"), "glibc"),
        ("python3.12-requests-2.32.3", PackageName("python3.12-requests", "2.32.3"), None),
        ("source", PackageName("source"), "source"),
        ("x-unstable-2024-01-01", PackageName("x-unstable", "2024-01-01"), "x-unstable"),
        ("gcc-13.3.0-libgcc", PackageName("gcc", "13.3.0", "libgcc"), "gcc (libgcc)"),
    ],
)
def test_names_are_read_as_nix_reads_them(
    name: str, expected: PackageName, shown: str | None
) -> None:
    assert PackageName.of(name) == expected
    assert str(PackageName.of(name)) == (shown or expected.name)
