"""`blemish show`: what a saved model is made of."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blemish.cli.options import json_option

if TYPE_CHECKING:
    from blemish.manifest import Manifest

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
        click.echo(describe(manifest))


def describe(manifest: "Manifest") -> str:
    """One line for each thing."""
    preprocess, calibration, data = manifest.preprocess, manifest.calibration, manifest.data
    height, width = preprocess.size
    crop = "" if preprocess.crop is None else f", the middle {preprocess.crop[0]} × {preprocess.crop[1]} kept"
    lines = {
        "method": manifest.method,
        **{f"  {name}": value for name, value in manifest.arguments.items()},
        "category": data.category or "–",
        "learned from": f"{data.learned_from} images (seed {manifest.seed})",
        "held out": f"{data.held_out} images",
        "skipped": f"{data.skipped} unreadable images",
        "data": f"fingerprint {data.fingerprint[:16]}",
        "input": f"{height} × {width} pixels (height × width), {preprocess.resize}{crop}",
        "image threshold": f"{calibration.image_threshold:.6g}",
        "pixel threshold": f"{calibration.pixel_threshold:.6g}",
        "": calibration.summary(),
        "files": ", ".join(manifest.files),
        "written by": f"blemish {manifest.blemish}, format {manifest.format}",
    }
    return "\n".join(f"{name:<17} {value}" for name, value in lines.items())
