"""Settings: types, nearest names, files."""

import pytest

from minigen.train import UsageError
from minigen.train.config import convert, make_config
from minigen.train.registry import model_class
from tests.train.fake_model import MODEL


def config(*settings, **more):
    return make_config(MODEL, settings=settings, **more)


def test_settings_are_typed_by_the_options():
    options = config("lr=1e-3", "width=7", "flag=true", "sizes=(4, 5,6)", "kind=fancy").options
    assert (options.lr, options.width, options.flag, options.sizes) == (1e-3, 7, True, (4, 5, 6))
    assert isinstance(config("lr=1").options.lr, float)
    made = config("data.image_size=32", "data.channels=none")
    assert (made.data.image_size, made.data.channels) == (32, None)
    assert (made.capture, config("capture=false").capture) == (True, False)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("widht=3", "no option 'widht'; did you mean 'width'?"),
        ("lr=fast", "--set lr=fast: got 'fast', expected a finite number"),
        ("lr=nan", "got 'nan', expected a finite number"),
        ("lr=-inf", "got '-inf', expected a finite number"),
        ("width=2.5", "got '2.5', expected a whole number"),
        ("flag=maybe", "got 'maybe', expected true or false"),
        ("sizes=1,b", "got 'b', expected a whole number"),
        ("width=0", "--set width=0: got 0, expected at least 1"),
        ("sizes=3,-1", "got (3, -1), expected at least 1"),
        ("kind=plane", "got 'plane', expected one of plain, fancy"),
        ("batch_size=0", "batch_size is 0, expected at least 1"),
        ("data.imagesize=3", "did you mean 'data.image_size'?"),
        ("image_size=3", "did you mean 'data.image_size'?"),
        ("capture=perhaps", "--set capture=perhaps: got 'perhaps', expected true or false"),
        ("lr", "expected key=value"),
        ("=3", "expected key=value"),
    ],
)
def test_wrong_settings_name_the_right_ones(setting, message):
    with pytest.raises(UsageError) as caught:
        config(setting)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_flags_override_the_file_and_settings_override_both(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(
        f'model = "{MODEL}"\nsteps = 5\nseed = 2\n[data]\nsource = "photos"\n'
        "[options]\nlr = 1\nwidth = 9\nbatch_size = 8\n"
    )
    made = make_config(file=file, flags={"steps": 6, "batch_size": 7}, settings=["width=10"])
    assert (made.steps, made.seed, made.data.source) == (6, 2, "photos")
    assert (made.options.lr, made.options.width, made.options.batch_size) == (1.0, 10, 7)
    assert config().steps == 12  # the model's own default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "not TOML"),
        ("stesp = 3", "unknown key 'stesp'; did you mean 'steps'?"),
        ("lr = 0.1", "lr belongs under [options]"),
        ("steps = 1.5", "steps: got 1.5, expected a whole number"),
        ("steps = true", "got True, expected a whole number"),
        ("options = 3", "expected a table [options]"),
        ("[options]\nlr = 'a'", "options.lr: got 'a', expected a finite number"),
        ("[data]\nsorce = 'a'", "did you mean 'source'?"),
        ("[data]\nimage_shape = 3.5", "data.image_shape: got 3.5, expected a whole number"),
        ("model = 'vae'", "is of the model 'vae', not 'tests.train.fake_model:Fake'"),
        ("seed = -1", "--seed is -1, expected 0 to 2**64 - 1"),
        ("seed = 18446744073709551616", "--seed is 18446744073709551616, expected 0 to"),
        ("device = 'tpu'", "expected cpu or cuda"),
    ],
)
def test_wrong_files_are_explained_in_a_line(tmp_path, text, message):
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        make_config(MODEL, file=file)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_models():
    with pytest.raises(UsageError, match=r"nowhere.toml: No such file"):
        make_config(file="nowhere.toml")
    with pytest.raises(UsageError, match="did you mean 'dcgan'"):
        make_config("dcgn")
    with pytest.raises(UsageError, match="no model 'json:'"):
        make_config("json:")
    with pytest.raises(UsageError, match="no module 'nowhere'"):
        model_class("nowhere.models:Model")
    with pytest.raises(UsageError, match="no class 'Missing'"):
        model_class("tests.train.fake_model:Missing")


def test_toml_round_trip(tmp_path):
    made = config("lr=0.3", "sizes=7,8", "data.augment=flip", flags={"steps": 3, "seed": 2**53})
    made.image_shape = (1, 6, 6)
    (tmp_path / "config.toml").write_text(made.to_toml())
    assert make_config(file=tmp_path / "config.toml") == made
    other = make_config(file=tmp_path / "config.toml", data={"source": "photos"})
    assert other.image_shape == ()  # which may have another size


def test_convert_optional_and_none():
    assert convert("none", int | None, "x") is None
    assert convert("4", int | None, "x") == 4
    with pytest.raises(UsageError, match="expected a whole number"):
        convert("none", int, "x")
