"""Modules, layers, initialisers and the base class of models."""

from minigen.nn import init
from minigen.nn.activation import (
    ELU,
    GELU,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from minigen.nn.attention import SelfAttention2d
from minigen.nn.conditional import ConditionalBatchNorm2d
from minigen.nn.container import (
    Flatten,
    Identity,
    Lambda,
    ModuleList,
    Reshape,
    Sequential,
    Unflatten,
)
from minigen.nn.conv import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    MaxPool2d,
    PixelShuffle,
    ReflectionPad2d,
    ReplicationPad2d,
    Upsample,
    ZeroPad2d,
)
from minigen.nn.equalized import EqualizedConv2d, EqualizedConvTranspose2d, EqualizedLinear
from minigen.nn.linear import Dropout, Dropout2d, Embedding, Linear
from minigen.nn.masked import HorizontalConv2d, VerticalConv2d
from minigen.nn.minibatch import MinibatchStddev
from minigen.nn.model import Model, default, mean_interval, no_interval, option, replayable
from minigen.nn.module import Module
from minigen.nn.norm import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    InstanceNorm2d,
    LayerNorm,
    PixelNorm,
)
from minigen.nn.spectral import SpectralNorm, orthogonal_penalty, spectral_norm

__all__ = [
    "ELU", "GELU", "AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm1d", "BatchNorm2d",
    "ConditionalBatchNorm2d", "Conv2d", "ConvTranspose2d", "Dropout", "Dropout2d", "Embedding",
    "EqualizedConv2d", "EqualizedConvTranspose2d", "EqualizedLinear", "Flatten", "GroupNorm",
    "HorizontalConv2d", "Identity", "InstanceNorm2d", "Lambda", "LayerNorm", "LeakyReLU",
    "Linear", "MaxPool2d", "MinibatchStddev", "Model", "Module", "ModuleList", "PixelNorm",
    "PixelShuffle", "ReLU", "ReflectionPad2d", "ReplicationPad2d", "Reshape", "SelfAttention2d",
    "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "SpectralNorm", "Tanh", "Unflatten",
    "Upsample", "VerticalConv2d", "ZeroPad2d", "default", "init", "mean_interval", "no_interval",
    "option", "orthogonal_penalty", "replayable", "spectral_norm",
]  # fmt: skip
