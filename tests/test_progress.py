"""Progress on stderr: lines for logs, bars for terminals."""

import io
import sys
from pathlib import Path

import pytest

import blemish
from blemish import progress
from blemish.messages import message
from blemish.progress import Lines
from tiny_product import labelled_samples, normal_samples


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _usual_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENT_SECONDS", 2.0)


def test_lines_are_few_and_know_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    for done in range(1, 31):  # one image a second
        clock.now += 1
        lines("looking", done, 30)
    clock.now += 3
    lines("finishing", 5, None)
    clock.now += 1
    lines("quick", 1, 1)
    for done in range(70, 76):  # resumed: two seconds a step
        clock.now += 2
        lines("training", done, 100, "loss 0.5")
    assert capsys.readouterr().err == (
        "looking 2/30, about 28 s left\n"
        "looking 12/30, about 18 s left\n"
        "looking 22/30, about 8 s left\n"
        "finishing 5\n"
        "training 70/100, loss 0.5\n"
        "training 75/100, about 50 s left, loss 0.5\n"
    )


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, stdout = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with blemish.progress_bars() as report:
        report("collecting", 1, 3)
        report("collecting", 3, 3)
        report("calibrating", 2, None)
        print("result")  # noqa: T201
    assert "collecting" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert "calibrating" in terminal.getvalue()
    assert stdout.getvalue() == "result\n"


def test_phases_and_notes_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss may have any name; rich would read [/x] as markup and fail."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with blemish.progress_bars() as report:
        report("[/x]", 1, 3, "loss[/y] 0.5")
    assert "[/x]" in terminal.getvalue()
    assert "loss[/y]" in terminal.getvalue()


def test_closed_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stderr", None)
    with blemish.progress_bars() as report:
        report("collecting", 1, 3)
        report("collecting", 2, 3)


def test_every_phase_has_a_chinese_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "zh")
    phases: dict[str, None] = {}

    def record(phase: str, done: int, total: int | None, note: str = "", /) -> None:
        phases[phase] = None

    samples = normal_samples(tmp_path, 8)
    trained = blemish.fit(blemish.AutoEncoder(steps=2, size=32), samples, progress=record)
    blemish.fit("pca", samples, progress=record)
    blemish.evaluate(trained, labelled_samples(tmp_path / "test"), progress=record)
    assert {"training", "finishing", "collecting", "calibrating", "evaluating"} <= phases.keys()
    assert [phase for phase in phases if message(phase) == phase] == []
