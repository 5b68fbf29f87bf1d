"""`blemish doctor` on OpenCV's distributions, a container's limits and folders that cannot be written."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

import blemish
from blemish.blocks import compiled
from blemish.cli import environment
from blemish.errors import MissingExtraError
from blemish.features import download
from blemish.opencv import require_version

Run = Callable[..., Result]


def problems(result: Result) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.startswith("Problem: ")]


def test_two_distributions_of_opencv(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["opencv-python", "opencv-python-headless"]
    monkeypatch.setattr(environment, "opencv_distributions", lambda: both)
    monkeypatch.setattr(environment, "version", lambda _: "4.13.0")
    result = run("doctor")
    assert "opencv               opencv-python 4.13.0, opencv-python-headless 4.13.0" in result.stdout
    assert problems(result)[0] == (
        "Problem: opencv-python and opencv-python-headless are installed and overwrite each other. Uninstall all of "
        "them, then install one: pip uninstall opencv-python opencv-python-headless, pip install opencv-python"
    )


def test_installed_distribution_of_opencv_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name for name in environment.opencv_distributions() if name.startswith("opencv-")]
    monkeypatch.setattr(environment, "opencv_distributions", list)
    assert "opencv               not installed by pip" in run("doctor").stdout


VERSIONS = [
    {"cpu.max": "{quota} 100000", "memory.max": "{memory}"},
    {
        "cpu/cpu.cfs_quota_us": "{quota}",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": "{memory}",
    },
]
"""Files of control groups of version 2 and of version 1."""


@pytest.mark.parametrize(
    ("files", "no_quota", "no_limit"),
    [(VERSIONS[0], "max", "max"), (VERSIONS[1], "-1", "9223372036854771712")],
)
def test_container_limits(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    files: dict[str, str],
    no_quota: str,
    no_limit: str,
) -> None:
    def limit(quota: str, memory: str) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text.format(quota=quota, memory=memory) + "\n")

    monkeypatch.setattr(environment, "CGROUP", tmp_path)
    assert "container limits     none" in run("doctor").stdout
    limit("250000", f"{3 * 2**30}")
    assert "container limits     2.5 CPUs, 3.0 GiB of memory" in run("doctor").stdout
    limit(no_quota, no_limit)
    assert "container limits     none" in run("doctor").stdout


def test_more_threads_than_the_container_has_cpus(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "cpu_quota", lambda: 2.5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    result = run("doctor")
    assert ", torch 16\n" in result.stdout
    assert (
        "Problem: The container may use 2.5 CPUs, but torch computes with 16 threads, which wait for each other. "
        "Set OMP_NUM_THREADS=2."
    ) in problems(result)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not any("threads" in problem for problem in problems(run("doctor")))


def test_temporary_folder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "SMALLEST_TEMPORARY", 2**70)
    assert any(
        "too little for the patches of a large data set" in problem for problem in problems(run("doctor"))
    )

    def no_folder() -> str:
        raise FileNotFoundError("No usable temporary directory found")  # as tempfile does

    monkeypatch.setattr(tempfile, "gettempdir", no_folder)
    result = run("doctor")
    assert "temporary folder     none" in result.stdout
    assert (
        "Problem: There is no folder for temporary files. Set TMPDIR to a folder that can be written."
        in problems(result)
    )


def test_cache_folder_that_cannot_be_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for folder, is_problem in ((tmp_path / "file" / "cache", True), (tmp_path / "new" / "cache", False)):
        monkeypatch.setattr(download, "cache_folder", lambda folder=folder: folder)
        text = (
            f"Problem: {folder} cannot be written, so no weights can be downloaded. Put weight files into a folder and "
            "set BLEMISH_WEIGHTS to it."
        )
        assert (text in problems(run("doctor"))) == is_problem


def without_locators(code: str) -> subprocess.CompletedProcess[str]:
    """Run code where numba finds no folder for its cache, as in a read-only installation without a home folder."""
    hidden = "from numba.core import caching; caching.CacheImpl._locator_classes = []; "
    return subprocess.run([sys.executable, "-c", hidden + code], capture_output=True, text=True, check=False)


def test_methods_are_listed_without_a_cache_folder() -> None:
    result = without_locators(
        "from blemish.cli.main import blemish; blemish(['methods', 'patchcore', 'fastflow'])"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("patchcore")


def test_loops_are_compiled_without_a_cache_folder() -> None:
    code = (
        "import numpy as np; from blemish.blocks.flows import coupling_kernels; "
        "from blemish.blocks.compiled import compiled, is_cached; assert not is_cached(); "
        "print(compiled(lambda x: x + 1)(1))"
    )
    result = without_locators(code)
    assert (result.stdout, result.stderr) == ("2\n", "")


def test_missing_cache_is_a_problem_with_a_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "is_cached", lambda: False)
    assert (
        "Problem: Neither the installation nor the home folder can be written, so the compiled loops are not kept and "
        "every start compiles them again. Set NUMBA_CACHE_DIR to a folder that can be written."
    ) in problems(run("doctor"))


@pytest.mark.parametrize(
    ("cv2", "text"),
    [
        (
            "raise ModuleNotFoundError('no cv2')",
            "OpenCV is not installed. If your project uses",
        ),
        (
            "raise ImportError('libGL.so.1: cannot open')",
            "OpenCV is installed but cannot be loaded: libGL",
        ),
        (
            "__version__ = '4.5.5'",
            "OpenCV 4.5.5 is installed, and 4.10 or newer is needed. Upgrade the distribution",
        ),
        (
            "",
            "OpenCV's files are missing, as after uninstalling one of several distributions. Install the one that",
        ),
    ],
)
def test_opencv_that_cannot_be_used_is_one_error(tmp_path: Path, cv2: str, text: str) -> None:
    (tmp_path / "cv2.py").write_text(cv2, "utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    for command, code in ((["inspect", "m", "a.png"], 1), (["doctor"], 1), (["--help"], 0)):
        result = subprocess.run(
            [sys.executable, "-m", "blemish", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        assert text in result.stdout + result.stderr or command == ["--help"]


def test_oldest_version_is_compared_by_number() -> None:
    require_version((4, 10), "4.10.0")
    require_version((4, 10), "10.0.1-dev")
    with pytest.raises(
        MissingExtraError, match=r"^OpenCV 4\.9\.0 is installed, and 4\.10 or newer is needed\."
    ):
        require_version((4, 10), "4.9.0")


def test_installing_blemish_installs_no_opencv() -> None:
    from blemish.cli.doctor import requirements

    assert blemish.__version__
    assert [name for name in requirements()[""] if "opencv" in name] == []
    assert requirements()["opencv"] == ["opencv-python-headless"]
    assert requirements()["onnx"] == ["onnxruntime"]
