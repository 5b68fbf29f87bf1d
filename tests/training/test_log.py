"""The losses of every epoch in files."""

from pathlib import Path

import pytest

from blemish.training.log import csv_log, tensorboard_log


def test_csv_is_whole_after_every_epoch_and_goes_on_where_training_does(tmp_path: Path) -> None:
    path = tmp_path / "m.log/losses.csv"
    with csv_log(tmp_path / "m.log", False) as watch:
        watch(0, {"loss": 2.5, "held_out": 3.0})
        assert path.read_text(encoding="utf-8").splitlines() == ["epoch,loss,held_out", "0,2.5,3.0"]
        watch(1, {"loss": 1.5, "held_out": 2.0})
    with csv_log(tmp_path / "m.log", True) as watch:  # epoch 1 had ended, but its state was not kept
        watch(1, {"loss": 1.5, "held_out": 2.0})
        watch(2, {"loss": 1.0, "held_out": 1.5})
    assert path.read_text(encoding="utf-8").splitlines()[1:] == ["0,2.5,3.0", "1,1.5,2.0", "2,1.0,1.5"]
    with csv_log(tmp_path / "m.log", False) as watch:
        watch(0, {"loss": 9.0})
    assert path.read_text(encoding="utf-8").splitlines() == ["epoch,loss", "0,9.0"]


def test_csv_has_a_column_for_every_loss_of_any_epoch(tmp_path: Path) -> None:
    with csv_log(tmp_path, False) as watch:
        watch(0, {"critic": 1.0, "generator": 2.0})
        watch(1, {"encoder": 3.0})
    lines = (tmp_path / "losses.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["epoch,critic,generator,encoder", "0,1.0,2.0,", "1,,,3.0"]


def test_tensorboard_reads_the_losses(tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    for resume, epochs in ((False, (0, 1)), (True, (2,))):
        with tensorboard_log(tmp_path, resume) as watch:
            for epoch in epochs:
                watch(epoch, {"loss": 1.0 + epoch})
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/loss")] == [
        (0, 1.0),
        (1, 2.0),
        (2, 3.0),
    ]
    with tensorboard_log(tmp_path, False) as watch:
        watch(0, {"loss": 7.0})
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("loss/loss")] == [7.0]
