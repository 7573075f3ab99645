"""Prove layer pairs one at a time: build two models of the two layers alone, run a proof on them, and delete them.

This proves a model whose float64 copy does not fit in memory beside it. Such a proof is called local: it says that the
layers compute the same function, not that the code between the layers does.
"""

import gc
from collections.abc import Callable, Iterable
from dataclasses import replace

from keras3conv.alignment.pair import Pair
from keras3conv.errors import ModelError, Problem
from keras3conv.messages import count
from keras3conv.numerics.fingerprint import size_of
from keras3conv.report.values import Section, Table
from keras3conv.validators.running.alone import NotAlone, alone, has_activation
from keras3conv.validators.running.subject import Subject

PROOFS = ("hyperparameters", "float64", "outputs")
"""The proofs that can run on one layer pair at a time; the other proofs need the whole models."""

LOCAL = "Local, each pair of layers alone and not the whole models: "

REASON = "local=True: the models are not run as a whole"
"""The reason, in the certificate, why the proofs that need the whole models are skipped."""

KEPT = 16 << 20
"""The bytes of dropped tensors after which the garbage collector runs.

Only the collector frees models, whose objects refer to each other in circles. It takes longer than the proof of a small
pair, so it does not run after every pair.
"""

ACTIVATION = "its activation, which is beside the layer in torch"

Check = Callable[[Subject], Section]


def one_pair_at_a_time(name: str, check: Check) -> Check:
    """Return a function that runs a proof on one layer pair after the other, and joins the results in one section.

    Args:
        name: The name of the proof.
        check: The function that runs the proof on two whole models.
    """

    def judge(subject: Subject) -> Section:
        found: list[tuple[Pair, Section | str]] = []
        dropped = 0
        for pair in subject.plan.pairs:
            try:
                small = alone(subject, pair)
                found.append((pair, check(small)))
            except (NotAlone, ModelError) as reason:
                found.append((pair, " ".join(str(reason).split())))
                continue
            dropped += sum(8 * size_of(tensor.shape) for outline in small.outlines for tensor in outline.tensors())
            del small
            if dropped > KEPT:
                gc.collect()
                dropped = 0
        beside = [pair for pair, result in found if isinstance(result, Section) and has_activation(subject, pair)]
        return _together(name, found, beside)

    return judge


def _together(name: str, sections: list[tuple[Pair, Section | str]], beside: list[Pair]) -> Section:
    """Return one section of the report that joins the results of all pairs.

    Args:
        name: The name of the proof.
        sections: Each pair with the section of its proof, or with the reason why the proof could not run.
        beside: The pairs whose Keras layer has an activation function that the proof left out.
    """
    judged = [(pair, section) for pair, section in sections if isinstance(section, Section)]
    left_out = [(pair, reason) for pair, reason in sections if isinstance(reason, str)]
    if not judged:
        reasons = "; ".join(dict.fromkeys(reason for _, reason in left_out)) or "the plan has no pairs"
        return Section(name=name, status="skipped", claim="", summary="no layer runs alone", reason=reasons)
    failed = [place for place, (_, section) in enumerate(judged) if section.status == "failed"]
    rows = tuple((pair.torch, pair.keras, section.status, section.summary) for pair, section in judged)
    tables = [Table(title="layers, each alone", columns=("torch", "keras", "status", "result"), rows=rows)]
    if left_out:
        others = tuple((pair.torch, pair.keras, reason) for pair, reason in left_out)
        tables.append(Table(title="not proven alone", columns=("torch", "keras", "reason"), rows=others))
    summary = f"{count(len(judged), 'pair')}, {len(failed)} of them different"
    return Section(
        name=name,
        status="failed" if failed else "passed",
        claim=LOCAL + judged[0][1].claim,
        summary=f"local: {summary}; {len(left_out)} not proven alone",
        facts=_facts(judged, [*left_out, *((pair, ACTIVATION) for pair in beside)]),
        tables=tuple(tables),
        problems=tuple(problem for pair, section in judged for problem in _problems(pair, section)),
    )


def _facts(judged: Iterable[tuple[Pair, Section]], left_out: Iterable[tuple[Pair, str]]) -> dict[str, str]:
    """Merge the `facts` in the sections of all pairs: {"name of a fact": "conv1, conv2: a text; fc: another text"}.

    Facts about the run itself, which are the same in every section, are left out.

    Args:
        judged: The pairs with their sections.
        left_out: The pairs that were not proven, each with the reason.
    """
    texts: dict[str, dict[str, list[str]]] = {"not proven alone": {}}
    for pair, reason in left_out:
        texts["not proven alone"].setdefault(reason, []).append(pair.torch)
    for pair, section in judged:
        for name, text in section.facts.items():
            if name not in ("exercised", "noise floor"):
                texts.setdefault(name, {}).setdefault(text, []).append(pair.torch)
    return {
        name: "; ".join(f"{', '.join(paths)}: {text}" for text, paths in found.items())
        for name, found in texts.items()
        if found
    }


def _problems(pair: Pair, section: Section) -> list[Problem]:
    """Return the problems in a section that name the two layers of the pair.

    If no problem names them, return all problems of the section, with the names of the two layers added.
    """
    own = [problem for problem in section.problems if problem.torch in pair.torch_layers]
    return own or [replace(problem, torch=pair.torch, keras=pair.keras) for problem in section.problems]
