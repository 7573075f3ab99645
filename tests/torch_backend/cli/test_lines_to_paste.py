"""The command line prints options, not Python; what it prints does not delete what the user has."""

import json
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers
from safetensors.torch import load_file
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.by_hand import REGISTER
from keras3conv.cli.imported import imports
from keras3conv.cli.lines import ALIGN, VALIDATE, as_options, with_options
from keras3conv.cli.next_command import probed, validation
from keras3conv.cli.suggested import names_for, names_for_convert
from keras3conv.errors import FileError
from keras3conv.frameworks.adapter import Adapter
from keras3conv.model.views import Side
from tests.support.cli_runs import run

FACTORY = """
import torch
def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
"""


@pytest.mark.parametrize(
    ("python", "option"),
    [
        ("k3c.convert(module, inputs=torch.zeros(1, 3, 224, 224))", "--shape 1,3,224,224"),
        ("k3c.convert(model, inputs=example_input)", "--inputs FILE.npz"),
        ('k3c.convert("m.json", weights="w.h5")', "keras3conv convert m.json --keras-weights w.h5 -o FOLDER"),
        ('plan = plan.pair("a", "b")', f'{ALIGN} --hint "a=b"'),
        ('plan.pair(["q", "k", "v"], "qkv")', f'{ALIGN} --hint "q + k + v=qkv"'),
        ('plan = plan.ignore("a", "no")', f'{ALIGN} --ignore "a=no"'),
        ('plan = plan.pair("", "dense")', f'{ALIGN} --hint ".=dense"'),
        ('plan = plan.pair("weight", ["a", "b"])', f'{ALIGN} --hint "weight=a + b"'),
        ('plan = plan.ignore("a", "no", side="torch")', f'{ALIGN} --ignore "torch:a=no"'),
        ('plan = plan.unpair("fc")', ALIGN),
        (REGISTER, f"{ALIGN} --import FILE.py  # your rule for these layers"),
        ('k3c.transfer(source, model, plan, out="x.keras")', "keras3conv transfer SOURCE net.py:make -o x.keras"),
        ("k3c.transfer(source, target_model, plan, out=path)", "keras3conv transfer SOURCE net.py:make -o FILE"),
        (
            'k3c.convert(module, weights="n.pt", inputs=example_input)',
            "keras3conv convert net.py:make --torch-weights n.pt --inputs FILE.npz -o FOLDER",
        ),
        ('out="new.h5"     or     overwrite=True', "-o new.h5     or     --overwrite"),
        ('proofs="outputs"', "--proof outputs"),
        ("onnx=True", "--onnx"),
        ('backends="all"', "--backends all"),
        ("labels=labels", "--labels FILE.npy"),
        ("labels=labels.argmax(axis=1)", 'numpy.save("FILE.npy", labels.argmax(axis=1))'),
        ('expected="outputs.npz"', "--expected outputs.npz"),
        ("k3c.transfer(module, model, plan)", "keras3conv transfer TORCH KERAS --plan PLAN.json -o FILE"),
        ("k3c.convert(module, inputs=...)", "keras3conv convert net.py:make --inputs FILE.npz -o FOLDER"),
        ("k3c.convert(module, inputs=example_input)", "keras3conv convert net.py:make --inputs FILE.npz -o FOLDER"),
        ("transfer(..., accept_unconfirmed=True)", "--accept-unconfirmed"),
        ("plan = k3c.align(torch, keras, inputs=x)", f"{ALIGN} --inputs FILE.npz"),
        ('entry="ema"', "--entry ema"),
        ('inputs={"a": a, "b": b}', 'numpy.savez("inputs.npz", a=a, b=b)  # and --inputs inputs.npz'),
        (
            'keras_inputs={"a": a}',
            'numpy.savez("keras_inputs.npz", a=a)  # and --keras-inputs keras_inputs.npz',
        ),
        (
            'plan = plan.pair("a", "b").pair(["c", "d"], "").ignore("e", "no", side="keras")',
            f'{ALIGN} --hint "a=b" --hint "c + d=." --ignore "keras:e=no"',
        ),
        (
            'plan = plan.ignore("a", "no")     and     plan = plan.ignore("b", "no")',
            f'{ALIGN} --ignore "a=no" --ignore "b=no"',
        ),
        (
            'keras.saving.get_custom_objects()["Own"] = Own  # your class; then convert again     or     x',
            "--import FILE.py  # your file with the class Own     or     x",
        ),
    ],
)
def test_a_call_in_python_becomes_an_option(python: str, option: str) -> None:
    assert as_options(f"Fix:  {python}") == f"Fix:  {option}"


def test_the_arguments_of_the_command_replace_the_placeholders_and_nothing_else() -> None:
    message = 'TORCH_HOME and KERAS_BACKEND\nFix:  plan = plan.pair("a", "b")'
    names = names_for("n.py:make", "m.keras", None, None, again=["--hint", "c=d"])
    assert as_options(message, names) == (
        'TORCH_HOME and KERAS_BACKEND\nFix:  keras3conv align n.py:make m.keras --hint c=d --hint "a=b"'
    )


def test_validate_is_suggested_again_if_keras_cannot_load_the_file() -> None:
    message = 'Fix:  k3c.convert(make_model(), weights="m.keras")  # make_model is your own code'
    names = names_for("n.pt", "m.keras", None, None, entry="ema")
    assert as_options(message, names) == (
        "Fix:  keras3conv validate n.pt keras_net.py:make_model --keras-weights m.keras --entry ema  "
        "# make_model is your own code"
    )


def test_a_rule_that_was_imported_is_not_asked_for_again() -> None:
    message = f"Fix:  {REGISTER}"
    assert as_options(message) == f"Fix:  {ALIGN} --import FILE.py  # your rule for these layers"
    token = imports.set(("own.py",))
    try:
        names = names_for("n.pt", "m.keras", None, None)
        assert as_options(message, names) == (
            "Fix:  keras3conv align n.pt m.keras --import own.py -o plan.json  "
            "# as soon as own.py has a rule that fits these layers"
        )
    finally:
        imports.reset(token)


def test_a_line_with_a_transform_stays_python() -> None:
    line = 'plan = plan.pair("a", "b", transform=k3c.transforms.Axes("o i -> i o"))'
    assert as_options(f"Fix:  {line}") == f"Fix:  {line}"


def test_the_model_itself_has_a_name_in_hints(tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "x.pt")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(3, name="b")])
    model.save(tmp_path / "model.keras")
    files = (tmp_path / "x.pt", tmp_path / "model.keras")
    hinted = run("align", *files, "--hint", ".=a", "--ignore", "b=not in torch", "--json")
    assert hinted.exit_code == 0, hinted.output
    assert [pair["keras"] for pair in json.loads(hinted.stdout)["pairs"]] == ["a"]


@pytest.mark.slow
def test_the_shape_that_convert_asks_for_works(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    asked = run("convert", f"{tmp_path}/net.py:make", "-o", tmp_path / "out")
    assert asked.exit_code == 2
    assert "Fix:  --shape 1,3,224,224" in asked.output
    assert "k3c." not in asked.output
    done = run("convert", f"{tmp_path}/net.py:make", "-o", tmp_path / "out", "--shape", "1,4", "--no-validate")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.slow
def test_the_line_for_a_file_that_keras_cannot_load_runs(tmp_path: Path) -> None:
    code = "import keras\n\n\ndef make_model():\n    given = keras.Input((3,))\n"
    code += "    return keras.Sequential([given, keras.layers.Dense(2), keras.layers.Activation('relu')])\n"
    (tmp_path / "own_code.py").write_text(code)
    made = [keras.Input((3,)), layers.Dense(2), layers.Lambda(lambda x: x * (x > 0))]
    keras.Sequential(made).save(tmp_path / "net.keras")
    refused = run("convert", tmp_path / "net.keras", "-o", tmp_path / "out", "--no-validate")
    line = refused.stderr.partition("Fix:  ")[2].partition("\n")[0]
    own = line.replace("keras_net.py", str(tmp_path / "own_code.py")).replace("FOLDER", str(tmp_path / "out"))
    program, *arguments = shlex.split(own, comments=True)
    done = run(*arguments, "--no-validate")
    assert (program, done.exit_code) == ("keras3conv", 0), (line, done.output)


def test_lines_of_a_report_are_options_too() -> None:
    module = nn.Sequential(nn.Linear(4, 4))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")])
    plan = k3c.align(module, model, probe=False)
    k3c.transfer(module, model, plan)
    weights = model.layers[0].get_weights()
    model.layers[0].set_weights([weights[0].T, weights[1]])
    report = k3c.validate(module, model, plan=plan, proofs=("activations",))
    assert any("plan.pair" in fix for section in report.sections for one in section.problems for fix in one.fixes)
    shown = [fix for section in with_options(report).sections for one in section.problems for fix in one.fixes]
    assert shown
    assert not any("plan" in fix for fix in shown)


def test_a_folder_with_files_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    conversion = k3c.convert(model, validate=False)
    conversion.save(tmp_path / "net")
    conversion.save(tmp_path / "net", overwrite=True)  # the folder of a conversion
    (tmp_path / "net" / "results.csv").write_text("1,2\n")
    before = sorted(path.name for path in (tmp_path / "net").iterdir())
    for overwrite in (False, True):
        with pytest.raises(FileError, match=r"a file of another origin \(results\.csv\)") as raised:
            conversion.save(tmp_path / "net", overwrite=overwrite)
        assert "overwrite" not in str(raised.value)
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == before


def test_the_line_for_an_existing_file_offers_another_name_first(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    k3c.convert(model, validate=False).save(tmp_path / "net")
    metadata = (tmp_path / "net" / "metadata.json").read_bytes()
    model.save(tmp_path / "model.keras")
    torch.save(nn.Sequential(nn.Linear(4, 3)).state_dict(), tmp_path / "x.pt")
    files = (tmp_path / "x.pt", tmp_path / "model.keras")
    refused = run("align", *files, "-o", tmp_path / "net" / "metadata.json")
    assert refused.exit_code == 2
    assert "choose another name, or replace it\nFix:  --overwrite" in refused.output
    assert (tmp_path / "net" / "metadata.json").read_bytes() == metadata
    assert json.loads(metadata)


@pytest.mark.slow
@pytest.mark.parametrize("colours", ["NO_COLOR", ""])
def test_a_report_in_a_pipe_has_eighty_columns_and_colours_obey_no_color(
    colours: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    keras.Sequential([keras.Input((4,)), layers.Dense(3)]).save(tmp_path / "model.keras")
    monkeypatch.setenv("COLUMNS", "80")
    options = ("validate", f"{tmp_path}/net.py:make", tmp_path / "model.keras")
    piped = run(*options)
    assert piped.exit_code == 1, piped.output
    whole = (str(tmp_path), "Fix:  ", "  or    ")  # names of files, and lines to paste
    lines = [line for line in piped.stdout.splitlines() if not any(text in line for text in whole)]
    assert lines
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in piped.output
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if colours:
        monkeypatch.setenv(colours, "1")
    assert ("\x1b[1;31m" in run(*options).stdout) is not bool(colours)


@pytest.mark.parametrize(
    ("source", "target", "out", "command"),
    [
        ("net.pt", "net.py:keras", "new.keras", "TORCH.py:make new.keras --torch-weights net.pt"),
        ("old.keras", "net.py:make", "new.pt", "net.py:make old.keras --torch-weights new.pt"),
        ("net.py:make", "net.py:keras", "a b.weights.h5", "net.py:make net.py:keras --keras-weights 'a b.weights.h5'"),
        ("net.py:make", "old.keras", "", "net.py:make old.keras"),
        (
            "w.weights.h5",
            "new.pt",
            "",
            "TORCH.py:make KERAS.py:make --torch-weights new.pt --keras-weights w.weights.h5",
        ),
    ],
)
def test_a_transfer_ends_with_the_command_that_compares_both_models(
    source: str, target: str, out: str, command: str
) -> None:
    ends = []
    for name in (source, target):
        side: Side = "keras" if "keras" in name or ".h5" in name else "torch"
        ends.append((name, cast(Adapter, SimpleNamespace(side=side, is_live=":" in name, source=keras.Sequential()))))
    written = [Path(out)] if out else []
    assert validation(ends[0], ends[1], written, {"torch": None, "keras": None}) == f"keras3conv validate {command}"


def test_a_suggested_command_repeats_the_code_that_was_imported() -> None:
    token = imports.set(("my layers.py", "package.rules"))
    code = " --import 'my layers.py' --import package.rules"
    try:
        names = names_for("net.py:make", "net.keras", Path("net.pt"), None)
        assert names[VALIDATE] == f"keras3conv validate net.py:make net.keras --torch-weights net.pt{code}"
        assert names[ALIGN] == f"keras3conv align net.py:make net.keras --torch-weights net.pt{code} -o plan.json"
        converted = names_for_convert({"shape": "1,3", "inputs": None, "entry": "", "out": Path("out")})
        assert converted == {
            " --inputs FILE.npz -o FOLDER": f" --shape 1,3{code} -o out",
            " -o FOLDER": f"{code} -o out",
        }
        module, model = (cast(Adapter, SimpleNamespace(side=side, is_live=True)) for side in ("torch", "keras"))
        command = validation(("net.py:make", module), ("net.py:keras", model), (), {"torch": None, "keras": None})
        assert command == f"keras3conv validate net.py:make net.py:keras{code}"
    finally:
        imports.reset(token)


def test_the_command_that_confirms_the_pairs_of_a_file() -> None:
    file = cast(Adapter, SimpleNamespace(side="torch", is_live=False))
    module, model = (cast(Adapter, SimpleNamespace(side=side, is_live=True)) for side in ("torch", "keras"))
    out = (Path("net.keras"),)
    assert probed(("net.pt", file), ("net.py:keras_net", model), out, {"torch": None, "keras": None}) == (
        "keras3conv transfer TORCH.py:make net.py:keras_net --torch-weights net.pt -o net.keras --overwrite"
    )
    given: dict[Side, Path | None] = {"torch": Path("net.pt"), "keras": None}
    assert not probed(("net.py:net", module), ("net.py:keras_net", model), out, given)


UNSEEDED = "import torch\n\n\ndef make():\n    return torch.nn.Sequential(torch.nn.Linear(4, 3))\n"


def test_a_transfer_of_weights_from_no_file_says_that_they_may_be_new_ones(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(UNSEEDED)
    net = f"{tmp_path}/net.py:make"
    torch.save(nn.Sequential(nn.Linear(4, 3)).state_dict(), tmp_path / "net.pt")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    model.save(tmp_path / "model.keras")
    words = f"no file of weights was loaded into {net}"
    moved = run("transfer", net, tmp_path / "model.keras", "-o", tmp_path / "new.keras")
    assert moved.exit_code == 0, moved.output
    assert words in moved.stderr
    assert "give --torch-weights FILE to both commands" in moved.stderr
    weights = ("--torch-weights", tmp_path / "net.pt", "--overwrite")
    moved = run("transfer", net, tmp_path / "model.keras", "-o", tmp_path / "new.keras", *weights)
    assert moved.exit_code == 0, moved.output
    assert words not in moved.stderr


@pytest.mark.parametrize(("whole", "named"), [(True, "old.h5"), (False, "KERAS.py:make")])
def test_the_command_after_a_transfer_from_an_h5_file_of_weights_asks_for_the_code(
    tmp_path: Path, *, whole: bool, named: str
) -> None:
    (tmp_path / "net.py").write_text(UNSEEDED)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    old = tmp_path / "old.h5"
    model.save(old)
    if not whole:
        with h5py.File(old, "r") as source, h5py.File(tmp_path / "weights.h5", "w") as target:
            for name in source["model_weights"]:
                source.copy(f"model_weights/{name}", target)
            target.attrs.update(source["model_weights"].attrs)
        (tmp_path / "weights.h5").replace(old)
    moved = run("transfer", old, f"{tmp_path}/net.py:make", "-o", tmp_path / "new.pt")
    assert moved.exit_code == 0, moved.output
    line = moved.stderr.partition("to compare the outputs of both models:  ")[2].partition("\n")[0]
    expected = [f"{tmp_path}/{named}" if whole else named, "--torch-weights", f"{tmp_path}/new.pt"]
    assert shlex.split(line)[3:6] == expected
    assert ("--keras-weights" in line) != whole


def test_the_program_that_reorders_rows_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    net = "nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5))"
    (tmp_path / "code" / "flat_net.py").write_text(f"from torch import nn\ndef make():\n    return {net}\n")
    model = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)])
    model.save_weights("w.weights.h5")
    done = run("transfer", "w.weights.h5", "code/flat_net.py:make", "-o", "net.safetensors")
    assert done.exit_code == 3
    _, _, lines = done.output.partition("the same transfer in Python:\n")
    program = [line.removeprefix("    ") for line in lines.split("\n") if line.startswith("    ")]
    last = next(number for number, line in enumerate(program, 1) if "k3c.transfer" in line)
    monkeypatch.setattr(sys, "path", [*sys.path])
    exec("\n".join(program[:last]), {})  # noqa: S102 - our own message
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5))
    module.load_state_dict(load_file("net.safetensors"))
    images = torch.randn(2, 6, 6, 3)
    expected = keras.ops.convert_to_numpy(model(images))
    assert np.allclose(module(images.permute(0, 3, 1, 2)).detach().numpy(), expected, atol=1e-5)


def test_of_several_orders_of_rows_the_program_takes_one_and_comments_the_others(tmp_path: Path) -> None:
    torch.save({"gate_up.weight": torch.rand(24, 6), "down.weight": torch.rand(6, 12)}, tmp_path / "x.pt")
    given = keras.Input((6,))
    gate, up = (layers.Dense(12, use_bias=False, name=name)(given) for name in ("gate", "up"))
    keras.Model(given, layers.Dense(6, use_bias=False, name="down")(gate * up)).save(tmp_path / "y.keras")
    said = run(
        "transfer", str(tmp_path / "x.pt"), str(tmp_path / "y.keras"), "-o", str(tmp_path / "z.weights.h5")
    ).output
    program = [line.strip() for line in said.partition("the same transfer in Python:\n")[2].splitlines()]
    assert sum(line.startswith("plan = plan.pair(") for line in program) == 1
    assert sum(line.startswith("# or  plan = plan.pair(") for line in program) == 1
