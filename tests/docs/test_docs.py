import importlib.util
import inspect
import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

import blemish
from blemish.calibration import Calibration
from blemish.cli.doctor import VARIABLES
from blemish.cli.main import blemish as program
from blemish.data.input_size import Resolution
from blemish.data.labels import DEFECT_WORDS, NORMAL_WORDS
from blemish.data.layouts import LAYOUTS
from blemish.data.preprocess import Preprocess
from blemish.features.backbone import NETWORKS
from blemish.features.compact import Compact
from blemish.manifest import History, Manifest, TrainingData
from blemish.methods import CATALOGUE
from blemish.metrics.evaluation import NUMBERS, Evaluation
from blemish.plugins import find_method
from blemish.records import Record
from markdown_text import ROOT, anchors, commands, headings, links, markdown_files, read, tables
from test_layers import LAYERS
from tools import write_messages

ENGLISH_AND_CHINESE = [
    ("README.md", "README.zh-CN.md"),
    ("docs/index.md", "docs/index.zh-CN.md"),
    ("docs/quick-start.md", "docs/quick-start.zh-CN.md"),
    *(
        (f"docs/{name}.md", f"docs/{name}.zh-CN.md")
        for name in (
            "calibration",
            "certificate",
            "dirty-data",
            "input-size",
            "installing",
            "other-languages",
            "production",
            "rules",
            "troubleshooting",
        )
    ),
]
PATHS = pytest.mark.parametrize("path", markdown_files(), ids=lambda path: path.relative_to(ROOT).as_posix())


def first_column(name: str) -> set[str]:
    """Everything in backquotes in the first cells of a page's tables."""
    return {
        word for table in tables(read(name)) for row in table for word in re.findall(r"`([^`]+)`", row[0])
    }


# Methods


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_preset_of_a_method_is_described(name: str) -> None:
    described = re.findall(r"^- `([\w-]+)`:", read(f"docs/methods/{name}.md"), re.MULTILINE)
    assert described == list(find_method(name).presets)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_method_page_has_the_same_sections_and_a_place_for_results(name: str) -> None:
    text = read(f"docs/methods/{name}.md")
    found = [words for level, words in headings(text) if level <= 2]
    assert found[:6] == [name, "Idea", "When to use it", "Arguments", "Presets", "Measured"]
    assert found[6].startswith("Difference from the ")
    assert text.index(f"<!-- results:{name} -->") < text.index("<!-- /results -->")


# Reference pages


def test_generated_parts_follow_from_the_code() -> None:
    path = ROOT / "tools" / "write_docs.py"
    spec = importlib.util.spec_from_file_location("write_docs", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    pages = dict(tool.pages())
    assert {
        ROOT / "docs" / "cli.md",
        ROOT / "README.md",
        ROOT / "docs" / "methods" / "pca.md",
    } <= pages.keys()
    changed = [page.name for page, text in pages.items() if page.read_text("utf-8") != text]
    assert changed == [], f"run: python {path.relative_to(ROOT)}"
    assert "\\b" not in tool.cli_reference(), "click rewraps an example after a \\b that is two characters"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_method_is_in_the_lists(name: str) -> None:
    """The generated parts are not empty."""
    for page in ("docs/index.md", "docs/index.zh-CN.md", "docs/api.md"):
        assert f"methods/{name}.md)" in read(page), page
    rows = tables(read(f"docs/methods/{name}.md"))[0][1:]
    assert [row[0] for row in rows] == [f"`{argument}`" for argument in find_method(name).declared.arguments]


def test_the_layers_of_the_architecture_are_those_that_are_tested() -> None:
    written = re.findall(r"^\d+\. (.+)$", read("docs/architecture.md"), re.MULTILINE)
    there = {path.stem for path in Path(blemish.__file__).parent.iterdir()}
    tested = [[name for name in names if name in there and name != "__main__"] for names in LAYERS]
    assert [re.findall(r"`(\w+)`", line) for line in written] == [names for names in tested if names]


def test_every_environment_variable_is_documented() -> None:
    assert first_column("docs/cli.md") == set(VARIABLES)


def test_every_public_name_has_its_line() -> None:
    described = re.findall(r"^- `(\w+)(?:\(.*\))?`: ", read("docs/api.md"), re.MULTILINE)
    assert sorted(described) == sorted(blemish.__all__)


def test_every_signature_on_the_names_page_is_right() -> None:
    for name, written in re.findall(r"^- `(\w+)\(([^)]*)\)`", read("docs/api.md"), re.MULTILINE):
        named = {part.partition("=")[0].strip() for part in written.split(",")} - {"", "…"}
        assert named <= inspect.signature(getattr(blemish, name)).parameters.keys(), name


def test_every_layout_is_described() -> None:
    assert [row[0] for row in tables(read("docs/data-layouts.md"))[0][1:]] == [
        f"`{name}`" for name in LAYOUTS
    ]


def test_every_word_for_a_label_is_listed() -> None:
    text = read("docs/data-layouts.md").lower()
    assert [word for word in (*NORMAL_WORDS, *DEFECT_WORDS) if f"`{word}`" not in text] == []


def test_every_backbone_is_described() -> None:
    assert first_column("docs/backbones.md") == {
        *NETWORKS,
        "NAME@FILE",
        "hf:OWNER/MODEL",
        "timm:NAME",
        "NAME:random",
    }
    parameters = sum(parameter.numel() for parameter in Compact().parameters())
    assert f"{parameters / 1e6:.1f} million parameters" in read("docs/backbones.md")


def test_every_metric_is_defined() -> None:
    assert first_column("docs/metrics.md") == set(NUMBERS)
    text = read("docs/metrics.md")
    hidden = {"image_scores", "image_labels", "defect_types", "image_roc", "pixel_roc", "pro"}  # for reports
    assert all(f"`{field.name}`" in text for field in fields(Evaluation) if field.name not in hidden)


def test_every_key_of_the_manifest_is_described() -> None:
    text = read("docs/model-folder.md")
    rows = {row[0]: " ".join(row[1:]) for table in tables(text) for row in table}
    assert {f"`{name}`" for name in Manifest.model_fields} <= rows.keys()
    records: dict[str, type[Record]] = {
        "preprocess": Preprocess,
        "resolution": Resolution,
        "calibration": Calibration,
        "data": TrainingData,
        "history": History,
    }
    for key, record in records.items():
        assert record.model_fields.keys() <= set(re.findall(r"`(\w+)`", rows[f"`{key}`"]))


def test_the_table_of_false_alarm_rates_is_what_the_code_says() -> None:
    rows = next(t for t in tables(read("docs/calibration.md")) if t[0][0] == "Independent images")[1:]
    assert len(rows) >= 5
    for count, expected, bound in rows:
        scores = [float(i) for i in range(int(count))]
        calibration = Calibration.from_normal(scores, scores, scores, false_alarm_rate=0.01)
        assert expected == f"{100 * calibration.expected_false_alarm_rate:.2g} %"
        assert bound == f"{100 * calibration.false_alarm_bound:.2g} %"


def test_the_changelog_has_an_unreleased_section() -> None:
    assert (2, "[Unreleased]") in headings(read("CHANGELOG.md"))


# Commands


@pytest.mark.parametrize(("marker", "command"), [("main", "make demo"), ("test", "make test")])
@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_two_commands_stand_after_their_markers(name: str, marker: str, command: str) -> None:
    after = read(name).partition(f"<!-- {marker} command -->\n")[2].splitlines()
    assert after[:3] == ["```sh", command, "```"]


def test_the_windows_page_has_the_makefiles_commands() -> None:
    recipes = re.findall(r"^\t(?:\$\(BIN\)/|\$\(PIP\) )(.+)$", read("Makefile"), re.MULTILINE)
    lines = read("docs/windows.md").splitlines()
    wanted = [recipe for recipe in recipes if "--fix" not in recipe and recipe != "ruff format"]
    assert len(wanted) == 8
    for recipe in wanted:
        assert any(line.startswith(".venv\\Scripts\\") and line.endswith(recipe) for line in lines), recipe


def test_every_blemish_command_in_the_docs_parses() -> None:
    found = {line for path in markdown_files() for line in commands(path.read_text("utf-8"))}
    lines = sorted(line for line in found if line.startswith("blemish "))
    assert len(lines) >= 10
    for line in lines:
        name, *arguments = line.split()[1:]
        command = program.get_command(click.Context(program), name)
        assert command is not None, line
        if "--help" not in arguments:
            command.make_context(name, arguments)  # raises a UsageError that names what is wrong


@pytest.mark.parametrize(("name", "quotes"), [("", '"([^"]+)"'), (".zh-CN", "“([^”]+)”")])
def test_quoted_messages_are_those_of_the_program(name: str, quotes: str) -> None:
    rows = tables(read(f"docs/troubleshooting{name}.md"))[0][1:]
    quoted = [text for row in rows for text in re.findall(quotes, row[0])]
    catalogue = write_messages.current()
    texts = [str(one.string if name else one.id) for one in catalogue if one.id]
    assert len(quoted) >= 6
    assert [text for text in quoted if not any(text in known for known in texts)] == []


# Links and languages


@PATHS
def test_links_resolve(path: Path) -> None:
    for link in links(path.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        assert file.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), link


@pytest.mark.parametrize(("english", "chinese"), ENGLISH_AND_CHINESE)
def test_the_chinese_page_keeps_step(english: str, chinese: str) -> None:
    ours, theirs = read(english), read(chinese)
    assert [level for level, _ in headings(ours)] == [level for level, _ in headings(theirs)]
    assert commands(ours) == commands(theirs)
    assert [[len(row) for row in table] for table in tables(ours)] == [
        [len(row) for row in table] for table in tables(theirs)
    ]
    assert re.findall("<!-- .+ -->", ours) == re.findall("<!-- .+ -->", theirs)
    for text, other in ((ours, chinese), (theirs, english)):
        assert other.rpartition("/")[2] in links(text), f"no link to {other}"
