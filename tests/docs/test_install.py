"""The install lines of the docs and of error texts, against the declared extras."""

import re
import tomllib

from markdown_text import ROOT, code_blocks, markdown_files, read

PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
NAMED = re.compile(r"(?:blemish|\.)\[([a-z,]+)\]")


def test_every_extra_that_is_named_exists() -> None:
    files = [*markdown_files(), ROOT / "Makefile", *(ROOT / "src").rglob("*.py")]
    named = {
        (path.name, extra)
        for path in files
        for extras in NAMED.findall(path.read_text("utf-8"))
        for extra in extras.split(",")
    }
    assert {extra for _, extra in named} >= {"train", "opencv", "onnx", "export", "hf"}
    assert [
        (file, extra) for file, extra in sorted(named) if extra not in PROJECT["optional-dependencies"]
    ] == []


def test_line_to_install_brings_opencv_only_where_it_is_named() -> None:
    assert not any("opencv" in requirement for requirement in PROJECT["dependencies"])
    others = {name: needs for name, needs in PROJECT["optional-dependencies"].items() if name != "opencv"}
    assert not any("opencv" in requirement for needs in others.values() for requirement in needs)
    for page in ("README.md", "README.zh-CN.md", "docs/quick-start.md", "docs/quick-start.zh-CN.md"):
        lines = [line for block in code_blocks(read(page), "sh") for line in block.splitlines()]
        extras = [set(named[0].split(",")) for line in lines if (named := NAMED.findall(line))]
        assert any({"train", "opencv"} <= one for one in extras), page
