"""Which parts of a GAN go together: senseless combinations are refused, with the reason."""

from typing import Any

from minigen.gan import diff_augment
from minigen.gan.regularizers import REGULARIZERS, Penalty


def check_combination(options: Any) -> None:
    """ValueError, one line, where options contradict each other."""
    for holds, reason in _REFUSED:
        if holds(options):
            raise ValueError(reason.format(o=options))
    diff_augment.parse(options.diff_augment)


def _penalised(o: Any) -> bool:
    return isinstance(REGULARIZERS[o.regularizer], Penalty)


_REFUSED = (
    (
        lambda o: _penalised(o) and o.normalization == "batch",
        "normalization=batch with regularizer={o.regularizer}: the penalty is on the gradient of"
        " each decision by its own image, and batch norm mixes the images;"
        " set normalization=layer (or instance, none)",
    ),
    (
        lambda o: (
            o.loss == "wasserstein"
            and o.regularizer not in ("gradient-penalty", "weight-clipping")
            and not (o.spectral_norm and o.normalization == "none")
        ),
        "loss=wasserstein with regularizer={o.regularizer}: the loss has no lower bound unless the"
        " critic's slope is bounded; set regularizer=gradient-penalty (or weight-clipping), or"
        " spectral_norm=true with normalization=none",
    ),
    (
        lambda o: o.spectral_norm and o.normalization != "none",
        "spectral_norm=true with normalization={o.normalization}: it scales its input anew, so that"
        " bounded weights bound nothing; set normalization=none",
    ),
    (
        lambda o: o.spectral_norm and o.regularizer == "weight-clipping",
        "spectral_norm=true with regularizer=weight-clipping: the norm that is divided out makes"
        " the size of the weights irrelevant; set one of them",
    ),
    (
        lambda o: o.regularizer == "none" and o.regularizer_weight is not None,
        "regularizer_weight={o.regularizer_weight} with regularizer=none: there is nothing to"
        " weigh; set a regularizer",
    ),
    (
        lambda o: o.regularizer == "weight-clipping" and o.regularizer_weight == 0,
        "regularizer_weight=0 with regularizer=weight-clipping: all weights would be 0; set the"
        " largest size that they may have, such as 0.01",
    ),
    (
        lambda o: o.batch_size % o.packing,
        "packing={o.packing} with batch_size={o.batch_size}: the batch must be a multiple of it",
    ),
    (
        lambda o: o.packing > 1 and o.conditional != "none",
        "packing={o.packing} with conditional={o.conditional}: a pack gets one decision, and its"
        " images have a class each; set packing=1",
    ),
    (
        lambda o: o.minibatch_stddev and o.batch_size // o.packing < 2,
        "minibatch_stddev=true with batch_size={o.batch_size} and packing={o.packing}: one decision"
        " a batch has no deviation; set a larger batch_size",
    ),
    (
        lambda o: o.beta1 >= 1 or o.beta2 >= 1,
        "beta1={o.beta1}, beta2={o.beta2}: Adam's decays must be below 1",
    ),
)
