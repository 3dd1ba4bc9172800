"""`niximage crds`: the CustomResourceDefinitions, printed, written or compared."""

from pathlib import Path

import typer

from niximage.api.crd import crds, to_yaml
from niximage.errors import Reason, Terminal


def run(*, write: Path | None, check: Path | None) -> None:
    """Print the CRDs, or write or compare the files in a folder.

    Raises:
        Terminal: `check` was given, and a file is missing or differs; or the files cannot be
            written.
    """
    # In UTF-8, whatever the locale: what reads them takes nothing else.
    files = {f"{crd['metadata']['name']}.yaml": to_yaml(crd).encode() for crd in crds()}
    if check is not None:
        for name, content in files.items():
            path = check / name
            if not path.is_file() or _read(path) != content:
                raise Terminal(
                    Reason.INVALID_SPEC,
                    f"{path} is not what the models say",
                    hint=f"Run: niximage crds --write {check}",
                )
            typer.echo(f"{path} is up to date")
    elif write is not None:
        try:
            write.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (write / name).write_bytes(content)
                typer.echo(f"wrote {write / name}")
        except OSError as error:
            raise Terminal(
                Reason.INVALID_SPEC,
                f"{write} cannot be written: {error.strerror}",
                hint="Name a folder with --write",
            ) from None
    else:
        typer.echo(b"---\n".join(files.values()), nl=False)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Terminal(
            Reason.INVALID_SPEC, f"{path} cannot be read: {error.strerror or error}"
        ) from None
