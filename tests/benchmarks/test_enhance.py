"""The script about restored photographs: what it restores is what it says was damaged."""

import numpy as np
import pytest

import minigen as mg
from minigen.data import degradations


@pytest.mark.parametrize("task", ["noise 25", "half size"])
def test_damage_is_done_once(load, monkeypatch, task):
    script, given = load("enhance"), {}

    def restore(model, scale, y):
        given["y"] = degradations.enlarge(mg.asarray(y[None]), scale).numpy()[0] if scale > 1 else y
        names = ("minigen", "minigen, one mean", "minigen, one draw", "deviation")
        return dict.fromkeys(names, photos["one"]) | {"seconds": 0.0}

    for name in ("restore", "best_of"):
        monkeypatch.setattr(script, name, restore if name == "restore" else lambda *_: {})
    for name in ("non_local_means", "bilateral"):
        monkeypatch.setattr(script, name, lambda sigma: [])
    photos = {"one": np.random.default_rng(0).random((3, 16, 20), np.float32)}
    scores = script.measure(task, photos, None, None)["scores"]
    shown = scores["damaged"]["one"]["psnr"]
    assert script.score(photos["one"], given["y"], 0)["psnr"] == pytest.approx(shown, abs=1e-4)
    assert shown < 30
