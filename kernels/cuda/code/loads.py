"""Loads that a thread has under way at a time: plain numbers, which the host reads too."""

RUN = 8
FEW = 4  # where threads share a row: they are more, and remember more
