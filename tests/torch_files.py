"""Files as torch.save writes them, of both formats, made without torch."""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

STORAGES = {
    "<f4": "FloatStorage",
    "<f8": "DoubleStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
}
MAGIC = 0x1950A86A20F9469CFC6C


class Stored:
    """What torch calls a storage: some bytes with a key, named in the pickle by that key."""

    def __init__(self, array, key):
        self.array, self.key = np.ascontiguousarray(array), key


class Rebuilt:
    """Pickled as a call of torch._utils._rebuild_tensor_v2."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


def whole(array, key):
    """A tensor that shows all of its storage."""
    strides = tuple(each // array.itemsize for each in array.strides)
    return Rebuilt(Stored(array.reshape(-1), key), 0, array.shape, strides)


def tensors(state):
    return OrderedDict(
        (name, whole(array, str(i))) for i, (name, array) in enumerate(state.items())
    )


def save(path, state, monkeypatch, *, legacy=False):
    """Writes a state of Rebuilt tensors (or of anything else) as torch would."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    rebuild = lambda *arguments: None
    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, torch._utils = rebuild, utils
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    found = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Stored):
                return None
            found[value.key] = value.array
            kind = getattr(torch, STORAGES[value.array.dtype.str])
            view = (None,) if legacy else ()
            return ("storage", kind, value.key, "cpu", value.array.size, *view)

    file = io.BytesIO()
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "torch", torch)
        context.setitem(sys.modules, "torch._utils", utils)
        if legacy:
            for each in (MAGIC, 1001, {"little_endian": True}):
                pickle.dump(each, file, protocol=2)
        Pickler(file, protocol=2).dump(state)
    if legacy:
        pickle.dump(sorted(found), file, protocol=2)
        for key in sorted(found):
            file.write(struct.pack("<q", found[key].size) + found[key].tobytes())
        path.write_bytes(file.getvalue())
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", file.getvalue())
        for key, array in found.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
