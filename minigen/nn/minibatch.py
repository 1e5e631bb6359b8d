"""A layer that shows a discriminator how much the images of a batch differ."""

from minigen import ops
from minigen.nn.module import Module
from minigen.tensor import Tensor


class MinibatchStddev(Module):
    """Append to (N, C, ...) the standard deviation over groups of examples (Karras et al. 2017,
    section 3): (N, C + channels, ...).

    The deviation of each feature at each place over a group is averaged over all places and over
    each of `channels` equal parts of the features; every example of the group gets these numbers
    as constant maps. Examples that lie side by side form the ceil(N / group_size) groups, of equal
    size or, where that cannot be, one more in the first ones: 10 by 4 makes 4 + 3 + 3. A group of
    one has deviation 0.
    """

    def __init__(self, group_size: int = 4, channels: int = 1, *, eps: float = 1e-8):
        if group_size < 2 or channels < 1:
            raise ValueError(
                f"MinibatchStddev: group_size is {group_size}, channels {channels}; expected at"
                " least 2 and 1"
            )
        self.group_size, self.channels, self.eps = group_size, channels, eps

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or len(x) == 0 or x.shape[1] % self.channels:
            raise ValueError(
                f"MinibatchStddev: input has shape {x.shape}, expected (N, C, ...) with C a"
                f" multiple of {self.channels}"
            )
        groups = -(-len(x) // self.group_size)
        size, larger = divmod(len(x), groups)
        if not larger:
            return ops.concatenate([x, self._deviation(x, size)], 1)
        cut = larger * (size + 1)  # before it lie the groups that have one more
        maps = [self._deviation(x[:cut], size + 1), self._deviation(x[cut:], size)]
        return ops.concatenate([x, ops.concatenate(maps, 0)], 1)

    def _deviation(self, x, size):
        """The constant maps (N, channels, ...) of groups of `size`, which divides N."""
        count, places = len(x) // size, x.shape[2:]
        grouped = x.reshape((count, size, self.channels, -1))
        deviation = ops.sqrt(ops.var(grouped, 1) + self.eps).mean(-1)  # (count, channels)
        maps = deviation.reshape((count, 1, self.channels, *(1,) * len(places)))
        maps = ops.broadcast_to(maps, (count, size, self.channels, *places))
        return maps.reshape((len(x), self.channels, *places))

    def extra_repr(self) -> str:
        return f"{self.group_size}, channels={self.channels}"
