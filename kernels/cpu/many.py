"""Several arrays in one call: on the host, NumPy's own loops serve as well as any."""

from ..reference.many import add_each, copy_each

__all__ = ["add_each", "copy_each"]
