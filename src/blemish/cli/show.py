"""`blemish show`: prints the manifest of a saved model."""

from pathlib import Path

import click

from blemish.cli.options import json_option

EXAMPLES = """\b
blemish show bottle.blemish
"""


@click.command("show", short_help="Show a model's method, thresholds and data.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@json_option
def command(model: Path, as_json: bool) -> None:
    """Show the method, arguments, preprocessing, thresholds and training data of MODEL."""
    from blemish.manifest import read_manifest

    manifest = read_manifest(model)
    if as_json:
        import json

        click.echo(json.dumps(manifest.to_dict()))
    else:
        click.echo(manifest.describe())
