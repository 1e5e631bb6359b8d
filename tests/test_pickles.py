"""Pickles of others: arrays come out, nothing is run, and what is damaged is said in one line."""

import io
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from minigen import pickles
from tests import torch_files

RNG = np.random.default_rng(0)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_arrays_in_lists_and_dicts(protocol):
    numbers = RNG.normal(size=(2, 3)).astype(np.float32)
    value = {"a": [numbers, np.asfortranarray(numbers)], "b": {"c": numbers.astype(">f4")}, "d": 1}
    found = pickles.load_numpy(pickle.dumps(value, protocol))
    assert found["d"] == 1 and found["b"]["c"].dtype == ">f4"
    for array in (*found["a"], found["b"]["c"]):
        np.testing.assert_array_equal(array, numbers)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Evil(), r"asks for (__builtin__|builtins)\.print, which is never executed"),
        ([np.zeros(2), [Evil()]], "never executed"),
        (np.array([None]), "a pickle of dtype 'O8'"),
        (np.zeros(2, complex), "a pickle of dtype 'c16'"),
        (np.zeros(2, [("a", "f4")]), "a pickle of dtype 'V4'"),
        (OrderedDict(), "asks for collections.OrderedDict"),
    ],
)
def test_nothing_else_is_read(value, message, capsys):
    with pytest.raises(pickles.Refused, match=message):
        pickles.load_numpy(pickle.dumps(value, protocol=2))
    with pytest.raises(ValueError):
        pickles.load_torch(pickle.dumps(value, protocol=2))
    assert capsys.readouterr().out == ""


def test_dtypes_are_chosen():
    with pytest.raises(pickles.Refused, match="a pickle of dtype 'f8'; expected integers"):
        pickles.load_numpy(pickle.dumps(np.zeros(2), protocol=2), dtypes={"i4"})


def test_a_reference_elsewhere_is_refused():
    with pytest.raises(pickles.Refused, match="refers to another file"):
        pickles.load_numpy(b"Pstorage\n.")


def test_damaged_pickles():
    whole = pickle.dumps([np.zeros(2, np.float32)], protocol=2)
    for cut in (0, 5, 60, len(whole) - 3):
        with pytest.raises(ValueError, match="damaged"):
            pickles.load_numpy(whole[:cut])
    endless: list = []
    endless.append(endless)
    with pytest.raises(ValueError, match="damaged: maximum recursion"):
        pickles.load_numpy(pickle.dumps(endless))
    unfilled = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85R."
    with pytest.raises(ValueError, match="never filled"):
        pickles.load_numpy(unfilled)


@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_of_torch(tmp_path, monkeypatch, legacy):
    path = tmp_path / "a.pth"
    state = {
        "w": RNG.normal(size=(2, 3, 4)).astype(np.float32),
        "h": RNG.normal(size=5).astype(np.float16),
        "n": np.array(7),
    }
    torch_files.save(path, torch_files.tensors(state), monkeypatch, legacy=legacy)
    found = pickles.load_torch(path.read_bytes())
    assert list(found) == list(state)
    for name, array in state.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_views_of_one_storage(tmp_path, monkeypatch):
    path, numbers = tmp_path / "a.pth", np.arange(12, dtype=np.float32)
    storage = torch_files.Stored(numbers, "0")
    state = {
        "transposed": torch_files.Rebuilt(storage, 0, (4, 3), (1, 4)),
        "tail": torch_files.Rebuilt(storage, 8, (4,), (1,)),
        "empty": torch_files.Rebuilt(storage, 12, (0, 3), (3, 1)),
    }
    torch_files.save(path, state, monkeypatch)
    found = pickles.load_torch(path.read_bytes())
    np.testing.assert_array_equal(found["transposed"], numbers.reshape(3, 4).T)
    np.testing.assert_array_equal(found["tail"], numbers[8:])
    assert found["empty"].shape == (0, 3)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"a": Evil()}, pickles.Refused, "never executed"),
        ([1, 2], pickles.Refused, "a file of one list; expected a state dict"),
        ({"a": 1}, pickles.Refused, "holds .a., which is no tensor"),
        ({}, pickles.Refused, "holds nothing"),
        ({"a": torch_files.Rebuilt(3, 0, (1,), (1,))}, pickles.Refused, "no view of a storage"),
        *(
            ({"a": torch_files.Rebuilt(torch_files.Stored(np.zeros(4, "<f4"), "0"), *view)},
             ValueError, "outside of its storage")
            for view in (
                (1, (4,), (1,)), (0, (2, 3), (3, 1)), (-1, (2,), (1,)), (3, (2,), (-1,)),
                (0, (1 << 40,), (0,)),
            )
        ),
    ],
)  # fmt: skip
def test_other_files_of_torch(tmp_path, monkeypatch, capsys, legacy, state, error, message):
    torch_files.save(tmp_path / "a.pth", state, monkeypatch, legacy=legacy)
    with pytest.raises(error, match=message):
        pickles.load_torch((tmp_path / "a.pth").read_bytes())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_of_torch(tmp_path, monkeypatch, legacy):
    path = tmp_path / "a.pth"
    state = {"w": np.ones(50, np.float32)}
    torch_files.save(path, torch_files.tensors(state), monkeypatch, legacy=legacy)
    whole = path.read_bytes()
    for cut in (0, 10, 100, len(whole) - 30):
        with pytest.raises(ValueError, match=r"damaged|no file of torch"):
            pickles.load_torch(whole[:cut])


# pickles that nobody's torch.save or NumPy wrote, opcode by opcode -------------------------------


def text(value):
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def number(value):
    content = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def numbers_of(*values):
    return b"(" + b"".join(number(value) for value in values) + b"t"


ZERO, ONE, TWO = number(0), numbers_of(1), numbers_of(2)
KEY, NAME = text("0"), text("w")
FOUR = np.arange(4, dtype="f4")


def storage(key=KEY, count=4):
    kind = b"ctorch\nFloatStorage\n"
    return b"(" + text("storage") + kind + key + text("cpu") + number(count) + b"tQ"


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n"
ENCODE = b"c_codecs\nencode\n"


def tensor(shape=TWO, strides=ONE, offset=ZERO, stored=None):
    return REBUILD + b"(" + (stored or storage()) + offset + shape + strides + b"tR"


def state(value, name=NAME):
    return b"\x80\x02}(" + name + value + b"u."


def build(*pairs):
    """The opcode that sets attributes."""
    return b"}(" + b"".join(text(name) + value for name, value in pairs) + b"ub"


def slots(*pairs):
    """The same, with setattr."""
    return b"N" + build(*pairs)[:-1] + b"\x86b"


def zipped(pickled, numbers=FOUR, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", numbers.tobytes())
    return file.getvalue()


def legacy_of(pickled, numbers=FOUR):
    file = io.BytesIO()
    for each in (pickles.LEGACY_MAGIC, 1001, {}):
        pickle.dump(each, file, protocol=2)
    file.write(pickled)
    pickle.dump(["0"], file, protocol=2)
    file.write(numbers.size.to_bytes(8, "little") + numbers.tobytes())
    return file.getvalue()


WIDER = (("shape", numbers_of(4000)), ("strides", numbers_of(1)))
LATER = b"](" + number(2) + b"eq\x01"  # a list [2], kept
CHANGES = "changes what it has made"
MORE = "makes more than lists"
LENGTHS = "lengths are no numbers"


@pytest.mark.parametrize("pack", [zipped, legacy_of])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        # what was checked is changed afterwards
        (tensor() + build(*WIDER), CHANGES),
        (tensor() + slots(*WIDER), CHANGES),
        (tensor(stored=storage() + build(("count", number(1 << 20)))), CHANGES),
        (REBUILD + build(("a", number(1))), CHANGES),
        (REBUILD + slots(("array", number(1))), CHANGES),
        (REBUILD + slots(("__defaults__", numbers_of(1))), CHANGES),
        (b"ctorch._utils\n_rebuild_parameter\n" + slots(("__defaults__", b"N")), CHANGES),
        (ORDERED + build(("items", number(1))), CHANGES),
        # nothing is made but by the functions
        (REBUILD + b")\x81", MORE),
        (REBUILD + b")}\x92", MORE),
        (ORDERED + b")\x81", MORE),
        (b"(" + REBUILD + b"o", MORE),
        (b"(itorch._utils\n_rebuild_tensor_v2\n", MORE),
        (b"\x82\x01", MORE),
        (b"\x8f", MORE),
        (b"\x96" + (1 << 40).to_bytes(8, "little"), MORE),
        # odd arguments; a product of lists or of texts fills the memory
        (REBUILD + b")R", "damaged: .*missing"),
        (REBUILD + b"(" + storage() + b"NNNtR", "damaged: "),
        (tensor(numbers_of(1 << 22), b"((" + text("wide") + b"lt"), LENGTHS),
        (tensor(numbers_of(1 << 22), b"(" + text("wide") + b"t"), LENGTHS),
        (tensor(b"(" + text("wide") + number(1 << 22) + b"t", numbers_of(1, 1)), LENGTHS),
        (tensor(numbers_of(0, 1 << 63), numbers_of(1, 1)), LENGTHS),
        (tensor(numbers_of(0, 1 << 30, 1 << 30), numbers_of(1, 1, 1)), "outside of its storage"),
        (tensor(numbers_of(*[1] * 33), numbers_of(*[1] * 33)), "no view of a storage"),
        (tensor(stored=storage(key=b"]" + b"2\x86" * 60)), "refers to .* one tuple"),
        (tensor(stored=storage(count=-1)), "without a length"),
        (tensor(stored=storage(count=1 << 61)), "without a length"),
        (tensor(stored=storage(count=1 << 30)), "has 16 bytes|ends too early"),
        (tensor(stored=storage(key=text("a\nb"))), r"a.{1,2}nb|belongs to no tensor"),
        (b"c" + b"a" * 500 + b"\nb\n", r"asks for a{60}, which"),
        (ORDERED + b"NR", "damaged: "),
    ],
)  # fmt: skip
def test_attacks_on_a_state_dict(pack, value, message):
    before = dict(vars(pickles._Tensor)), pickles._encode.__defaults__
    with pytest.raises(ValueError, match=message) as found:
        pickles.load_torch(pack(state(value)))
    assert "\n" not in str(found.value) and len(str(found.value)) < 300
    assert before == (dict(vars(pickles._Tensor)), pickles._encode.__defaults__)


@pytest.mark.parametrize("pack", [zipped, legacy_of])
def test_oddities_without_harm(pack):
    for value in (
        tensor(shape=LATER) + b"0h\x01(" + number(4000) + b"e0" + tensor(),  # a list changed later
        tensor(shape=LATER, strides=b"](" + number(1) + b"e"),
        tensor() + b"r\xff\xff\x00\x00",
    ):
        found = pickles.load_torch(pack(state(value)))["w"]
        np.testing.assert_array_equal(found, [0, 1])
    grown = tensor(shape=LATER) + b"h\x01" + number(4000) + b"a0"
    np.testing.assert_array_equal(pickles.load_torch(pack(state(grown)))["w"], [0, 1])
    with_metadata = b"\x80\x02" + ORDERED + b")R(" + text("w") + tensor() + b"u"
    with_metadata += build(("_metadata", b"}"), ("items", b"N")) + b"."
    np.testing.assert_array_equal(pickles.load_torch(pack(with_metadata))["w"], [0, 1])
    with pytest.raises(pickles.Refused, match="holds one int, which is no tensor"):
        pickles.load_torch(pack(state(tensor(), name=number(1))))


def test_tensors_of_one_storage_share_its_memory():
    many = b"\x80\x02}(" + text("a") + tensor() + text("b") + tensor() + b"u."
    for pack in (zipped, legacy_of):
        found = pickles.load_torch(pack(many))
        assert np.shares_memory(found["a"], found["b"]) and not found["a"].flags.writeable


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (ENCODE + slots(("__defaults__", numbers_of(1))), CHANGES),
        (b"cnumpy\ndtype\n" + build(("a", b"N")), CHANGES),
        (b"cnumpy\nndarray\n" + slots(("value", b"N")), "damaged"),
        (b"cnumpy\nndarray\n)\x81", MORE),
        (b"cnumpy\nndarray\n)R", "damaged: .*not callable"),
        (b"cnumpy\ndtype\n(]" + b"2\x86" * 60 + b"tR", "of dtype one tuple"),
        (ENCODE + b"(NNtR", "encodes to one NoneType"),
        (ENCODE + b"(N" + text("latin1") + b"tR", "damaged: "),
        (text("a"), None),
    ],
)
def test_attacks_on_numpy(pickled, message):
    if message is None:
        assert pickles.load_numpy(pickled + b".") == "a"
        return
    with pytest.raises(ValueError, match=message):
        pickles.load_numpy(pickled + b".")


def test_little_files_of_much_memory():
    kept = text("a" * 1000) + b"q\x01" + text("latin1") + b"q\x02"
    again = ENCODE + b"h\x01h\x02\x86R0"
    assert pickles.load_numpy(kept + again + b".") == "latin1"
    with pytest.raises(pickles.Refused, match="more than it has bytes"):
        pickles.load_numpy(kept + again * 100 + b".")
    pairs = b"](" + b"".join(number(i) + number(i) + b"\x86" for i in range(100)) + b"eq\x01"
    with pytest.raises(pickles.Refused, match="more than it has bytes"):
        pickles.load_torch(zipped(pairs + (ORDERED + b"(h\x01tR0") * 200 + b"."))
    nested = pickles.load_numpy(b"]" + b"2\x86" * 12 + b".")  # each twice the one before
    for _ in range(12):
        assert nested[0] is nested[1]
        nested = nested[0]


def test_memory_that_a_pickle_only_claims():
    """Apart, with 16 GB to live on: C's unpickler dies, or says that there is no memory."""
    code = """
        import resource
        from minigen import pickles
        resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
        for pickled in (b"]r\\xff\\xff\\xff\\x7f.", b"]p4000000000\\n."):
            assert pickles.load_numpy(pickled) == []
        for opcode in b"\\x8d\\x8e\\x95":
            try:
                pickles.load_numpy(bytes([opcode]) + (1 << 40).to_bytes(8, "little") + b".")
            except ValueError as error:
                print(error)
    """
    lines = [line.removeprefix("        ") for line in code.splitlines()]
    found = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == "damaged: it ends too early\n" * 3


# zips --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_zips(method):
    bomb = zipped(state(tensor()), np.zeros(1 << 20, "f4"), compression=method)
    with pytest.raises(pickles.Refused, match="a compressed zip"):
        pickles.load_torch(bomb)


@pytest.mark.parametrize(
    ("at", "change", "message"),
    [  # offsets within the entry of the last file in the central directory
        (6, b"\xff\x00", "zip file version 25.5"),
        (8, b"\x01\x00", "encrypted"),
        (8, b"\x20\x00", "compressed patched data"),
        (8, b"\x40\x00", "strong encryption"),
        (10, b"\x63\x00", "compressed zip"),
        (16, b"\x00\x00", "Bad CRC-32"),
        (20, b"\x08\x00", "(Bad CRC-32|has 8 bytes)"),
        (24, b"\xff\xff\xff\x7f", "with longer files in it"),
        (42, b"\xff\xff", "damaged: "),
        (42, b"\x00\x00", "header .* differ"),
    ],
)
def test_zips_of_false_headers(at, change, message):
    content = bytearray(zipped(state(tensor())))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + at : entry + at + len(change)] = change
    with pytest.raises(ValueError, match=message) as found:
        pickles.load_torch(bytes(content))
    assert "\n" not in str(found.value)


def test_a_zip_without_the_numbers():
    with pytest.raises(ValueError, match=r"damaged: .*no item named 'a/data/7'"):
        pickles.load_torch(zipped(state(tensor(stored=storage(key=text("7"))))))
    with pytest.raises(ValueError, match="has 16 bytes, expected 5 numbers"):
        pickles.load_torch(zipped(state(tensor(stored=storage(count=5)))))


def test_any_byte_may_be_damaged():
    """Whatever a byte becomes, there are arrays or a ValueError of one line."""
    whole = pickle.dumps({"a": np.ones((2, 3), "f4"), "b": [b"b", 1.5]}, protocol=2)
    for load, content in (
        (pickles.load_torch, zipped(state(tensor()))),
        (pickles.load_torch, legacy_of(state(tensor()))),
        (pickles.load_numpy, whole),
    ):
        faults = 0
        for i in range(len(content)):
            for mask in (0xFF, 0x01):
                damaged = bytearray(content)
                damaged[i] ^= mask
                try:
                    load(bytes(damaged))
                except ValueError as error:
                    assert "\n" not in str(error) and len(str(error)) < 300
                    faults += 1
        assert faults > len(content) / 2
