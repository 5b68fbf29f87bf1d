"""`blemish replay`: which verdicts other rules would change."""

import json
from pathlib import Path

import click

from blemish.cli.options import json_option, runtime_options

EXAMPLES = """\b
blemish inspect bottle.blemish new/ --json > results.jsonl
blemish replay bottle.blemish results.jsonl --rules new.toml
"""


@click.command("replay", short_help="Show which verdicts other rules would change.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--rules",
    "new",
    type=click.Path(path_type=Path),
    help="The rules to try, a TOML file; without it, those of the model.",
)
@json_option
@runtime_options
def command(model: Path, results: Path, new: Path | None, as_json: bool, runtime: str, device: str) -> None:
    """Inspect the images of RESULTS again with MODEL by other rules, and list the verdicts that change.

    RESULTS is what blemish inspect --json printed. The model is not changed.
    """
    from blemish.model import load
    from blemish.progress import progress_bars
    from blemish.rules import read_rules
    from blemish.workflow.replay import replay

    loaded = load(model, runtime=runtime, device=device)
    rules = loaded.manifest.rules if new is None else read_rules(new)
    with progress_bars() as progress:
        found = replay(loaded, results, rules, progress)
    if as_json:
        for one in found.images:
            click.echo(json.dumps(one.to_dict()))
    else:
        click.echo(str(found))
