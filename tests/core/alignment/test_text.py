"""The text and the HTML of a plan."""

from dataclasses import replace

import pytest

from keras3conv.alignment.pair import Evidence, EvidenceKind, Ignored, Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.alignment.text import describe, describe_html
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Axes

KERNEL = Axes("o i -> i o")


def layer(side: Side, path: str) -> LayerView:
    role, mark = ("weight", ".") if side == "torch" else ("kernel", "/")
    return LayerView(path=path, tensors=(TensorRef(path=f"{path}{mark}{role}", role=role, shape=(2, 2)),))


def model(side: Side, *paths: str) -> ModelView:
    name = "Net" if side == "torch" else "net"
    return ModelView(side=side, name=name, layers=tuple(layer(side, path) for path in paths))


def pair(torch: str, keras: str, kind: EvidenceKind = "call order", *candidates: str) -> Pair:
    return Pair(
        torch=torch,
        keras=keras,
        rule="torch.nn.Linear <-> keras.layers.Dense",
        weights=(WeightMapping(torch=(f"{torch}.weight",), keras=(f"{keras}/kernel",), transform=KERNEL),),
        evidence=(Evidence(kind=kind),),
        candidates=candidates,
    )


def plan() -> Alignment:
    return Alignment(
        pairs=(
            *(pair(f"blocks.{place}.fc", f"block_{place + 1}_dense") for place in range(3)),
            pair("q", "query", "definition order", "key", "value"),
        ),
        ignored=tuple(
            Ignored(side="torch", path=f"blocks.{place}.counter", reason="it only counts") for place in range(3)
        ),
        torch=model("torch", *(f"blocks.{place}.fc" for place in range(3)), "q", *(f"heads.{n}" for n in range(2))),
        keras=model("keras", *(f"block_{place + 1}_dense" for place in range(3)), "query"),
    )


def test_the_text_of_a_plan_is_a_summary_and_tables() -> None:
    assert describe(plan()) == (
        "Net (torch) <-> net (keras): 4 pairs, 1 not confirmed, 3 tensors ignored, 2 problems\n"
        "\n"
        "Pairs\n"
        "  torch             keras               layer  decided by            pairs  tensors\n"
        "  ---------------------------------------------------------------------------------\n"
        "  blocks.{0..2}.fc  block_{1..3}_dense  Dense  call order            3      3\n"
        "  q                 query               Dense  definition order (?)  1      1\n"
        "\n"
        "Not confirmed: no run of the models confirmed these pairs\n"
        "  torch  keras  other candidates\n"
        "  ------------------------------\n"
        "  q      query  key, value\n"
        "\n"
        "Ignored\n"
        "  tensor                 side   reason\n"
        "  --------------------------------------------\n"
        "  blocks.{0..2}.counter  torch  it only counts\n"
        "\n"
        "2 problems:\n"
        "  heads.{0..1}  (torch)  weight (2, 2) matched nothing; Keras has no variable of this size left\n"
        'Fix:  plan = plan.ignore("heads.0", "reason").ignore("heads.1", "reason")'
    )


def test_the_text_of_a_complete_plan_has_no_problems() -> None:
    done = Alignment(
        pairs=(pair("fc", "dense", "name"),), ignored=(), torch=model("torch", "fc"), keras=model("keras", "dense")
    )
    assert describe(done) == (
        "Net (torch) <-> net (keras): 1 pair, 0 not confirmed, 0 tensors ignored, no problems\n"
        "\n"
        "Pairs\n"
        "  torch  keras  layer  decided by  pairs  tensors\n"
        "  -----------------------------------------------\n"
        "  fc     dense  Dense  name        1      1"
    )


def test_a_pair_without_other_candidates_says_what_alone_decided_it() -> None:
    alone = Alignment(
        pairs=(pair("q", "query", "position"),), ignored=(), torch=model("torch", "q"), keras=model("keras", "query")
    )
    assert describe(alone).splitlines()[-1] == "  q      query  none were compared: paired by position alone"


def test_str_of_a_plan_is_its_text() -> None:
    assert str(plan()) == describe(plan())


def test_names_are_escaped_in_html() -> None:
    done = Alignment(
        pairs=(pair("<b>fc", "dense&", "name"),),
        ignored=(),
        torch=model("torch", "<b>fc"),
        keras=model("keras", "dense&"),
    )
    html = describe_html(done)
    assert "<td>&lt;b&gt;fc</td><td>dense&amp;</td>" in html
    assert "<b>fc" not in html


def test_html_marks_a_plan_whose_outputs_differ_as_failed() -> None:
    done = Alignment(
        pairs=(pair("fc", "dense", "name"),), ignored=(), torch=model("torch", "fc"), keras=model("keras", "dense")
    )
    assert 'class="pill passed"' in describe_html(done)
    assert 'class="pill failed"' in describe_html(replace(done, difference="their outputs differ by 0.5"))


def test_html_contains_the_problems() -> None:
    assert "heads.{0..1}  (torch)  weight (2, 2) matched nothing" in describe_html(plan())
    assert plan()._repr_html_() == describe_html(plan())


def test_a_narrow_terminal_shows_every_path_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    torch = "model.decoder.layers.0.self_attention.output_projection"
    keras = "decoder/transformer_layer_0/self_attention/attention_output"
    long = Alignment(
        pairs=(pair(torch, keras, "definition order", "decoder/other"),),
        ignored=(Ignored(side="torch", path=f"{torch}.{'counter' * 4}", reason="it only counts"),),
        torch=model("torch", torch),
        keras=model("keras", keras),
    )
    assert describe(long) == (
        "Net (torch) <-> net (keras): 1 pair, 1 not confirmed, 1 tensor ignored, no problems\n"
        "\n"
        "Pairs\n"
        f"  {torch}\n"
        f"    <-> {keras}\n"
        "        Dense, decided by definition order (?), 1 pair, 1 tensor\n"
        "\n"
        "Not confirmed: no run of the models confirmed these pairs\n"
        f"  {torch}\n"
        f"    <-> {keras}\n"
        "        other candidates: decoder/other\n"
        "\n"
        "Ignored\n"
        f"  {torch}.{'counter' * 4}\n"
        "        torch: it only counts"
    )
