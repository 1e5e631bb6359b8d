"""The methods and operators of the stand-in's arrays, made from NumPy's."""

import numpy as np


class Reading:
    """What an array does by reading its values, or by its shape alone."""

    def item(self):
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def tobytes(self, order="C"):
        return self.get().tobytes(order)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __complex__(self):
        return complex(self.get())

    def __bool__(self):
        if self.size != 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous")
        return bool(self.get())

    def __index__(self):
        return self.get().__index__()

    def __repr__(self):
        return repr(self.get())

    def __format__(self, spec):
        return format(self.get(), spec)


def attach(cupy):
    """Give cupy.ndarray its methods and operators; `cupy` is the stand-in's module."""
    ndarray = cupy.ndarray

    def operator(ufunc, swapped=False, in_place=False):
        def run(self, other):
            if getattr(other, "__array_ufunc__", self) is None:
                return NotImplemented  # a Tensor knows better
            inputs = (other, self) if swapped else (self, other)
            return cupy._call(ufunc, inputs, (self,) if in_place else None, {})

        return run

    for name, ufunc in BINARY.items():
        setattr(ndarray, f"__{name}__", operator(ufunc))
        setattr(ndarray, f"__r{name}__", operator(ufunc, swapped=True))
        if name != "matmul":
            setattr(ndarray, f"__i{name}__", operator(ufunc, in_place=True))
    for name, ufunc in COMPARING.items():
        setattr(ndarray, f"__{name}__", operator(ufunc))

    def unary(ufunc):
        return lambda self: cupy._call(ufunc, (self,), None, {})

    for name, ufunc in UNARY.items():
        setattr(ndarray, f"__{name}__", unary(ufunc))

    def method(name):
        def run(self, *args, **named):
            cupy._operand(self)
            with np.errstate(all="ignore"):
                made = getattr(self._host, name)(*cupy._deep(args), **cupy._deep(named))
            return cupy._result(made)

        return run

    def view(name):
        return lambda self, *args, **named: cupy._view(
            self, getattr(self._host, name)(*args, **named)
        )

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        assert casting is None and subok is None, "is not supported yet"
        if not copy and dtype == self.dtype and (order == "K" or self.flags.c_contiguous):
            return self
        return ndarray(cupy._operand(self).astype(dtype, order=order))

    def copy(self, order="C"):
        return ndarray(np.array(cupy._operand(self), order=order))

    def repeat(self, repeats, axis=None):
        assert isinstance(repeats, (int, list, tuple, ndarray)), type(repeats)
        return cupy._result(self._host.repeat(cupy._deep(repeats), axis))

    for name in METHODS.split():
        setattr(ndarray, name, method(name))
    for name in VIEWS.split():
        setattr(ndarray, name, view(name))
    ndarray.astype, ndarray.copy, ndarray.repeat = astype, copy, repeat
    ndarray.fill = lambda self, value: self.__setitem__(..., value)
    ndarray.nonzero = lambda self: cupy._function("np", np.nonzero, "nonzero")(self)
    ndarray.sort = lambda self, axis=-1, kind=None: cupy._operand(self).sort(axis, kind)


BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
    "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power, "matmul": np.matmul,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip
COMPARING = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
UNARY = {
    "neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert,
}  # fmt: skip
METHODS = """
    sum mean max min argmax argmin all any cumsum cumprod argsort take dot var std prod flatten
    round clip conj trace choose
"""
VIEWS = "reshape transpose view ravel swapaxes squeeze diagonal"
