"""`blemish methods`: lists the methods with their arguments."""

import sys
from typing import TYPE_CHECKING, Any

import click

from blemish.cli.options import json_option
from blemish.cli.wide_text import wrap
from blemish.messages import message

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
        "summary": summary(method),
        "arguments": {one.name: one.default for one in method.declared.arguments.values()},
        "schema": method.declared.model.model_json_schema(),
        "presets": presets,
        "needs_backbone": "backbone" in method.declared.arguments,
        "auxiliary_use": method.auxiliary_use,
        "exports": method.exports,
    }


def summary(method: "type[Method]") -> str:
    """The first line of a method's page of code, in English."""
    text = sys.modules[method.__module__].__doc__ or method.__doc__ or ""
    return text.strip().partition("\n")[0]


def _as_text(name: str, method: "type[Method]", *, details: bool) -> str:
    declared = list(method.declared.arguments.values())
    texts = [name, message(summary(method))]
    if details:
        texts += [message("arguments:"), *map(_explained, declared)]
    else:
        listed = " ".join(f"{one.name}={_value(one.default)}" for one in declared)
        texts.append(message("arguments: {arguments}", arguments=listed))
    if method.presets:
        texts.append(message("presets: {presets}", presets=", ".join(method.presets)))
    needs_backbone = "backbone" in method.declared.arguments
    texts += [
        message("pretrained backbone" if needs_backbone else "no pretrained weights")
        + message(", exports to ONNX" if method.exports else ", does not export to ONNX")
    ]
    if method.auxiliary_use:
        texts.append(message("auxiliary images: {use}", use=message(method.auxiliary_use)))
    return "\n  ".join(texts)


def _explained(one: "Argument") -> str:
    meaning = "\n".join(f"      {line}" for line in wrap(message(one.meaning), 104))
    return f"  {one.name}={_value(one.default)} ({one.expected})\n{meaning}"


def _value(value: Any) -> str:
    """The value in the notation of `--set name=value`."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
