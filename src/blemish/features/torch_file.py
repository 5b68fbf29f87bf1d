"""Reads a state dict written by `torch.save` without unpickling it.

Such a file is raw numbers and a pickle: a program that says which numbers make up which tensor, and that
could do anything else when run. Here it is never run and nothing is imported by name: the few instructions
that a state dict consists of are interpreted, everything else is refused. Both layouts are read: the zip
archive of PyTorch ≥ 1.6, and the older row of five pickles followed by the numbers.
"""

import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from blemish.errors import WeightsError

ZIP_START = b"PK\x03\x04"
OLD_MAGIC = 0x1950A86A20F9469CFC6C
OLD_PROTOCOL = 1001
DTYPES = {
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch LongStorage": torch.int64,
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: Mapping[str, Callable[[], object]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the pickle names; stands for itself and is never looked up."""

    text: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A row of `count` numbers in the file."""

    key: str
    dtype: torch.dtype
    count: int

    @property
    def bytes(self) -> int:
        """Its length in the file."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: where its elements lie in a storage, counted in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of `torch.save`, under their names.

    Raises:
        WeightsError: If the file is damaged, or holds anything else than a plain state dict.
    """
    try:
        content = path.read_bytes()
        return _read_zip(content) if content.startswith(ZIP_START) else _read_old(content)
    except (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} cannot be read as a state dict of torch.save: {error}. "
            "Replace it by an undamaged file that holds nothing but tensors, or by a .safetensors file."
        ) from error


def _read_zip(content: bytes) -> dict[str, Tensor]:
    with zipfile.ZipFile(BytesIO(content)) as archive:
        programs = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise ValueError(f"it holds {len(programs)} entries called data.pkl instead of one")
        views = _state_of(interpret(BytesIO(archive.read(_stored(archive, programs[0])))))
        storages = _storages_of(views, len(content))
        folder = programs[0].removesuffix(".pkl")
        numbers = {}
        for key, storage in storages.items():
            entry = _stored(archive, f"{folder}/{key}")
            if entry.file_size != storage.bytes:
                raise ValueError(f"storage {key} has {entry.file_size} bytes instead of {storage.bytes}")
            numbers[storage] = archive.read(entry)
    return _tensors(views, numbers)


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """An entry as `torch.save` writes it: not compressed, hence no larger than the file itself."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"entry {name} is compressed, which torch.save never does")
    return entry


def _read_old(content: bytes) -> dict[str, Tensor]:
    file = BytesIO(content)
    if interpret(file) != OLD_MAGIC or interpret(file) != OLD_PROTOCOL:
        raise ValueError("it does not start as files of torch.save do")
    interpret(file)  # the byte order and integer sizes of the computer that wrote it
    views = _state_of(interpret(file))
    storages = _storages_of(views, len(content))
    keys = interpret(file)
    names = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    if set(names) != set(storages):
        raise ValueError("its list of storages does not fit its tensors")
    numbers = {}
    for key in names:
        storage = storages[key]
        if file.read(8) != struct.pack("<q", storage.count):
            raise ValueError(f"storage {key} does not have {storage.count} numbers")
        numbers[storage] = file.read(storage.bytes)
        if len(numbers[storage]) != storage.bytes:
            raise ValueError("it ends too early")
    return _tensors(views, numbers)


def _state_of(value: object) -> dict[str, View]:
    if not isinstance(value, dict):
        raise ValueError("it holds no dictionary of tensors")
    for key, view in value.items():
        if not isinstance(view, View):
            raise ValueError(f"its entry {key[:80]!r} is not a tensor")
    return value


def _storages_of(views: Mapping[str, View], file_size: int) -> dict[str, Storage]:
    """Every storage once; together they cannot be larger than the file."""
    storages: dict[str, Storage] = {}
    for view in views.values():
        if storages.setdefault(view.storage.key, view.storage) != view.storage:
            raise ValueError(f"it describes storage {view.storage.key} in two ways")
    if sum(storage.bytes for storage in storages.values()) > file_size:
        raise ValueError("it describes more numbers than it holds")
    return storages


def _tensors(views: Mapping[str, View], numbers: Mapping[Storage, bytes]) -> dict[str, Tensor]:
    flat = {
        storage: torch.frombuffer(bytearray(content), dtype=storage.dtype)
        for storage, content in numbers.items()
    }
    return {
        name: flat[view.storage].as_strided(view.shape, view.strides, view.offset)
        for name, view in views.items()
    }


def interpret(stream: BytesIO) -> object:
    """The value of one pickle made of plain values and tensors; leaves the stream right behind it.

    Raises:
        ValueError: If the pickle is damaged or wants anything else.
        LookupError: If it uses a value that it has not made.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    """The stack and the memo of a running pickle."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[object, object] = {}

    def step(self, instruction: str, argument: object) -> None:
        stack = self.stack
        match instruction:
            case "PROTO":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(CONSTANTS[instruction])
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append(EMPTY[instruction]())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE" | "APPENDS" | "SETITEMS":
                self._collect(instruction, self._pop_from(self.marks.pop()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._collect("TUPLE", self._pop_from(len(stack) - int(instruction[-1])))
            case "APPEND":
                self._collect("APPENDS", self._pop_from(len(stack) - 1))
            case "SETITEM":
                self._collect("SETITEMS", self._pop_from(len(stack) - 2))
            case "GLOBAL":
                stack.append(Name(str(argument)))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                function, arguments = self._pop_from(len(stack) - 2)
                stack.append(_call(function, arguments))
            case "BUILD":
                stack.pop()  # the version numbers of the modules, which no tensor depends on
            case _:
                raise ValueError(f"a state dict does not need the pickle instruction {instruction}")

    def _pop_from(self, start: int) -> list[object]:
        if not 0 <= start <= len(self.stack):
            raise ValueError("its pickle uses a value that it has not made")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _collect(self, instruction: str, values: list[object]) -> None:
        """Make a tuple of the values, or put them into the list or dictionary below them."""
        if instruction == "TUPLE":
            self.stack.append(tuple(values))
            return
        match instruction, self.stack[-1]:
            case "APPENDS", list(target):
                target.extend(values)
            case "SETITEMS", dict(target) if all(isinstance(key, str) for key in values[::2]):
                target.update(zip(values[::2], values[1::2], strict=True))
            case _:
                raise ValueError("it has a list or dictionary that no state dict has")


def _storage(identity: object) -> Storage:
    match identity:
        case ("storage", Name(kind), str(key), str(), int(count), *rest) if (
            kind in DTYPES and count >= 0 and all(value is None for value in rest)
        ):
            return Storage(key, DTYPES[kind], count)
    raise ValueError("it has a storage of an unknown kind")


def _call(function: object, arguments: object) -> object:
    """What the three functions that state dicts are made with would return; no other is known."""
    match function, arguments:
        case Name("collections OrderedDict"), ():
            return {}
        case (
            Name("torch._utils _rebuild_tensor_v2"),
            (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_),
        ):
            return _view(storage, offset, shape, strides)
        case Name("torch._utils _rebuild_parameter"), (View() as view, *_):
            return view
    name = function.text[:80] if isinstance(function, Name) else "something without a name"
    raise ValueError(f"it wants to call {name}, which a state dict does not need")


def _view(storage: Storage, offset: int, shape: tuple[object, ...], strides: tuple[object, ...]) -> View:
    sizes = tuple(n for n in shape if isinstance(n, int) and n >= 1)
    steps = tuple(n for n in strides if isinstance(n, int) and 0 <= n <= storage.count)
    if len(sizes) != len(shape) or len(steps) != len(strides) or len(sizes) != len(steps):
        raise ValueError("it has a tensor whose shape and strides contradict each other")
    last = offset + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    if offset < 0 or last >= storage.count or prod(sizes) > storage.count:
        raise ValueError(f"it has a tensor that lies outside its storage {storage.key}")
    return View(storage, offset, sizes, steps)
