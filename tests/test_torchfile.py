"""PyTorch checkpoints: read exactly, and without running anything a hostile file says."""

from __future__ import annotations

import copyreg
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import builders
import numpy as np
import pickles
import pytest

from edge_llama_convert import ConvertError, SourceError, UnsupportedError, convert, plan
from edge_llama_convert.torchfile import read_torch_file
from edge_llama_convert.unpickle import MAX_OPCODES, unpickle

INDEX = "pytorch_model.bin.index.json"


def one_tensor(path: Path, **changes: Any) -> Path:
    """A file with the float32 tensor "w" of shape [2, 3]; the storage has eight elements."""
    options = {"count": 8, "shape": (2, 3), **changes}
    piece = pickles.tensor("0", "F32", **options)
    data = np.arange(8, dtype=np.float32).tobytes()
    return pickles.write_archive(path, pickles.state_dict({"w": piece}), {"0": data})


def to_torch(folder: Path, *, shards: int = 1, index: bool = True) -> Path:
    """Replace the safetensors file of a tiny F16 checkpoint by torch files of the same values."""
    weights = pickles.packed(builders.tiny_tensors(json.loads(_read(folder))), "F16")
    names = sorted(weights)
    weight_map = {}
    for i in range(shards):
        file = f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" if shards > 1 else "pytorch_model.bin"
        part = names[i::shards]
        pickles.write_torch(folder / file, {name: weights[name] for name in part})
        weight_map.update(dict.fromkeys(part, file))
    if shards > 1 and index:
        builders.write_json(folder / INDEX, {"weight_map": weight_map})
    (folder / "model.safetensors").unlink()
    return folder


def _read(folder: Path) -> str:
    return (folder / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(("shards", "index"), [(1, False), (3, True), (3, False)])
def test_the_result_is_the_one_from_safetensors(
    tmp_path: Path, shards: int, *, index: bool
) -> None:
    outputs = []
    for kind in ("safetensors", "torch"):
        folder = builders.build_tiny_checkpoint(tmp_path / kind / "same", dtype="F16")
        if kind == "torch":
            to_torch(folder, shards=shards, index=index)
        convert(plan(folder, recipe="q8_0"), tmp_path / f"{kind}.gguf")
        outputs.append((tmp_path / f"{kind}.gguf").read_bytes())
    assert outputs[0] == outputs[1]


def test_a_tied_output_in_the_same_storage_is_left_out(tmp_path: Path) -> None:
    folder = builders.build_tiny_checkpoint(tmp_path / "x", dtype="F16")
    weights = pickles.packed(builders.tiny_tensors(json.loads(_read(folder))), "F16")
    embedding = weights["model.embed_tokens.weight"][1]
    pieces, storages = {}, {}
    for i, (name, (dtype, array)) in enumerate(weights.items()):
        pieces[name] = pickles.tensor(str(i), dtype, array.size, array.shape)
        storages[str(i)] = array.tobytes()
        if array is embedding:
            pieces["lm_head.weight"] = pieces[name]
    (folder / "model.safetensors").unlink()
    pickles.write_archive(folder / "pytorch_model.bin", pickles.state_dict(pieces), storages)
    names = [target.tensor.name for target in plan(folder).layout.targets]
    assert "output.weight" not in names


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = to_torch(builders.build_tiny_checkpoint(tmp_path / "x", dtype="F16"), shards=2)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(SourceError, match="1 of 2 shards missing: pytorch_model-00002"):
        plan(folder)


def test_views_and_parameters_are_placed_exactly(tmp_path: Path) -> None:
    view = pickles.tensor("0", "F32", 8, (1, 3), stride=(99, 1), offset=2)
    pickled = pickles.state_dict({"v": view, "p": pickles.parameter(view)})
    content = np.arange(8, dtype=np.float32).tobytes()
    path = pickles.write_archive(tmp_path / "x.bin", pickled, {"0": content}, byteorder=None)
    tensors = read_torch_file(path)
    assert tensors["v"].offset == tensors["p"].offset
    raw = path.read_bytes()[tensors["v"].offset :][: tensors["v"].nbytes]
    assert np.frombuffer(raw, np.float32).tolist() == [2.0, 3.0, 4.0]


def test_files_beyond_4_gib_use_zip64(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    data = np.arange(6, dtype=np.float32).tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        pickled = pickles.state_dict({"w": pickles.tensor("0", "F32", 6, (2, 3))})
        archive.writestr("archive/data.pkl", pickled)
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            member.write(data)
    raw = bytearray(path.read_bytes())
    # Let the list of members name the storage's sizes and place by its zip64 field only.
    at = raw.rfind(b"PK\1\2")
    header = struct.unpack_from("<I", raw, at + 42)[0]
    extra = struct.pack("<2H3Q", 1, 24, len(data), len(data), header)
    struct.pack_into("<2I", raw, at + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<I", raw, at + 42, 0xFFFFFFFF)
    struct.pack_into("<H", raw, at + 30, len(extra))
    end = raw.rfind(b"PK\5\6")
    directory = struct.unpack_from("<I", raw, end + 16)[0]
    nbytes = end - directory + len(extra)
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, nbytes, directory)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end + len(extra), 1)
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(bytes(raw[:end]) + extra + end64 + locator + last)
    ref = read_torch_file(path)["w"]
    assert path.read_bytes()[ref.offset :][: ref.nbytes] == data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (3, 2), "stride": (1, 3)}, "strides"),  # transposed
        ({"stride": (0, 1)}, "strides"),  # expanded: rows overlap
        ({"stride": (4, 1)}, "strides"),  # a slice of a wider matrix
        ({"offset": 3}, "needs 9 elements"),
        ({"count": 2**40, "shape": (2**20, 2**20)}, "its storage has 32 bytes"),
        ({"count": 6}, "its storage has 32 bytes"),
        ({"shape": (2**62, 2**62)}, "impossible tensor"),
        ({"offset": -1}, "impossible tensor"),
        ({"shape": (1,) * 9, "stride": (1,) * 9}, "impossible tensor"),
    ],
)
def test_impossible_tensors_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConvertError, match=message):
        read_torch_file(one_tensor(tmp_path / "x.bin", **changes))


def test_other_dtypes_are_named(tmp_path: Path) -> None:
    folder = builders.build_tiny_checkpoint(tmp_path / "x")
    (folder / "model.safetensors").unlink()
    pickled = pickles.state_dict({"w": pickles.tensor("0", "LongStorage", 2, (2,))})
    pickles.write_archive(folder / "pytorch_model.bin", pickled, {"0": bytes(16)})
    with pytest.raises(UnsupportedError, match=r"pytorch_model\.bin: tensor w has dtype I64"):
        plan(folder)


def test_dtypes_without_a_storage_class_are_named(tmp_path: Path) -> None:
    newer = pickles.name("torch._utils", "_rebuild_tensor_v3") + b")R"
    pickled = pickles.state_dict({"w": newer})
    path = pickles.write_archive(tmp_path / "x.bin", pickled)
    with pytest.raises(UnsupportedError, match="tensors of a dtype like fp8 or int8") as caught:
        read_torch_file(path)
    assert "unquantised" in caught.value.hint


# --- The archive around the pickle ---------------------------------------------------------------


def test_big_endian_compressed_and_old_files_are_refused(tmp_path: Path) -> None:
    pickled = pickles.state_dict({"w": pickles.tensor("0", "F32", 6, (2, 3))})
    path = tmp_path / "x.bin"
    pickles.write_archive(path, pickled, {"0": bytes(24)}, byteorder=b"big")
    with pytest.raises(UnsupportedError, match="big-endian"):
        read_torch_file(path)
    pickles.write_archive(path, pickled, {"0": bytes(24)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsupportedError, match="compressed"):
        read_torch_file(path)
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + b"...")
    with pytest.raises(UnsupportedError, match=r"before 1\.6") as caught:
        read_torch_file(path)
    assert "torch.save" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4", b"<html>", b"PK\5\6" + bytes(18)])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.bin"):
        read_torch_file(path)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = one_tensor(tmp_path / "x.bin")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError):
            read_torch_file(path)


def test_a_changed_byte_is_an_error_or_still_within_the_file(tmp_path: Path) -> None:
    path = one_tensor(tmp_path / "x.bin")
    whole = path.read_bytes()
    for at in range(len(whole)):
        for value in (0x00, 0xFF, whole[at] ^ 0x01):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                for ref in read_torch_file(path).values():
                    assert 0 < ref.offset <= ref.offset + ref.nbytes <= len(whole)
            except ConvertError as error:
                assert error.hint  # noqa: PT017 - both outcomes are right


def test_an_archive_that_claims_billions_of_members(tmp_path: Path) -> None:
    path = one_tensor(tmp_path / "x.bin")
    raw = bytearray(path.read_bytes())
    end = raw.rfind(b"PK\5\6")
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2**60, 2**60, 2**61, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    path.write_bytes(bytes(raw[:end]) + end64 + locator + bytes(raw[end:]))
    with pytest.raises(SourceError):
        read_torch_file(path)


# --- Hostile pickles: nothing may run ------------------------------------------------------------


class _Touch:
    """Pickled, it is a call of ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(victim: str) -> dict[str, bytes]:
    touch = f"open({victim!r}, 'w').close()"
    ordered = pickles.name("collections", "OrderedDict") + b")R"
    evil = pickles.name("os", "system") + b"(" + pickles.text(f"touch {victim}") + b"tR"
    storage = pickles.storage("0", "F32", 8)
    return {
        "os.system": b"\x80\x02" + evil + b".",
        "posix.system": pickle.dumps(_Touch(__import__("os").system, f"touch {victim}")),
        "eval": pickle.dumps(_Touch(eval, touch), protocol=2),
        "exec": pickle.dumps(_Touch(exec, touch), protocol=4),
        "getattr": pickle.dumps(_Touch(getattr, _Touch(__import__, "os"), "system")),
        "open": pickle.dumps(_Touch(open, victim, "w")),
        "protocol 0": b"cos\nsystem\n(S'touch " + victim.encode() + b"'\ntR.",
        "in a value": pickles.state_dict({"w": evil}),
        "as storage": pickles.state_dict({"w": storage.replace(b"ctorch\nFloat", b"cos\nFloat")}),
        "dotted": b"\x80\x04\x8c\x05torch\x8c\x13_utils.os.path.join\x93.",
        "made-up name": b"\x80\x04" + ordered + pickles.text("system") + b"\x93.",
        "inst": b"(S'touch'\nios\nsystem\n.",
        "obj": b"(" + pickles.name("os", "system") + pickles.text("touch") + b"o.",
        "newobj": b"\x80\x02" + pickles.name("collections", "OrderedDict") + b")\x81.",
        "ext1": b"\x80\x02\x82\xf0)R.",
        "ext4": b"\x80\x02\x84\xf0\0\0\0)R.",
        "build on a class": pickles.name("collections", "OrderedDict") + b"}b.",
        "build on a tensor": pickles.tensor("0", "F32", 8, (2, 3)) + b"}b.",
        "call a dict": ordered + b")R.",
        "call with a list": pickles.name("collections", "OrderedDict") + b"]R.",
        "OrderedDict of pairs": pickles.name("collections", "OrderedDict") + b"](Nte\x85R.",
        "call a storage class": pickles.name("torch", "FloatStorage") + b")R.",
        "rebuild nonsense": pickles.name("torch._utils", "_rebuild_parameter") + b"N\x85R.",
        "no arguments": pickles.name("torch._utils", "_rebuild_parameter") + b")R.",
        "persistent string": b"\x80\x02" + pickles.text("storage") + b"Q.",
        "persistent text": b"P0\n.",
        "persistent short": b"(" + pickles.text("storage") + b"tQ.",
        "persistent long": b"(" + pickles.text("storage") + b"NNNNNtQ.",
        "persistent module": b"(" + pickles.text("module") + storage[12:],
        "a tuple as key": b"}" + b")" + b"\x85" * 100_000 + b"Ns.",
    }


@pytest.mark.parametrize("case", hostile(""))
def test_nothing_in_a_pickle_is_run(tmp_path: Path, case: str) -> None:
    victim = tmp_path / "hacked"
    copyreg.add_extension("os", "system", 0xF0)
    try:
        path = pickles.write_archive(tmp_path / "x.bin", hostile(str(victim))[case])
        with pytest.raises(ConvertError) as caught:
            read_torch_file(path)
    finally:
        copyreg.remove_extension("os", "system", 0xF0)
    assert not victim.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["x.bin"]
    assert caught.value.hint


def test_the_refused_name_is_told(tmp_path: Path) -> None:
    path = pickles.write_archive(tmp_path / "x.bin", hostile("x")["os.system"])
    with pytest.raises(UnsupportedError, match=r"refers to os\.system; refused, nothing was run"):
        read_torch_file(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b".",
        b"(.",
        b"\x80\x02}",
        b"h\x07.",
        b"t.",
        b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",  # lists in lists
        b"\x80\x02" + b"(" * 300_000 + b".",
        b"]" + b"r\xff\xff\xff\x7f" + b".",  # a memo index of two billion
        b"\x8e" + b"\xff" * 7 + b"\x7f" + b".",  # bytes of an absurd length
        b"X\xff\xff\xff\xff.",
        b"\x8b\xff\xff\xff\x7f.",
        b"N0" * MAX_OPCODES + b".",
        b"\x95" + b"\xff" * 8 + b".",
        bytes(17 * 1024 * 1024),
    ],
    ids=range(15),
)
def test_damaged_and_absurd_pickles_end_in_an_error(tmp_path: Path, pickled: bytes) -> None:
    path = pickles.write_archive(tmp_path / "x.bin", pickled)
    with pytest.raises(ConvertError):
        read_torch_file(path)


def test_no_more_opcodes_than_the_bound() -> None:
    with pytest.raises(SourceError, match="steps"):
        unpickle(b"N(" * (MAX_OPCODES // 2 + 1) + b".", Path("x"))


def test_training_checkpoints_are_told(tmp_path: Path) -> None:
    pickled = b"\x80\x02}(" + pickles.text("epoch") + b"K\x03" + pickles.text("model") + b"}u."
    path = pickles.write_archive(tmp_path / "x.bin", pickled)
    with pytest.raises(UnsupportedError, match="'epoch', 'model' are none") as caught:
        read_torch_file(path)
    assert "state_dict" in caught.value.hint
