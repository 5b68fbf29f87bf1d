import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

import blemish
from blemish import plugins
from blemish.errors import MethodError, MissingExtraError
from blemish.methods import CATALOGUE
from blemish.methods.base import Method
from blemish.methods.pca import PCA


class Mine(Method):
    pass


@pytest.fixture(autouse=True)
def _nothing_stays_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_registered", {})


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """An installed package `thirdparty` that offers methods at another address than their home."""
    module = ModuleType("thirdparty")
    module.__dict__["Mine"] = Mine
    monkeypatch.setitem(sys.modules, "thirdparty", module)
    offered = {
        "theirs": "thirdparty:Mine",
        "gone": "thirdparty:Gone",
        "absent": "thirdparty.absent:Mine",
        "pca": "thirdparty:Mine",
    }
    points = [EntryPoint(name, value, plugins.ENTRY_POINTS) for name, value in offered.items()]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "blemish.methods" else [])
    return module


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_catalogue_name_is_a_file_and_leads_there_and_back(name: str) -> None:
    method = plugins.find_method(name)
    assert issubclass(method, Method)
    assert method.__module__ == f"blemish.methods.{name}"
    assert plugins.name_of(method) == name


def test_the_catalogue_comes_first() -> None:
    blemish.register_method("aaa", Mine)
    assert plugins.method_names() == (*CATALOGUE, "aaa")


def test_a_registered_method_is_found_by_name_and_by_class() -> None:
    blemish.register_method("mine", Mine)
    blemish.register_method("mine", Mine)  # a notebook cell that runs twice
    assert plugins.find_method("mine") is Mine
    assert plugins.name_of(Mine) == "mine"


def test_a_name_stands_for_one_method() -> None:
    class Other(Method):
        pass

    blemish.register_method("mine", Mine)
    for name in ("mine", "pca"):
        with pytest.raises(
            MethodError, match=f"A method called '{name}' exists already. Register yours under"
        ):
            blemish.register_method(name, Other)
    assert plugins.find_method("mine") is Mine
    assert plugins.find_method("pca") is PCA


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        MethodError,
        match=r"No method is called 'patchcor'\. Did you mean 'patchcore'\? Choose one of: patchcore, ",
    ):
        plugins.find_method("patchcor")
    with pytest.raises(MethodError, match=r"No method is called 'os:system'\. Choose one of: patchcore, "):
        plugins.find_method("os:system")


def test_a_class_without_a_name_says_how_to_give_it_one() -> None:
    with pytest.raises(
        MethodError, match=r"Mine has no name .* blemish\.register_method\('name', Mine\) first"
    ):
        plugins.name_of(Mine)


def test_a_namesake_of_a_catalogue_method_is_not_it() -> None:
    impostor = type("PCA", (Method,), {})
    with pytest.raises(MethodError, match="PCA has no name"):
        plugins.name_of(impostor)


@pytest.mark.usefixtures("package")
def test_an_installed_package_offers_methods() -> None:
    assert plugins.find_method("theirs") is Mine
    assert plugins.name_of(Mine) == "theirs"
    assert plugins.method_names() == (*CATALOGUE, "absent", "gone", "theirs")
    assert plugins.find_method("pca") is PCA, "a package took a name of the catalogue"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "target"), [("gone", "thirdparty:Gone"), ("absent", "thirdparty.absent:Mine")]
)
def test_a_broken_package_is_named(name: str, target: str) -> None:
    with pytest.raises(
        MethodError, match=f"'{name}' cannot be loaded from {target}: .* Update or remove the"
    ):
        plugins.find_method(name)


def test_without_torch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "blemish.methods.pca", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"need the extra `train`: pip install 'blemish\[train\]'"):
        plugins.find_method("pca")


@pytest.mark.parametrize("name", [None, "", "../x", "a b", "\ud800", "x" * 65, 3])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(
        MethodError, match=r"^A method's name is up to 64 letters, digits, '_', '-' and '\.', got "
    ):
        blemish.register_method(name, Mine)
    assert plugins.method_names() == tuple(CATALOGUE)


@pytest.mark.parametrize("method", [dict, Mine(), None])
def test_what_is_no_method_is_refused(method: Any) -> None:
    with pytest.raises(MethodError, match=r" is not a method\. Register a subclass of blemish\.Method\.$"):
        blemish.register_method("mine", method)


class Oversized(Method):
    def build(self) -> None:
        raise RuntimeError("out of memory")


def test_a_method_that_cannot_be_built_is_refused() -> None:
    blemish.register_method("oversized", Oversized)
    with pytest.raises(MethodError, match=r"^oversized cannot be built with \{\}: out of memory\."):
        plugins.create_method("oversized")
