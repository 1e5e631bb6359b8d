"""What an installation relies on: the package list, the layers, the import time's causes."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FRAMEWORKS = {"torch", "tensorflow", "jax", "keras", "chainer", "tinygrad", "mlx"}
LAYERS = [  # from the bottom up: a file may import from its own layer and those below
    {"backend", "kernels", "graph"},
    {"tensor", "sweep", "autograd", "checkpoint", "capture", "replay"},
    {"ops", "testing", "random"},
    {"io", "data", "nn", "optim", "pretrained"},
    {"metrics"},
    {"gan", "vae"},
    {"train"},
    {"cli", "__main__"},
]


def sources():
    yield from (p for top in ("minigen", "kernels") for p in (ROOT / top).rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "minigen":
                yield from (f"minigen.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def test_package_list_matches_the_folders():
    folders = {
        ".".join(("minigen", *p.parent.relative_to(ROOT / "minigen").parts))
        for p in (ROOT / "minigen").rglob("__init__.py")
    } | {
        ".".join(("minigen.kernels", *p.parent.relative_to(ROOT / "kernels").parts))
        for p in (ROOT / "kernels").rglob("__init__.py")
    }
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert {f.rstrip(".") for f in folders} == listed


def test_no_framework_is_imported():
    for path in [*sources(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]:
        tops = {name.partition(".")[0] for name in imports(path)}
        assert not tops & FRAMEWORKS, path


def test_arrows_run_one_way():
    level = {name: i for i, names in enumerate(LAYERS) for name in names}
    for path in sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        here = parts[0] if parts[0] == "kernels" else parts[1]
        if here == "__init__":
            continue
        for name in imports(path):
            target = name.split(".")[1] if name.startswith("minigen.") else None
            if target in level:
                assert level[target] <= level[here], f"{path} imports {name}"
            if here in ("gan", "vae") and target in ("gan", "vae"):
                assert target == here, f"{path}: a family imports another's internals"
        if here == "kernels":
            assert not any(n.startswith("minigen.") and ".kernels" not in n for n in imports(path))


def test_importing_minigen_is_light():
    heavy = ("numba", "PIL", "safetensors", "matplotlib", "scipy", "rich", "cupy")
    code = f"import sys, minigen, minigen.data; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_kernels_refuse_to_be_a_top_level_module():
    code = "import kernels"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert out.returncode and "minigen.kernels" in out.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_documents_exist(name):
    assert (ROOT / name).read_text().strip()
