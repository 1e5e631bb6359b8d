"""`to_torch`: the PyTorch twin of a minigen network, layer by layer, with copies of its weights."""

import numpy as np
import torch

from minigen import nn

t = torch.nn


def to_torch(module, how):
    """The twin of a module made of layers, in a memory format and on a device (workloads' How)."""
    twin = _convert(module).to(how.device)
    return twin.to(memory_format=torch.channels_last) if how.channels_last else twin


def _convert(m):
    if isinstance(m, nn.Sequential):
        return t.Sequential(*[layer for child in m for layer in _listed(child)])
    if isinstance(m, nn.ModuleList):
        return t.ModuleList(_convert(child) for child in m)
    layers = _listed(m)
    return layers[0] if len(layers) == 1 else t.Sequential(*layers)


def _listed(m):
    """The twin of a layer and, where minigen fuses one into it, of its activation."""
    if isinstance(m, nn.Sequential):
        return [_convert(m)]
    twin = _filled(_empty(m), m)
    if isinstance(m, (nn.ReLU, nn.LeakyReLU)):
        return [twin]
    slope = getattr(m, "negative_slope", None)
    return [twin] if slope is None else [twin, _activation(slope)]


def _empty(m):
    """The twin with weights of its own."""
    if isinstance(m, nn.Linear):
        return t.Linear(m.weight.shape[1], m.weight.shape[0], m.bias is not None)
    if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
        kind = t.Conv2d if isinstance(m, nn.Conv2d) else t.ConvTranspose2d
        return kind(
            m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding,
            groups=m.groups, dilation=m.dilation, bias=m.bias is not None,
        )  # fmt: skip
    if isinstance(m, nn.BatchNorm1d):
        kind = t.BatchNorm2d if isinstance(m, nn.BatchNorm2d) else t.BatchNorm1d
        return kind(m.num_features)
    if isinstance(m, nn.GroupNorm):
        return t.GroupNorm(m.num_groups, len(m.weight), m.eps)
    if isinstance(m, nn.LeakyReLU):
        return _activation(m.negative_slope)
    if isinstance(m, nn.MaxPool2d):
        return t.MaxPool2d(m.kernel_size, m.stride, m.padding)
    if isinstance(m, nn.Reshape):
        return t.Unflatten(1, m.shape)
    plain = {nn.ReLU: lambda: _activation(0), nn.Tanh: t.Tanh, nn.Flatten: t.Flatten}
    return plain[type(m)]()


def _activation(slope):
    return t.ReLU(True) if slope == 0 else t.LeakyReLU(slope, True)


def _filled(twin, m):
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            ours = getattr(m, name)
            values = torch.from_numpy(np.array(ours.numpy()))
            twin.to(values.dtype)
            parameter.copy_(values)
            parameter.requires_grad_(ours.requires_grad)
    return twin
