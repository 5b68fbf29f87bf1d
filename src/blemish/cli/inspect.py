"""`blemish inspect`: verdicts on new images, and heat maps."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blemish.cli.options import json_option, print_device, runtime_options
from blemish.messages import message

if TYPE_CHECKING:
    from blemish.inspection.result import Inspection, Unreadable

FAILED, FOUND = 1, 3
"""Exit codes: an image has no verdict or no heat map; an image is what `--fail-on` says, which comes first."""

COLOURS = {"OK": "green", "REVIEW": "yellow", "NG": "red", "INVALID": "magenta"}

EXAMPLES = """\b
blemish inspect bottle.blemish new/ -o heatmaps
blemish inspect bottle.blemish part.png --json --fail-on ng
"""


@click.command("inspect", short_help="Inspect new images: OK or NG, and regions.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a heat map of every image there, NAME_heatmap.jpg, in the same subfolders as the images. "
    "Heat maps of an earlier inspection are not inspected.",
)
@json_option
@click.option(
    "--fail-on",
    type=click.Choice(["ng", "not-ok"], case_sensitive=False),
    help="Exit with code 3 if any image is NG, or anything but OK, also if others failed.",
)
@runtime_options
def command(
    model: Path,
    paths: tuple[Path, ...],
    output: Path | None,
    as_json: bool,
    fail_on: str | None,
    runtime: str,
    device: str,
) -> None:
    """Inspect images with MODEL. Each PATH is an image, or a folder that is searched with its subfolders.

    Prints a line for every image; with --json, a JSON object on each line. An image that cannot be read or scored,
    and a heat map that cannot be written, is reported, the others are inspected, and the exit code is 1.
    """
    from blemish.data.find import find_images
    from blemish.errors import DataError
    from blemish.inspection.heatmap_files import is_heat_map, plan_heat_maps
    from blemish.inspection.result import Inspection
    from blemish.model import load
    from blemish.progress import progress_bars
    from blemish.types import no_progress

    loaded = load(model, runtime=runtime, device=device)
    print_device(loaded)
    found = find_images(paths, skip=output)
    images = {path: root for path, root in found.items() if path in paths or not is_heat_map(path)}
    try:
        files = {} if output is None else plan_heat_maps(images, output)
    except DataError as error:
        raise click.BadParameter(str(error), param_hint="-o") from error
    results = _with_heat_maps(loaded.inspect_many(images), files)
    certificate = loaded.manifest.certificate
    certified = None if certificate is None else certificate.brief(loaded.manifest.policy)
    done = failed = found_bad = 0
    bad = {"ng": ("NG",), "not-ok": ("NG", "REVIEW", "INVALID"), None: ()}[fail_on]
    # On a terminal the lines show the progress; a bar between them would flicker.
    with nullcontext(no_progress) if sys.stdout.isatty() else progress_bars() as progress:
        for result, problem in results:
            _print(result, as_json, certified)
            if problem:
                click.echo(message("Error: {error}", error=problem), err=True)
            done += 1
            failed += bool(problem) or not isinstance(result, Inspection)
            found_bad += isinstance(result, Inspection) and result.verdict in bad
            progress("inspecting", done, len(images))
            del result  # frees a large image while the next is scored
    if found_bad:
        click.get_current_context().exit(FOUND)
    if failed:
        click.get_current_context().exit(FAILED)


def _with_heat_maps(
    results: "Iterator[Inspection | Unreadable]", files: Mapping[Path, Path]
) -> "Iterator[tuple[Inspection | Unreadable, str | None]]":
    """The results in order, each after its heat map was written in a thread, and why it was not."""
    from blemish.data.loading import prefetch
    from blemish.errors import DataError
    from blemish.inspection.result import Inspection

    def save(result: "Inspection | Unreadable") -> "tuple[Inspection | Unreadable, str | None]":
        if not (files and isinstance(result, Inspection) and result.path is not None):
            return result, None
        try:
            result.save(files[result.path])
        except DataError as error:
            reason = message("{error}", error=error)
        except OSError as error:
            reason = message(
                "{error}. Check the folder, its permissions and the disk.", error=error.strerror or error
            )
        else:
            return result, None
        text = message("The heat map of {path} was not written: {reason}", path=result.path, reason=reason)
        return result, text

    def size_of(result: "Inspection | Unreadable") -> int:
        return 3 * result.image.nbytes if isinstance(result, Inspection) else 0

    return prefetch(results, save, size_of=size_of) if files else map(save, results)


def _print(result: "Inspection | Unreadable", as_json: bool, certified: dict[str, Any] | None) -> None:
    from blemish.inspection.result import Unreadable

    if as_json:
        more = {} if isinstance(result, Unreadable) else {"certificate": certified}
        click.echo(json.dumps(result.to_dict() | more))
    elif isinstance(result, Unreadable):
        click.echo(message("Error: {error}", error=result.error), err=True)
    else:
        verdict = click.style(result.verdict, fg=COLOURS[result.verdict], bold=True)
        click.echo(
            f"{verdict} "
            + message(
                "{score:.4g} (threshold {threshold:.4g}) regions {regions} {path}",
                score=result.score,
                threshold=result.threshold,
                regions=len(result.regions),
                path=str(result.path),
            )
            + (f" – {result.reason}" if result.reason else "")
        )
