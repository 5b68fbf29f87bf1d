"""`blemish show`: what a saved model is made of."""

from pathlib import Path

import click

from blemish.cli.options import json_option

EXAMPLES = """\b
blemish show bottle.blemish
"""


@click.command("show", short_help="Say what a model is made of.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@json_option
def command(model: Path, as_json: bool) -> None:
    """Say what MODEL is made of: method, arguments, preprocessing, thresholds, data."""
    from blemish.manifest import read_manifest

    manifest = read_manifest(model)
    if as_json:
        import json

        click.echo(json.dumps(manifest.to_dict()))
    else:
        click.echo(manifest.describe())
