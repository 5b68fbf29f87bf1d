"""`blemish methods`: the methods there are, with their arguments."""

import sys
from inspect import Parameter, signature
from typing import Any

import click

from blemish.cli.options import json_option

EXAMPLES = """\b
blemish methods
"""


@click.command("methods", short_help="List the methods and their arguments.", epilog=EXAMPLES)
@json_option
def command(as_json: bool) -> None:
    """List the methods, those of installed plug-ins too, with the arguments that `fit --set` takes."""
    from blemish.plugins import find_method, method_names

    described = [describe(name, find_method(name)) for name in method_names()]
    if as_json:
        import json

        click.echo(json.dumps(described))
    else:
        click.echo("\n\n".join(map(_as_text, described)))


def describe(name: str, method: Any) -> dict[str, Any]:
    """A method class in data, ready for JSON."""
    text = sys.modules[method.__module__].__doc__ or method.__doc__ or ""
    arguments = {
        argument.name: None if argument.default is Parameter.empty else argument.default
        for argument in signature(method).parameters.values()
    }
    presets = {
        preset: {"arguments": dict(values.arguments), "preprocess": dict(values.preprocess)}
        for preset, values in method.presets.items()
    }
    return {
        "name": name,
        "summary": text.strip().partition("\n")[0],
        "arguments": arguments,
        "presets": presets,
        "needs_backbone": "backbone" in arguments,
        "auxiliary_use": method.auxiliary_use,
        "exports": method.exports,
    }


def _as_text(method: dict[str, Any]) -> str:
    arguments = " ".join(f"{name}={_value(value)}" for name, value in method["arguments"].items())
    backbone = "pretrained backbone" if method["needs_backbone"] else "no pretrained weights"
    export = "exports to ONNX" if method["exports"] else "does not export to ONNX"
    lines = [method["name"], method["summary"], f"arguments: {arguments}", f"{backbone}, {export}"]
    if method["presets"]:
        lines.insert(3, f"presets: {', '.join(method['presets'])}")
    if method["auxiliary_use"]:
        lines.append(f"auxiliary images: {method['auxiliary_use']}")
    return "\n  ".join(lines)


def _value(value: Any) -> str:
    """As it would be written after `--set name=`."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
