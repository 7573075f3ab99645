"""HDF5 files that are damaged or hostile are refused, also those that crash or stop the HDF5 library."""

import h5py
import numpy as np
import pytest

from keras3conv.errors import (
    BudgetExceeded,
    FileError,
    IncompleteCheckpoint,
    MalformedCheckpoint,
    NoData,
    UnsafeCheckpoint,
)
from tests.support import good_files, guarded
from tests.support.bad_hdf5_files import (
    alias,
    chained,
    config,
    dataset,
    deep,
    edited,
    filtered,
    flipped,
    group_cycle,
    groups,
    in_archive,
    link,
    link_of_another_kind,
    listed,
    locked,
    long_group,
    long_mark,
    long_name,
    loop_of_links,
    many_aliases,
    many_bombs,
    name_of_numbers,
    named,
    no_variables,
    numbered_from_one,
    of,
    other_attributes,
    planted,
    prefixed,
    variable_text,
    virtual,
)
from tests.support.guarded import Case, Outcome
from tests.support.hdf5_files import KERNEL, weights

LEGACY = good_files.keras_legacy
UNSAFE = {
    "values in another file": dataset(4, 3, external=[("../secret.bin", 0, 48)]),
    "a link to another file": link(h5py.ExternalLink("../other.h5", "/x")),
    "a group in another file": link(h5py.ExternalLink("../other.h5", "/"), "layers/other"),
    "a link to a link to another file": chained,
    "a link that h5py did not make": link_of_another_kind,
    "a link in the file": link(h5py.SoftLink("/layers/dense/vars/1")),
    "a link to nothing": link(h5py.SoftLink("/nothing")),
    "links in a circle": loop_of_links,
    "a virtual dataset of another file": virtual("../other.h5"),
    "a virtual dataset of the same file": virtual("."),
    "references": lambda file: file.create_dataset(KERNEL, (1,), h5py.ref_dtype),
    "references to regions": lambda file: file.create_dataset(KERNEL, (1,), h5py.regionref_dtype),
    "a filter of a plug-in": filtered,
}
CASES = {
    **{
        name: Case(build=planted(plant), error=UnsafeCheckpoint, says=r"x\.weights\.h5")
        for name, plant in UNSAFE.items()
    },
    **{
        f"{name}, in an archive": Case(build=in_archive(plant), error=UnsafeCheckpoint, says=r"x\.keras")
        for name, plant in UNSAFE.items()
    },
    # H1 to H4, H11, H12
    "a shape of 2**40": Case(
        build=planted(dataset(2**40, dtype="f8", chunks=(1024,), compression="gzip", first=1024)),
        error=BudgetExceeded,
        says=f"'{KERNEL}' declares 8,796,093,022,208 bytes",
    ),
    "a shape of 2**50": Case(
        build=planted(dataset(2**50, dtype="f8", chunks=(1024,), compression="gzip", first=1024)),
        error=FileError,
        says="'layers",
    ),
    "50 datasets of 4 GB that are empty": Case(build=planted(many_bombs), error=BudgetExceeded, says="declares"),
    "a dataset of 1 GB in a file of 12 KB": Case(
        build=planted(dataset(2**28, chunks=(2**20,), compression="gzip", first=2**20)),
        error=BudgetExceeded,
        says="declares",
    ),
    "chunks of one number": Case(
        build=planted(dataset(4096, 4096, chunks=(1, 1), first=1)), error=BudgetExceeded, says="chunks|declares"
    ),
    "a chunk of 2 GB": Case(
        build=planted(dataset(4, 2**27, chunks=(4, 2**27), compression="gzip", fillvalue=0)),
        error=FileError,
        says="'layers",
    ),
    "a dataset that was never written": Case(
        build=planted(dataset(4, 3, fillvalue=7)),
        error=NoData,
        says=(f"'{KERNEL}' is declared in the file, but its values were never written"),
    ),
    "a dataset that was written in part": Case(
        build=planted(dataset(400, 3, chunks=(100, 3), first=100)),
        error=NoData,
        says=f"'{KERNEL}' was written only in part",
    ),
    # H9, H10
    "a type in place of a dataset": Case(
        build=planted(link(np.dtype("f4"))), error=MalformedCheckpoint, says="neither a"
    ),
    "a group in place of a dataset": Case(
        build=planted(lambda file: file.create_group(KERNEL)), error=MalformedCheckpoint, says="is not an HDF5 dataset"
    ),
    "groups in a circle": Case(build=planted(group_cycle), error=MalformedCheckpoint, says="stored under two names"),
    "two names of a dataset": Case(build=planted(alias), error=None),
    "20,000 names of a dataset": Case(
        build=planted(many_aliases), error=BudgetExceeded, says="its 20,001 datasets share"
    ),
    # H14, H15
    "texts": Case(build=planted(variable_text), error=MalformedCheckpoint, says="not numbers"),
    "numbers with names": Case(
        build=planted(of([("a", "f4"), ("b", "i4")])), error=MalformedCheckpoint, says="not numbers"
    ),
    "arrays as elements": Case(
        build=planted(lambda file: file.create_dataset(KERNEL, (2,), np.dtype(("f4", (3,))))[...].sum()),
        error=FileError,
    ),
    "float32 marked as bfloat16": Case(build=planted(of("f4", "bfloat16")), error=MalformedCheckpoint, says="marked"),
    "opaque bytes without a mark": Case(build=planted(of("V2")), error=MalformedCheckpoint, says="not numbers"),
    "opaque bytes with another mark": Case(build=planted(of("V2", "evil\x1b")), error=MalformedCheckpoint, says="evil"),
    "a mark of 50 MB": Case(build=planted(long_mark), error=FileError, says="'dtype' is"),
    "big-endian numbers": Case(build=planted(of(">f4")), error=None),
    "an empty dataspace": Case(
        build=planted(link(h5py.Empty("f4"))),
        error=MalformedCheckpoint,
        says=f"'{KERNEL}' is a dataset without a shape",
    ),
    # H16
    "a gap in the numbers of the variables": Case(
        build=planted(numbered_from_one), error=MalformedCheckpoint, says="must be numbered 0, 1, ..., but are"
    ),
    "no variables": Case(build=no_variables, error=MalformedCheckpoint, says="no weights of a Keras model"),
    # H17, H18, H20
    "bytes before the file": Case(build=edited(weights, prefixed), error=FileError, says="is not HDF5"),
    "bytes after the file": Case(
        build=edited(weights, lambda content: content + b"tail"),
        error=MalformedCheckpoint,
        says="other bytes follow it",
    ),
    "a file that ends too early": Case(
        build=edited(weights, lambda content: content[:-1000]),
        error=MalformedCheckpoint,
        says="not downloaded or written",
    ),
    "a file without its second half": Case(
        build=edited(LEGACY, lambda content: content[: len(content) // 2]),
        error=MalformedCheckpoint,
        says="not downloaded",
    ),
    "only the first 12 bytes": Case(build=edited(weights, lambda content: content[:12]), error=FileError),
    "a size of an object that stops the library": Case(
        build=edited(LEGACY, flipped(2128)), error=MalformedCheckpoint, says="did not finish within its time limit"
    ),
    # H19
    "a name of 3,000 characters for a layer": Case(build=planted(long_name(3000)), error=BudgetExceeded, says="'name'"),
    "a name of 50 MB for a layer": Case(build=planted(long_name(50 << 20)), error=FileError, says="'name'"),
    "a name that is a list of numbers": Case(build=planted(name_of_numbers), error=MalformedCheckpoint, says="'name'"),
    "a name that is not UTF-8": Case(build=planted(named(b"a\xff")), error=MalformedCheckpoint),
    "control characters in the name of a layer": Case(build=planted(named(b"a\x1b[2J")), error=None),
    "2,000 attributes that nothing needs": Case(build=planted(other_attributes), error=None),
    "lists of layers that are numbers": Case(
        build=listed(np.zeros(3)), error=MalformedCheckpoint, says="'layer_names'"
    ),
    "a list of layers without the layers": Case(
        build=listed("a", "b\x1b"), error=IncompleteCheckpoint, says="lists the layer 'a'"
    ),
    "a list of layers with a layer twice": Case(build=listed("a", "a"), error=MalformedCheckpoint, says="twice"),
    "a list of 3,000 layers": Case(build=listed(*map(str, range(3000))), error=IncompleteCheckpoint, says="'0'"),
    "a layer with the path of another group": Case(
        build=listed("../../x", "y"), error=IncompleteCheckpoint, says=r"'\.\./\.\./x'"
    ),
    "60,000 groups": Case(build=planted(groups(60_000)), error=None),
    "groups of a depth of 2,000": Case(build=planted(deep), error=MalformedCheckpoint, says="is deeper than 64 levels"),
    "a name of 5,000 characters for a group": Case(
        build=planted(long_group), error=BudgetExceeded, says="has 5,000 bytes; the limit is 2,000"
    ),
    # Z7 for the architecture in HDF5
    "an architecture with a depth of 200,000": Case(
        build=config('{"a":' + "[" * 30_000), error=MalformedCheckpoint, says="nested too deeply|not JSON"
    ),
    "an architecture that is a list": Case(build=config("[]"), error=MalformedCheckpoint, says="architecture"),
    "an architecture with a key twice": Case(
        build=config('{"a": 1, "a": 2}'), error=MalformedCheckpoint, says="'a' occurs"
    ),
    # H21
    "a file that another program writes": Case(
        build=locked, error=FileError, says="is being written by another program"
    ),
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return guarded.outcomes(__name__)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_without_side_effects(case: str, outcomes: dict[str, Outcome]) -> None:
    guarded.check(CASES[case], outcomes[case])
