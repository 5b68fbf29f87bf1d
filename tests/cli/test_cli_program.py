"""The program around the commands: help, version, errors, warnings, Ctrl-C."""

import os
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

import blemish
from blemish.cli.main import COMMANDS
from blemish.cli.main import blemish as program
from blemish.data.layouts import LAYOUTS
from blemish.errors import BlemishWarning

Run = Callable[..., Result]


def test_help_lists_every_command(run: Run) -> None:
    result = run("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    listed = result.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert tuple(line.split()[0] for line in listed) == COMMANDS
    assert all(line.endswith(".") for line in listed)  # not cut short
    assert run().stdout == result.stdout
    assert run("-h").stdout == result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_holds_an_example_that_parses(run: Run, name: str) -> None:
    text = run(name, "--help").stdout
    examples = [line.split() for line in text.splitlines() if line.startswith(f"  blemish {name}")]
    command = program.get_command(click.Context(program), name)
    assert command is not None
    assert examples
    for example in examples:
        command.make_context(name, example[2:])


def test_help_of_fit_names_every_layout(run: Run) -> None:
    text = " ".join(run("fit", "--help").stdout.split())
    *others, last = LAYOUTS
    assert f"{', '.join(others)} or {last};" in text


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"blemish, version {blemish.__version__}\n"


def test_python_m_blemish() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "blemish", "evaluat"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: blemish [OPTIONS] [COMMAND] [ARGS]...\n")
    assert "No such command 'evaluat'. Did you mean 'evaluate'?" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [
        (">&-", 1, "Error: The standard output is closed. Redirect it to a file, or to the null device.\n"),
        ("2>&-", 0, ""),
        (">&- 2>&-", 1, ""),
    ],
)
def test_closed_streams(closed: str, code: int, said: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m blemish methods {closed}"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (code, said)
    assert bool(result.stdout) == (code == 0)


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_work_is_done_with_a_closed_standard_error(made: Path, fitted: Path, tmp_path: Path) -> None:
    program = f"{shlex.quote(sys.executable)} -m blemish"
    part, new = next((made / "flat").iterdir()), tmp_path / "new.model"
    for command in (
        f"inspect {fitted} {part}",
        f"fit variation {made}/masked -o {new} --image-size 48x64",
        f"evaluate {fitted} {made}/masked",
    ):
        closed = f"{program} {command} 2>&-"
        result = subprocess.run(["sh", "-c", closed], capture_output=True, text=True, check=False)
        assert result.returncode == 0, command
        assert result.stdout, command
    assert (new / "manifest.json").is_file()


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_results_are_stored_although_nobody_reads_the_output(
    made: Path, fitted: Path, tmp_path: Path
) -> None:
    program = f"{shlex.quote(sys.executable)} -m blemish"
    command = f"{program} evaluate {fitted} {made}/masked --csv {tmp_path}/scores.csv | true"
    subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert len((tmp_path / "scores.csv").read_text("utf-8-sig").splitlines()) > 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", ["--help", "--version", "methods", "methods --help"])
def test_a_full_standard_output_is_one_sentence(arguments: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m blemish {arguments} >/dev/full"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    said = "Error: No space left on device. Check the path, its permissions and the disk.\n"
    assert (result.returncode, result.stderr) == (1, said)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_standard_error_costs_no_verdict(made: Path, fitted: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    shutil.copy(next((made / "flat").iterdir()), tmp_path / "b.png")
    paths = " ".join(shlex.quote(str(path)) for path in (fitted, tmp_path))
    command = f"{shlex.quote(sys.executable)} -m blemish inspect {paths} 2>/dev/full"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout.splitlines()[0].endswith("b.png")


def test_interrupted_save_leaves_nothing(
    run: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("blemish.model.write_manifest", interrupt)
    result = run("fit", "variation", made / "flat", "-o", "m", "--image-size", "32")
    assert result.exit_code == 130
    assert "Learned" not in result.stdout
    assert result.stderr == "Interrupted; no file was left incomplete.\n"
    assert list(tmp_path.iterdir()) == []


def test_error_of_the_system_is_one_sentence(run: Run, made: Path, fitted: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run("evaluate", fitted, made / "plain", "--report", "file/report.html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: File exists: file. Check the path, its permissions and the disk.\n"


def test_warnings_are_sentences(run: Run, fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(_: object) -> str:
        warnings.warn("Mind the gap.", BlemishWarning, stacklevel=1)
        return "shown"

    monkeypatch.setattr("blemish.manifest.Manifest.describe", warn)
    result = run("show", fitted)
    assert (result.stdout, result.stderr) == ("shown\n", "Warning: Mind the gap.\n")


def test_defects_of_blemish_itself_are_not_hidden(
    run: Run, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("blemish.manifest.Manifest.describe", fail)
    with pytest.raises(ZeroDivisionError):
        run("show", fitted)
