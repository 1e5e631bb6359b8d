"""What a run is: its settings, typed, read from flags, `key=value` texts and TOML, written to TOML.

Option names and types come from the model's Options dataclass; everything else a run needs is a
field of RunConfig. Nothing here touches data or arrays.
"""

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import minigen
from minigen.train.errors import UsageError, nearest
from minigen.train.registry import entry, model_class


@dataclass
class DataConfig:
    """Which images: `source` is a dataset's name or a path, the others are as in `data.load`.

    Without `patch_size` it is the model's own, where it has one; 0 is none.
    """

    source: str = "fashion-mnist"
    image_size: int | None = None
    patch_size: int | None = None
    channels: int | None = None
    augment: str = ""


@dataclass
class RunConfig:
    """Everything needed to repeat a run. `steps` counts from the start of the run."""

    model: str
    steps: int
    seed: int = 0
    device: str = "cpu"
    threads: int = 0  # 0: as many as there are cores
    checkpoint_every: int = 0  # steps; 0: once a minute
    sample_every: int = 0  # steps; 0: twenty times a run
    log_every: int = 0  # steps; 0: each step on the CPU, each tenth on a GPU
    on_collapse: str = "warn"  # or stop, rollback, off: what to do about one
    capture: bool = True  # replay steps where it pays: on a GPU as CUDA graphs
    data: DataConfig = field(default_factory=DataConfig)
    options: Any = None  # an instance of the model's Options
    image_shape: tuple[int, ...] = ()  # known once the data is open

    def changed(self, **values: Any) -> "RunConfig":
        """A copy with other top-level fields, checked; None leaves one as it is."""
        given = {
            key: convert(value, _TOP[key], _flag(key))
            for key, value in values.items()
            if value is not None
        }
        _check(given)
        return dataclasses.replace(self, **given)

    def to_toml(self) -> str:
        """The text of config.toml."""
        import tomli_w

        top = {key: getattr(self, key) for key in ("model", *_TOP)}
        data = {k: v for k, v in dataclasses.asdict(self.data).items() if v is not None}
        if self.image_shape:
            data["image_shape"] = list(self.image_shape)
        options = {k: _plain(v) for k, v in vars(self.options).items()}
        text = tomli_w.dumps(
            {**top, "minigen": minigen.__version__, "data": data, "options": options}
        )
        return (
            "# A minigen run. The same again: minigen train --config THIS_FILE;"
            " to go on with it: minigen train --resume ITS_FOLDER\n" + text
        )


_TOP: dict[str, Any] = {
    "steps": int,
    "seed": int,
    "device": str,
    "threads": int,
    "checkpoint_every": int,
    "sample_every": int,
    "log_every": int,
    "on_collapse": Literal["warn", "stop", "rollback", "off"],
    "capture": bool,
}
_AT_LEAST = {"steps": 1, "threads": 0, "checkpoint_every": 0, "sample_every": 0, "log_every": 0}


def make_config(
    model: str | None = None,
    *,
    file: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    settings: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> RunConfig:
    """A RunConfig from, each overriding the one before: defaults, a TOML file, flags, settings.

    `flags` are top-level fields and `data` those of DataConfig (None: not given); `settings` are
    texts `key=value`, where key is a field of the model's Options, `capture`, or `data.image_size`
    and so on;
    `options` are typed values of the same fields. Raises UsageError for a wrong key or type.
    """
    read = read_toml(file) if file is not None else {}
    where = str(file)
    named = read.get("model")
    if named is not None and not isinstance(named, str):
        raise UsageError(f"{where}: model is {named!r}, expected a name; see `minigen list`")
    if model and named and model != named:
        raise UsageError(f"{where}: is of the model {named!r}, not {model!r}")
    model = model or named
    if not model:
        raise UsageError(f"no model given{f' in {file}' if file else ''}; see `minigen list`")
    cls = model_class(model)
    top, chosen, datas = _sections(read, cls, where) if read else ({}, {}, {})
    shape = datas.pop("image_shape", ())
    of_file = dict(datas)
    given = {k: v for k, v in (flags or {}).items() if v is not None}
    if "batch_size" in given:
        value = given.pop("batch_size")
        options = {"batch_size": value, **(options or {})}
    for key, value in given.items():
        top[key] = convert(value, _TOP[key], _flag(key))
    for key, value in (data or {}).items():
        if value is not None:
            datas[key] = convert(value, _types(DataConfig)[key], _flag(key))
    for key, value in (options or {}).items():
        chosen[key] = _option(cls, key, value, f"option {key}" if key not in given else _flag(key))
    for text in settings:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"--set {text}: expected key=value, as in --set lr=0.001")
        if key.startswith("data."):
            name = key.removeprefix("data.")
            datas[name] = _typed(DataConfig, name, value, f"--set {text}", "data.")
        elif key == "capture":
            top[key] = convert(value, bool, f"--set {text}")
        else:
            chosen[key] = _option(cls, key, value, f"--set {text}")
    top.setdefault("steps", getattr(cls, "default_steps", entry(model).default_steps))
    _check(top)
    datas["source"] = absolute(datas.get("source", DataConfig.source))
    return RunConfig(
        model,
        **top,
        data=DataConfig(**datas),
        options=make_options(cls, chosen),
        image_shape=shape if datas == of_file else (),  # other data may have another size
    )


def make_options(cls: Any, values: Mapping[str, Any]) -> Any:
    """The model class's Options with these values; UsageError when they are refused."""
    try:
        made = cls.Options(**values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{cls.__name__}: {error}") from error
    size = getattr(made, "batch_size", 1)
    if size < 1:
        raise UsageError(f"batch_size is {size}, expected at least 1")
    return made


def absolute(source: str) -> str:
    """A data spec with its path, if it has one, absolute: runs are resumed from anywhere."""
    kind, colon, rest = source.partition(":")
    if source and Path(source).expanduser().exists():
        return str(Path(source).expanduser().absolute())
    path = Path(rest).expanduser()
    return f"{kind}:{path.absolute()}" if colon and rest and path.exists() else source


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file; UsageError, one line naming the file, when it cannot be read."""
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error


def convert(value: Any, kind: Any, what: str) -> Any:
    """`value` (a text, or what TOML gave) as `kind`; UsageError naming both when it is another.

    `kind` is int, float, bool, str, a Literal, a tuple of one of them, or such a type | None.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        empty = value is None or (isinstance(value, str) and value.lower() in ("none", ""))
        if empty and type(None) in args:
            return None
        (kind,) = (each for each in args if each is not type(None))
        return convert(value, kind, what)
    if origin is typing.Literal:
        if value not in args:
            raise UsageError(f"{what}: no {value!r}{nearest(str(value), map(str, args))}")
        return value
    if kind is tuple or origin is tuple:
        return _tuple(value, args[0] if args else str, what)
    converted = _scalar(value, kind)
    if converted is None:
        wanted = {int: "a whole number", float: "a finite number", bool: "true or false",
                  str: "a text"}  # fmt: skip
        raise UsageError(f"{what}: got {value!r}, expected {wanted.get(kind, kind)}")
    return converted


def _scalar(value: Any, kind: Any) -> Any:
    """`value` as bool, int, float or str; None when it is not one."""
    if kind not in (bool, int, float, str):
        return value  # a type of the model's own, which its Options may check
    if kind is bool and isinstance(value, str):
        return {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False,
                "off": False, "0": False}.get(value.strip().lower())  # fmt: skip
    if isinstance(value, bool):
        return value if kind is bool else None
    if kind in ((int, float) if isinstance(value, str) else (float,)):
        try:
            value = kind(value)
        except (ValueError, OverflowError):
            return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, kind) else None


def _tuple(value: Any, kind: Any, what: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [each for each in value.strip("()[] ").split(",") if each.strip()]
    elif not isinstance(value, list | tuple):
        value = [value]
    return tuple(
        convert(each.strip() if isinstance(each, str) else each, kind, what) for each in value
    )


def check_seed(seed: int) -> None:
    """UsageError for a seed that no Generator takes."""
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"--seed is {seed}, expected 0 to 2**64 - 1")


def _check(top: Mapping[str, Any]) -> None:
    """UsageError for a top-level value out of its range."""
    check_seed(top.get("seed", 0))
    for key, least in _AT_LEAST.items():
        if top.get(key, least) < least:
            raise UsageError(f"{_flag(key)} is {top[key]}, expected at least {least}")
    if top.get("device", "cpu").partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"--device is {top['device']!r}, expected cpu or cuda")


def _sections(read: dict[str, Any], cls: Any, where: str) -> tuple[dict, dict, dict]:
    """(top-level fields, options, data fields and image_shape) of what a TOML file said."""
    top = {}
    names = [each.name for each in dataclasses.fields(cls.Options)]
    for key, value in read.items():
        if key in ("model", "minigen", "data", "options"):
            continue
        if key not in _TOP:
            if key in names:
                raise UsageError(f"{where}: {key} belongs under [options]")
            known = [*_TOP, "model", "data", "options"]
            raise UsageError(f"{where}: unknown key {key!r}{nearest(key, known)}")
        top[key] = convert(value, _TOP[key], f"{where}: {key}")
    for section in ("data", "options"):
        if not isinstance(read.get(section, {}), dict):
            raise UsageError(f"{where}: {section} is a value, expected a table [{section}]")
    options = {k: _option(cls, k, v, f"{where}: options.{k}")
               for k, v in read.get("options", {}).items()}  # fmt: skip
    data = {k: _typed(DataConfig, k, v, f"{where}: data.{k}")
            for k, v in read.get("data", {}).items() if k != "image_shape"}  # fmt: skip
    shape = read.get("data", {}).get("image_shape", ())
    data["image_shape"] = convert(shape, tuple[int, ...], f"{where}: data.image_shape")
    return top, options, data


def _option(cls: Any, key: str, value: Any, what: str) -> Any:
    """A value of one of the model's options, by its type and its choices."""
    names = {each.name: each for each in dataclasses.fields(cls.Options)}
    if key not in names:
        known = [*names, "capture", *(f"data.{name}" for name in _types(DataConfig))]
        raise UsageError(f"{what}: {cls.__name__} has no option {key!r}{nearest(key, known)}")
    converted = convert(value, _types(cls.Options)[key], what)
    choices = names[key].metadata.get("choices") or ()
    if choices and converted not in choices:
        raise UsageError(
            f"{what}: got {converted!r}, expected one of {', '.join(map(str, choices))}"
        )
    least = names[key].metadata.get("least")
    values = converted if isinstance(converted, tuple) else (converted,)
    if least is not None and not all(value is None or value >= least for value in values):
        raise UsageError(f"{what}: got {converted!r}, expected at least {least}")
    return converted


def _typed(cls: Any, key: str, value: Any, what: str, prefix: str = "") -> Any:
    kinds = _types(cls)
    if key not in kinds:
        known = [f"{prefix}{name}" for name in kinds]
        raise UsageError(f"{what}: no setting {prefix + key!r}{nearest(prefix + key, known)}")
    return convert(value, kinds[key], what)


def _types(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _plain(value: Any) -> Any:
    """A value as TOML can hold it."""
    return "none" if value is None else list(value) if isinstance(value, tuple) else value


def _flag(key: str) -> str:
    return "--" + {"source": "data"}.get(key, key).replace("_", "-")
