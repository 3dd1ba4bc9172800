"""Options that go together: declared once, as the fields of a dataclass.

A command takes such a dataclass as one parameter; typer sees its fields as options.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are dataclasses appear as one option per field.

    Args:
        command: takes keyword arguments; its dataclasses have typer's annotations on fields.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for given in inspect.signature(command).parameters.values():
        kind = hints[given.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            groups[given.name] = kind
            parameters += _options(kind)
        else:
            parameters.append(given.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def call(**given: Any) -> None:
        for name, kind in groups.items():
            options = {field.name: given.pop(field.name) for field in dataclasses.fields(kind)}
            given[name] = kind(**options)
        command(**given)

    shown: Any = call
    del shown.__wrapped__  # typer is to see the options, not the dataclasses
    shown.__signature__ = inspect.Signature(parameters)
    shown.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def _options(kind: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty
            if field.default is dataclasses.MISSING
            else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]
