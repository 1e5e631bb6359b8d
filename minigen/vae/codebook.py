"""A codebook: vectors that stand for all vectors nearest to them (van den Oord et al. 2017)."""

import minigen as mg
import minigen.kernels as kernels
from minigen import nn
from minigen.graph import recorded, written
from minigen.random import Generator
from minigen.tensor import Tensor

NEVER = 1e-12  # usage so small that nothing can be divided by it
GRACE = 2  # the usage that a vector begins anew with, in that below which it would have to


class Codebook(nn.Module):
    """`vectors` (K, D): the moving averages of what they stood for, or parameters if `learnt`.

    `usage` (K,) is the moving average of how many vectors of a step each stands for.
    """

    def __init__(
        self, codes: int, size: int, *, learnt: bool, decay: float, restart: float, rng: Generator
    ):
        self.decay, self.restart = decay, restart
        self.vectors = rng.uniform((codes, size), -1 / codes, 1 / codes)
        self.vectors.requires_grad = learnt
        self.usage = mg.zeros((codes,))
        self.sums = mg.zeros((codes, size))

    def nearest(self, z: Tensor) -> Tensor:
        """The code (N, H, W) int64 of each vector of z (N, D, H, W): argmin |z - e|^2."""
        n, _, height, width = z.shape
        lengths = 0.5 * (self.vectors * self.vectors).sum(1)
        distances = lengths - rows(z) @ self.vectors.transpose()  # but for |z|^2 / 2
        return mg.argmin(distances, 1).reshape((n, height, width))

    def look_up(self, codes: Tensor) -> Tensor:
        """The vectors (N, D, H, W) of codes (N, H, W)."""
        return mg.embedding(codes, self.vectors).transpose((0, 3, 1, 2))

    def counts(self, codes: Tensor) -> Tensor:
        """How often each code occurs, (K,)."""
        flat = codes.reshape(-1)
        return mg.index_add(mg.ones(flat.shape, device=flat.device), flat, self.usage.shape)

    @mg.no_grad()
    def update(self, z: Tensor, codes: Tensor, rng: Generator) -> Tensor:
        """Take what the codes of z stand for into the averages (appendix A.1), and make those that
        stand for too little begin again where vectors of z lie, drawn at random. Returns `counts`.
        """
        flat, counts = rows(z), self.counts(codes)
        keep, mean = self.decay, len(flat) / len(counts)
        usage = keep * self.usage + (1 - keep) * counts
        sums = mg.index_add(flat, codes.reshape(-1), self.sums.shape)
        sums = keep * self.sums + (1 - keep) * sums
        vectors = self.vectors
        if not self.vectors.requires_grad:
            used = usage.reshape((-1, 1))
            vectors = mg.where(used > NEVER, sums / mg.maximum(used, NEVER), vectors)
        if self.restart:
            chosen = mg.floor(rng.uniform(usage.shape) * len(flat)).astype("int64")
            fresh = mg.embedding(mg.minimum(chosen, len(flat) - 1), flat)
            least = self.restart * mean
            dead = usage < least
            usage = mg.where(dead, GRACE * least, usage)
            dead = dead.reshape((-1, 1))
            vectors = mg.where(dead, fresh, vectors)
            sums = mg.where(dead, GRACE * least * fresh, sums)
        write(self.vectors, vectors, self.usage, usage, self.sums, sums)
        return counts


def rows(z: Tensor) -> Tensor:
    """(N, D, H, W) -> (N H W, D)."""
    return z.transpose((0, 2, 3, 1)).reshape((-1, z.shape[1]))


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of codes that occur so often, 0-d: how many are in use."""
    p = counts / counts.sum()
    return mg.exp(-(p * mg.log(mg.maximum(p, NEVER))).sum())


@recorded
def write(vectors, new_vectors, usage, new_usage, sums, new_sums):
    """Write the new arrays into the Tensors."""
    pairs = ((vectors, new_vectors), (usage, new_usage), (sums, new_sums))
    kernels.copy_each(*[each.data for pair in pairs for each in pair])
    written(vectors, usage, sums)
