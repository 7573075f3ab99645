import io
import os
import pickle
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from keras3conv import formats
from keras3conv.errors import BudgetExceeded, FileError, MalformedCheckpoint, NoData, UnsafeCheckpoint
from keras3conv.model.views import TensorRef

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.bool,
    torch.complex64,
]
LEGACY = set(DTYPES) - {torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_written_and_read_bit_for_bit(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    state = {
        "a.weight": torch.randint(0, 2, (4, 6)).to(dtype),
        "a.bias": torch.zeros(()).to(dtype),
        "empty": torch.zeros(0, 3).to(dtype),
    }
    if not zipped and dtype not in LEGACY:
        pytest.skip("the format before torch 1.6 has no such dtype")
    state["a.transposed"], state["a.part"] = state["a.weight"].T, state["a.weight"][1:3, ::2]
    view = formats.read(saved(tmp_path / "x.pt", state, _use_new_zipfile_serialization=zipped))
    assert [tensor.dtype for tensor in view.tensors()] == [str(dtype).removeprefix("torch.")] * 5
    for name, tensor in state.items():
        assert view.read(name).tobytes() == bits(tensor)
        assert view.read(name).shape == tuple(tensor.shape)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_state_dict_is_saved_to_a_file_and_loaded(tmp_path: Path, suffix: str) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2).bfloat16())
    state = module.state_dict()
    view = formats.read(saved(tmp_path / "x.pt", state))
    path = tmp_path / f"y{suffix}"
    formats.write(path, list(view.tensors()), view.read)
    again = formats.read(path)
    assert again.layers == view.layers
    if suffix == ".safetensors":
        from safetensors.torch import load_file

        loaded = load_file(path)
    else:
        loaded = torch.load(path, weights_only=True)
    module.load_state_dict(loaded)
    for name, tensor in state.items():
        assert (loaded[name].dtype, loaded[name].shape, bits(loaded[name])) == (
            tensor.dtype,
            tensor.shape,
            bits(tensor),
        )


def test_every_dtype_that_torch_reads_is_written(tmp_path: Path) -> None:
    state = {str(dtype): torch.randint(0, 2, (3, 2)).to(dtype) for dtype in DTYPES}
    view = formats.read(saved(tmp_path / "x.pt", state))
    first = formats.write(tmp_path / "y.pt", list(view.tensors()), view.read)
    second = formats.write(tmp_path / "z.pt", list(view.tensors()), view.read)
    assert first.sha256 == second.sha256
    loaded = torch.load(tmp_path / "y.pt", weights_only=True, mmap=True)
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert bits(loaded[name]) == bits(tensor)
        assert loaded[name].data_ptr() % 64 == 0


def test_tied_tensors_stay_tied(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.randn(3, 2))
    view = formats.read(saved(tmp_path / "x.pt", {"emb.weight": weight, "head.weight": weight, "part": weight[:2]}))
    assert [tensor.storage for tensor in view.tensors()] == ["emb.weight", "emb.weight", ""]
    formats.write(tmp_path / "y.pt", list(view.tensors()), view.read)
    loaded = torch.load(tmp_path / "y.pt", weights_only=True)
    assert loaded["emb.weight"].data_ptr() == loaded["head.weight"].data_ptr()
    assert [tensor.storage for tensor in formats.read(tmp_path / "y.pt").tensors()] == ["emb.weight", "emb.weight", ""]


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "anything"])
def test_a_state_dict_is_found_inside_another_dict(tmp_path: Path, wrapper: str) -> None:
    module = nn.Linear(2, 2)
    optimiser = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    content = {wrapper: module.state_dict(), "optimizer": optimiser.state_dict(), "epoch": 3}
    view = formats.read(saved(tmp_path / "x.pt", content))
    assert [tensor.path for tensor in view.tensors()] == ["weight", "bias"]
    assert view.facts["state dict"] == wrapper
    assert view.facts["ignored, not tensors of the model"] == "optimizer, epoch"


def test_of_several_state_dicts_the_user_chooses(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"model": {"a": torch.zeros(1)}, "ema": {"a": torch.ones(1)}})
    with pytest.raises(FileError, match=r"2 state dicts(.|\n)*entry=\"model\""):
        formats.read(path)
    assert formats.read(path, entry="ema").read("a").tolist() == [1]
    with pytest.raises(FileError, match="has no state dict 'other'; its state dicts are: 'model', 'ema'"):
        formats.read(path, entry="other")


def test_entries_that_are_not_tensors_are_reported(tmp_path: Path) -> None:
    content = OrderedDict(weight=torch.zeros(1), _extra_state=b"x", epoch=None, names=["a"])
    view = formats.read(saved(tmp_path / "x.pt", content))
    assert view.facts["ignored, not tensors of the model"] == "_extra_state, epoch, names"


class Bomb:
    """Unpickling an instance would create a folder `pwned`."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("pwned",)


def _zip(path: Path, content: Any) -> None:
    torch.save(content, path)


def _legacy(path: Path, content: Any) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _plain(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content))


def _tar(path: Path, content: Any) -> None:
    with tarfile.open(path, "w") as archive:
        info, data = tarfile.TarInfo("pickle"), pickle.dumps(content)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("container", [_zip, _legacy, _plain, _tar])
def test_a_checkpoint_that_would_run_code_is_refused(
    tmp_path: Path, container: Callable[[Path, Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    container(tmp_path / "x.pt", {"weight": torch.zeros(1), "bomb": Bomb()})
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch executes the pickle"))
    with pytest.raises(FileError, match=r"would run code|torch\.save did not write|is a tar archive"):
        formats.read(tmp_path / "x.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_a_pickled_module_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UnsafeCheckpoint, match=r"torch\.nn\.modules\.linear\.Linear(.|\n)*state_dict\(\)"):
        formats.read(saved(tmp_path / "x.pt", nn.Linear(2, 2)))


def test_a_checkpoint_is_read_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.ones(1)})
    monkeypatch.setitem(sys.modules, "torch", None)
    assert formats.read(path).read("a").tolist() == [1]


@pytest.mark.filterwarnings("ignore:.*(quantize|Sparse|nested).*")
@pytest.mark.parametrize(
    ("tensor", "error", "message"),
    [
        (torch.zeros(1).expand(10**12), BudgetExceeded, "expands 4 stored bytes to 4,000,000,000,000"),
        (torch.zeros(3, device="meta"), NoData, "saved without its values"),
        (torch.eye(3).to_sparse(), FileError, "sparse"),
    ],
)
def test_a_tensor_that_is_not_plain_is_refused_by_name(
    tmp_path: Path, tensor: torch.Tensor, error: type[FileError], message: str
) -> None:
    with pytest.raises(error, match=rf"'odd'.*{message}"):
        formats.read(saved(tmp_path / "x.pt", {"odd": tensor}))


def test_a_small_expanded_tensor_is_read(tmp_path: Path) -> None:
    view = formats.read(saved(tmp_path / "x.pt", {"a": torch.tensor([3.0]).expand(2, 4)}))
    assert view.read("a").tolist() == [[3.0] * 4] * 2


def rezipped(path: Path, changes: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in members.items():
            if not name.rpartition("/")[2].startswith("."):
                target.writestr(name, changes.get(name.partition("/")[2], data))
    return path


def test_a_compressed_checkpoint_is_refused_before_it_is_decompressed(tmp_path: Path) -> None:
    path = rezipped(saved(tmp_path / "x.pt", {"a": torch.zeros(10**6)}), {}, zipfile.ZIP_DEFLATED)
    with pytest.raises(BudgetExceeded, match=r"torch\.save never compresses"):
        formats.read(path)


@pytest.mark.parametrize("size", [0, 4, 12, 400])
def test_a_storage_of_another_size_is_malformed(tmp_path: Path, size: int) -> None:
    path = rezipped(saved(tmp_path / "x.pt", {"a": torch.zeros(2)}), {"data/0": bytes(size)})
    with pytest.raises(MalformedCheckpoint, match="'a' declares 8 bytes of values"):
        formats.read(path)


def test_a_tensor_beyond_its_storage_is_malformed(tmp_path: Path) -> None:
    class Beyond:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

        def __reduce__(self) -> tuple[Any, ...]:
            storage = self.tensor._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, 0, (1000,), (1,), False, OrderedDict())

    with pytest.raises(MalformedCheckpoint):
        formats.read(saved(tmp_path / "x.pt", {"a": Beyond(torch.zeros(4))}))


def test_two_members_with_the_same_name_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.zeros(2)})
    with zipfile.ZipFile(path, "a") as target, pytest.warns(UserWarning, match="Duplicate name"):
        target.writestr(target.namelist()[0].partition("/")[0] + "/data.pkl", b"x")
    with pytest.raises(MalformedCheckpoint, match="two members"):
        formats.read(path)


def test_a_member_outside_of_the_folder_of_the_archive_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.zeros(2)})
    with zipfile.ZipFile(path, "a") as target:
        target.writestr("../evil", b"x")
    with pytest.raises(MalformedCheckpoint, match="is not in the folder 'x/'"):
        formats.read(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_flipped_bit_is_found_when_the_tensor_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.full((3,), 5.0), "b": torch.full((3,), 6.0)})
    whole = bytearray(path.read_bytes())
    whole[whole.index(np.full(3, 6.0, np.float32).tobytes())] ^= 1
    path.write_bytes(whole)
    view = formats.read(path)
    assert view.read("a").tolist() == [5, 5, 5]
    with pytest.raises(MalformedCheckpoint, match=r"the CRC of .* does not match"):
        view.read("b")


def test_a_checkpoint_truncated_anywhere_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.arange(20.0)})
    whole = path.read_bytes()
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError):
            formats.read(path)


def test_a_legacy_checkpoint_truncated_anywhere_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.arange(20.0)}, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError):
            formats.read(path)


def test_a_checkpoint_that_is_truncated_while_it_is_open_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.zeros(10**5)})
    view = formats.read(path)
    os.truncate(path, 1000)
    with pytest.raises(MalformedCheckpoint, match="changed while it was in use"):
        view.read("a")


def test_code_in_torchscript_is_not_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.zeros(2)})
    prefix = zipfile.ZipFile(path).namelist()[0].partition("/")[0]
    with zipfile.ZipFile(path, "a") as target:
        target.writestr(f"{prefix}/constants.pkl", b"x")
    with pytest.raises(UnsafeCheckpoint, match="TorchScript"):
        formats.read(path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(2)])
def test_content_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(FileError, match=r"not a state dict|no state dict|is no name"):
        formats.read(saved(tmp_path / "x.pt", content))


def test_a_failed_write_leaves_the_old_checkpoint_untouched(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.zeros(2)})
    before = path.read_bytes()

    def fails(name: str) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        formats.write(path, [TensorRef(path="a", role="a", shape=(2,))], fails, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_look_like_paths_are_only_names(tmp_path: Path) -> None:
    names = ["../../x", "/abs", "a/b", "C:\\x", "ü\n\0", "CON"]
    tensors = [TensorRef(path=name, role=name, shape=(1,)) for name in names]
    formats.write(tmp_path / "x.pt", tensors, lambda _: np.ones(1, np.float32))
    assert list(torch.load(tmp_path / "x.pt", weights_only=True)) == names
    assert list(tmp_path.iterdir()) == [tmp_path / "x.pt"]


def test_conjugate_and_negative_tensors_keep_their_values(tmp_path: Path) -> None:
    values = torch.tensor([1 + 2j, 3 - 4j])
    view = formats.read(saved(tmp_path / "x.pt", {"a": values.conj()}))
    assert view.read("a").tolist() == [1 - 2j, 3 + 4j]
    view = formats.read(saved(tmp_path / "y.pt", {"a": values.conj().imag}))
    assert view.read("a").tolist() == [-2, 4]


def test_a_dict_that_contains_itself_a_thousand_times_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {"a": {}}
    for _ in range(30):
        content = {str(number): content for number in range(10)}
    with pytest.raises(BudgetExceeded):
        formats.read(saved(tmp_path / "x.pt", content))


@pytest.mark.parametrize("samples", [pytest.param(60, id="sampled"), pytest.param(0, id="all", marks=pytest.mark.full)])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_a_changed_byte_is_refused_or_read_as_torch_reads_it(tmp_path: Path, zipped: bool, samples: int) -> None:
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2).bfloat16()}
    path = saved(tmp_path / "x.pt", state, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // samples | 1 if samples else 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            view = formats.read(path)
            found = {tensor.path: view.read(tensor.path).tobytes() for tensor in view.tensors()}
        except FileError:
            continue
        expected = {name: bits(tensor) for name, tensor in torch.load(path, weights_only=True).items()}
        assert found == expected, place
