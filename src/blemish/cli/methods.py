"""`blemish methods`: lists the methods with their arguments."""

import sys
from typing import TYPE_CHECKING, Any

import click

from blemish.cli.options import json_option

if TYPE_CHECKING:
    from blemish.methods.arguments import Argument
    from blemish.methods.base import Method

EXAMPLES = """\b
blemish methods
blemish methods patchcore
"""


@click.command("methods", short_help="List the methods and their arguments.", epilog=EXAMPLES)
@click.argument("names", nargs=-1, metavar="[METHOD]...")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the methods, including those of installed plug-ins; with METHOD, explain its arguments.

    `fit --set` takes these arguments.
    """
    from blemish.plugins import find_method, method_names

    methods = {name: find_method(name) for name in names or method_names()}
    if as_json:
        import json

        click.echo(json.dumps([describe(name, method) for name, method in methods.items()]))
    else:
        click.echo(
            "\n\n".join(_as_text(name, method, details=bool(names)) for name, method in methods.items())
        )


def describe(name: str, method: "type[Method]") -> dict[str, Any]:
    """A method class as values that JSON can hold; `schema` is the JSON schema of its arguments."""
    presets = {
        preset: {"arguments": dict(values.arguments), "preprocess": dict(values.preprocess)}
        for preset, values in method.presets.items()
    }
    return {
        "name": name,
        "summary": _summary(method),
        "arguments": {one.name: one.default for one in method.declared.arguments.values()},
        "schema": method.declared.model.model_json_schema(),
        "presets": presets,
        "needs_backbone": "backbone" in method.declared.arguments,
        "auxiliary_use": method.auxiliary_use,
        "exports": method.exports,
    }


def _summary(method: "type[Method]") -> str:
    text = sys.modules[method.__module__].__doc__ or method.__doc__ or ""
    return text.strip().partition("\n")[0]


def _as_text(name: str, method: "type[Method]", *, details: bool) -> str:
    declared = list(method.declared.arguments.values())
    backbone = "pretrained backbone" if "backbone" in method.declared.arguments else "no pretrained weights"
    lines = [name, _summary(method)]
    if details:
        lines += ["arguments:", *map(_explained, declared)]
    else:
        lines.append(f"arguments: {' '.join(f'{one.name}={_value(one.default)}' for one in declared)}")
    if method.presets:
        lines.append(f"presets: {', '.join(method.presets)}")
    lines.append(f"{backbone}, {'exports' if method.exports else 'does not export'} to ONNX")
    if method.auxiliary_use:
        lines.append(f"auxiliary images: {method.auxiliary_use}")
    return "\n  ".join(lines)


def _explained(one: "Argument") -> str:
    meaning = click.wrap_text(one.meaning, 110, "      ", "      ")
    return f"  {one.name}={_value(one.default)} ({one.expected})\n{meaning}"


def _value(value: Any) -> str:
    """The value in the notation of `--set name=value`."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
