"""VAEOptions: what can be set in a VAE, and which settings fit together."""

from dataclasses import dataclass, fields
from typing import Any

from minigen import nn
from minigen.vae.likelihoods import LIKELIHOODS
from minigen.vae.networks import ACTIVATIONS, NETWORKS


@dataclass(frozen=True)
class VAEOptions:
    """What can be set in a `vae`; the layer sizes are the source's.

    Other models have the same options with other defaults.
    """

    batch_size: int = nn.option(32, "images in a step", least=1)
    latent: int = nn.option(2, "numbers in the latent code z", least=1)
    network: str = nn.option("dense", "both networks", tuple(NETWORKS))
    encoder: tuple[int, ...] = nn.option(
        (128, 64), "sizes of the encoder's hidden layers, if dense", least=1
    )
    decoder: tuple[int, ...] = nn.option(
        (256, 128), "sizes of the decoder's hidden layers, if dense", least=1
    )
    channels: int = nn.option(32, "maps of the first convolution, if conv", least=1)
    activation: str = nn.option("relu", "between layers", tuple(ACTIVATIONS))
    likelihood: str = nn.option("bernoulli", "p(x | z) of a pixel", LIKELIHOODS)
    sigma: float = nn.option(
        0.1, "standard deviation of gaussian and logistic likelihoods; 0 to learn it", least=0
    )
    binarize: str = nn.option(
        "none", "make pixels 0 or 1: drawn anew each time, or at 1/2",
        ("none", "stochastic", "threshold"),
    )  # fmt: skip
    beta: float = nn.option(1.0, "weight of the KL term; more than 1: fewer units carry", least=0)
    warmup: int = nn.option(0, "steps in which that weight rises from 0", least=0)
    free_bits: float = nn.option(
        0.0, "nats that each unit may carry at no cost, against collapse", least=0
    )
    capacity: float = nn.option(
        0.0, "nats that the KL term is drawn to, with weight beta; 0: down as far as it goes",
        least=0,
    )  # fmt: skip
    capacity_steps: int = nn.option(0, "steps in which the capacity rises from 0", least=0)
    conditional: str = nn.option("none", "what the networks are told", ("none", "label"))
    classes: int = nn.option(10, "how many classes there are, if conditional", least=1)
    lr: float = nn.option(1e-3, "learning rate of Adam", least=0)
    epsilon: float = nn.option(1e-8, "Adam's epsilon", least=0)

    def check(self) -> None:
        """ValueError for options that contradict each other."""
        if self.binarize != "none" and self.likelihood != "bernoulli":
            raise ValueError(
                f"binarize={self.binarize} with likelihood={self.likelihood}: pixels of 0 and 1"
                " are bernoulli's; set likelihood=bernoulli or binarize=none"
            )
        for name in ("warmup", "free_bits", "capacity"):
            if not self.beta and getattr(self, name):
                raise ValueError(
                    f"{name}={getattr(self, name):g} with beta=0: the KL term has no weight; set"
                    f" beta=1, say, or {name}=0"
                )
        if self.capacity and self.free_bits:
            raise ValueError(
                f"capacity={self.capacity:g} with free_bits={self.free_bits:g}: each says how"
                " many nats are free; set one of the two"
            )
        if self.capacity and self.warmup:
            raise ValueError(
                f"capacity={self.capacity:g} with warmup={self.warmup}: the capacity rises"
                " instead of the weight; set capacity_steps"
            )
        if self.capacity_steps and not self.capacity:
            raise ValueError(
                f"capacity_steps={self.capacity_steps} without capacity: set capacity=25, say"
            )


def refuse_others(options: Any, names: tuple[str, ...], model: str, why: str) -> None:
    """ValueError where one of `names`, which `model` makes no use of, is not at its default."""
    for each in fields(options):
        value = getattr(options, each.name)
        if each.name in names and value != each.default:
            raise ValueError(f"{model}: {each.name}={value}, but {why}; expected {each.default}")
