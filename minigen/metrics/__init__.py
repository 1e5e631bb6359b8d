"""How good samples are, how diverse, and whether they are copies: NumPy arrays in, floats out."""

from minigen.metrics.bootstrap import bootstrap
from minigen.metrics.copies import CopyReport, copies
from minigen.metrics.disentanglement import (
    dci,
    disentanglement,
    factor_vae_score,
    mig,
)
from minigen.metrics.frechet import frechet_distance, frechet_of
from minigen.metrics.kernel_distance import kernel_distance, squared_mmd
from minigen.metrics.modes import ModeReport, labels_covered, points_covered
from minigen.metrics.neighbours import density_coverage, precision_recall
from minigen.metrics.psnr import psnr, psnr_each
from minigen.metrics.sliced_wasserstein import sliced_wasserstein
from minigen.metrics.ssim import (
    most_scales,
    ms_ssim,
    ms_ssim_diversity,
    ms_ssim_each,
    ssim,
    ssim_each,
)

__all__ = [
    "CopyReport",
    "ModeReport",
    "bootstrap",
    "copies",
    "dci",
    "density_coverage",
    "disentanglement",
    "factor_vae_score",
    "frechet_distance",
    "frechet_of",
    "kernel_distance",
    "labels_covered",
    "mig",
    "most_scales",
    "ms_ssim",
    "ms_ssim_diversity",
    "ms_ssim_each",
    "points_covered",
    "precision_recall",
    "psnr",
    "psnr_each",
    "sliced_wasserstein",
    "squared_mmd",
    "ssim",
    "ssim_each",
]
