"""YAML files as hostile people write them: each is read or refused in a moment, in few words."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.api.image import load_file
from niximage.api.yaml_file import FILE_LIMIT, load_yaml
from niximage.errors import Reason, Terminal

IMAGE = """\
apiVersion: niximage.dev/v1alpha1
kind: NixImage
metadata: {name: web}
spec:
  packages: [hello]
  source: {nixpkgs: {channel: nixos-26.05}}
"""


def laughs(levels: int) -> str:
    """A list of ten to the power of so many in a few lines; it is `*a`."""
    lines = [f"z{n}: &z{n} [{', '.join([f'*z{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(["z0: &z0 [x]", *lines, f"z: &a [*z{levels - 1}]", ""])


def merges(levels: int) -> str:
    """Mappings that each merge the one before ten times."""
    lines = [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, levels)]
    return "\n".join(["m0: &m0 {a: 1}", *lines, ""])


BOMBS: dict[str, str] = {
    "aliases of aliases": laughs(12) + IMAGE,
    "aliases for a kind": laughs(12) + "kind: *a\napiVersion: v1\n",
    "aliases for labels": laughs(12) + IMAGE + "  config: {labels: *a, env: *a, cmd: *a}\n",
    "merges of merges": merges(16) + IMAGE,
    "nested lists": IMAGE + f"x: {'[' * 100_000}",
    "nested mappings": "{a: " * 100_000,
    "itself": IMAGE.replace("spec:", "spec: &s") + "  config: *s\n",
    "very many keys": IMAGE + "".join(f"k{n}: 1\n" for n in range(90_000)),
    "many keys": IMAGE + "".join(f"k{n}: 1\n" for n in range(900)),
    "a long number": IMAGE + f"x: {'9' * 900_000}\n",
    "a number in sixties": IMAGE + f"x: 1{':59' * 100_000}\n",
    "a long number by its tag": IMAGE + f"x: !!int 1{':59' * 10_000}\n",
    "no date": IMAGE + "x: !!timestamp 2026-99-99\n",
    "no truth": IMAGE + "x: !!bool perhaps\n",
    "code": IMAGE + "x: !!python/object/apply:os.system [id]\n",
    "the same key twice": IMAGE + "spec: {}\n",
    "a list for a key": IMAGE + "? [a]\n: b\n",
    "two documents": f"{IMAGE}---\n{IMAGE}",
    "a control character": IMAGE + '"\\x1b[31m": 1\n',
    "too large": "#" * (FILE_LIMIT + 1),
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_at_once_and_in_few_words(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(Terminal) as caught:
        load_file(text, "web.yaml")
    assert time.monotonic() - start < 20
    assert caught.value.reason is Reason.INVALID_SPEC
    assert "web.yaml" in caught.value.message
    assert len(caught.value.message) < 10_000
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("2026-05-04", "2026-05-04"),
        ("80", 80),
        ("-0x1f", -31),
        ("0755", 493),
        ("1.5", 1.5),
        ("yes", True),
        ("~", None),
        ("9" * 30, "9" * 30),
        ("&a {x: 1, y: [*a]}", None),
        ("{<<: {a: 1, b: 1}, b: 2}", {"a": 1, "b": 2}),
    ],
)
def test_plain_values_are_what_kubernetes_takes_them_for(text: str, value: object) -> None:
    found = load_yaml(text)
    assert found == value or (text.startswith("&") and found["y"][0] is found)


@given(st.text(alphabet=st.sampled_from("ab:-?[]{}&*!|>'\"%@`#, \n\t<=0.~"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        load_yaml(text)
