"""Generative adversarial networks, one file a model; `losses` and `regularizers` are shared by
all.
"""
