"""Modules made of modules, and those that only change shapes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

from minigen.nn.activation import LeakyReLU, ReLU
from minigen.nn.conv import Conv2d, ConvTranspose2d
from minigen.nn.equalized import EqualizedConv2d, EqualizedConvTranspose2d, EqualizedLinear
from minigen.nn.linear import Linear
from minigen.nn.module import Module
from minigen.nn.norm import BatchNorm1d, BatchNorm2d
from minigen.tensor import Tensor


class ModuleList(Module):
    """A list of modules, whose parameters are named "0.weight" and so on as in torch."""

    def __init__(self, modules: Iterable[Module] = ()):
        self._layers = list(modules)
        for i, layer in enumerate(self._layers):
            _check_module(type(self).__name__, i, layer)

    def append(self, module: Module) -> "ModuleList":
        """Add a module at the end."""
        _check_module(type(self).__name__, len(self._layers), module)
        self._layers.append(module)
        return self

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> "ModuleList": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return ModuleList(self._layers[index])
        return self._layers[index]

    def __setitem__(self, index: int, module: Module) -> None:
        _check_module(type(self).__name__, index, module)
        self._layers[index] = module

    def _members(self):
        for name, value in vars(self).items():
            if name == "_layers":  # torch's names: "0.weight", not "_layers.0.weight"
                yield from enumerate(value)
            else:
                yield name, value


class Sequential(ModuleList):
    """Modules applied one after the other; indexable, iterable, a slice is a Sequential.

    A layer of FUSED and the ReLU or LeakyReLU after it run as one kernel, with the same result.
    """

    def __init__(self, *modules: Module):
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        layers = iter([*self._layers, None])
        layer = next(layers)
        while layer is not None:
            after = next(layers)
            slope = _slope(after) if type(layer) in FUSED else None
            if slope is None or getattr(layer, "negative_slope", None) is not None:
                x, layer = layer(x), after
            else:
                x, layer = layer(x, slope), next(layers)
        return x

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Sequential(*self._layers[index])
        return self._layers[index]


class Identity(Module):
    """What comes in."""

    def forward(self, x: Any) -> Any:
        return x


class Lambda(Module):
    """A function as a layer: `Lambda(lambda x: 2 * x - 1)`."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


class Flatten(Module):
    """Axes start_dim..end_dim as one: (N, C, H, W) -> (N, C * H * W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        first, last = self.start_dim % x.ndim, self.end_dim % x.ndim
        if first > last:
            raise ValueError(
                f"Flatten: start_dim {self.start_dim} is after end_dim {self.end_dim} of {x.shape}"
            )
        size = 1
        for extent in x.shape[first : last + 1]:
            size *= extent
        return x.reshape((*x.shape[:first], size, *x.shape[last + 1 :]))


class Unflatten(Module):
    """Axis `dim` as several of `unflattened_size`, one of which may be -1."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        dim = self.dim % x.ndim
        return x.reshape((*x.shape[:dim], *self.unflattened_size, *x.shape[dim + 1 :]))

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.unflattened_size}"


class Reshape(Module):
    """All axes but the first as `shape`: Reshape(512, 4, 4) makes (N, 8192) (N, 512, 4, 4)."""

    def __init__(self, *shape: int):
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape((x.shape[0], *self.shape))

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.shape))


FUSED = (
    Conv2d, ConvTranspose2d, Linear, BatchNorm1d, BatchNorm2d,
    EqualizedConv2d, EqualizedConvTranspose2d, EqualizedLinear,
)  # fmt: skip


def _slope(layer):
    """The slope of a rectifier for the layer before it to apply; None for what must run alone."""
    if type(layer) is ReLU:
        return 0.0
    return layer.negative_slope if type(layer) is LeakyReLU and layer.negative_slope >= 0 else None


def _check_module(name, index, layer):
    if not isinstance(layer, Module):
        kind = type(layer).__name__
        raise TypeError(
            f"{name}: layer {index} is a {kind}, expected a Module (wrap functions in Lambda)"
        )
