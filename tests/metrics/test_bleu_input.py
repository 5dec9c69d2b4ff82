"""What TensorBLEU takes, that all forms of the same sentences score the same, and what it says about bad input."""

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bleu_oracles import Ids, Pair, batches, nltk_sentence, split
from rxlm.metrics import tensorbleu
from rxlm.metrics.tensorbleu import bleu_signature, functions, tensor_corpus_bleu, tensor_sentence_bleu

CANDIDATES = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 9]])
REFERENCES = torch.tensor([[[5, 6, 7, 8]], [[5, 6, 7, 8]]])


def pad(rows: list[Ids], width: int, value: int) -> list[Ids]:
    return [row + [value] * (width - len(row)) for row in rows]


def rectangles(pairs: list[Pair], value: int, extra: int) -> dict[str, Any]:
    """Return pairs as padded tensors with lengths, as wide as need be or wider."""
    candidates, references = split(pairs)
    width = max(len(row) for row in candidates) + extra
    reference_width = max(len(row) for group in references for row in group) + extra
    count = max(len(group) for group in references)
    lengths = [[len(row) for row in group] + [-1] * (count - len(group)) for group in references]
    groups = [pad([*group, *[[]] * (count - len(group))], reference_width, value) for group in references]
    return {
        "candidates": torch.tensor(pad(candidates, width, value), dtype=torch.int64).view(len(pairs), width),
        "references": torch.tensor(groups, dtype=torch.int64).view(len(pairs), count, reference_width),
        "candidate_lengths": torch.tensor([len(row) for row in candidates]),
        "reference_lengths": torch.tensor(lengths),
    }


@given(pairs=batches(), value=st.sampled_from([-100, 0, 7, 2**31 - 1, 2**40]), extra=st.integers(0, 3))
def test_lengths_and_lists_say_the_same(pairs: list[Pair], value: int, extra: int) -> None:
    # Padding may be any number, one that is a token elsewhere too.
    by_lists = tensor_sentence_bleu(*split(pairs))
    by_lengths = tensor_sentence_bleu(**rectangles(pairs, value, extra))

    assert torch.equal(by_lists, by_lengths)


@given(pairs=batches(), value=st.sampled_from([-100, 2**31 - 2]), on_the_left=st.booleans())
def test_padding_at_either_end_is_cut_off(pairs: list[Pair], value: int, on_the_left: bool) -> None:
    pairs = [(row, [one or [3] for one in group]) for row, group in pairs]
    tensors = rectangles(pairs, value, extra=2)
    candidates, references = tensors["candidates"], tensors["references"]
    if on_the_left:
        candidates, references = (ids.flip(-1) for ids in (candidates, references))
        pairs = [(row[::-1], [one[::-1] for one in group]) for row, group in pairs]

    assert torch.equal(tensor_sentence_bleu(candidates, references, value), tensor_sentence_bleu(*split(pairs)))


def test_the_pad_id_between_tokens_is_a_token() -> None:
    padded = torch.tensor([[0, 5, 0, 6, 0, 0]])
    scores = tensor_sentence_bleu(padded, torch.tensor([[[5, 0, 6, 0, 0, 0]]]), max_n=3)

    assert scores.item() == 1.0
    assert tensor_sentence_bleu(padded, torch.tensor([[[5, 6, 0, 0, 0, 0]]]), max_n=3).item() < 0.6


def test_lengths_keep_a_pad_id_at_the_end() -> None:
    one, other = torch.tensor([[5, 6, 0, 0]]), torch.tensor([[[5, 6, 0, 9]]])

    assert tensor_sentence_bleu(one, other, candidate_lengths=[3], reference_lengths=[[3]], max_n=3).item() == 1.0
    assert tensor_sentence_bleu(one, other, max_n=3).item() < 1.0
    assert tensor_sentence_bleu(one, other, pad_token_id=None, max_n=3).item() < 1.0


def test_a_reference_of_padding_alone_is_no_reference_and_a_length_of_0_is_an_empty_one() -> None:
    candidate = [1, 2, 3]
    references = torch.tensor([[[1, 2, 3, 4, 5, 6, 7, 8], [0] * 8]])
    without = tensor_sentence_bleu([candidate], references[:, :1])
    empty = nltk_sentence((candidate, [list(range(1, 9)), []]), (0.25,) * 4, "method3")

    assert torch.equal(tensor_sentence_bleu([candidate], references), without)
    assert torch.equal(tensor_sentence_bleu([candidate], references, reference_lengths=[[8, -1]]), without)
    for score in (
        tensor_sentence_bleu([candidate], references, reference_lengths=[[8, 0]]),
        tensor_sentence_bleu([candidate], [[list(range(1, 9)), []]]),
    ):
        assert score.item() == pytest.approx(empty)
    assert empty > without.item() + 0.1


def test_a_list_may_hold_lists_tensors_and_padded_tensors() -> None:
    candidates = [[5, 6, 7, 8], torch.tensor([5, 6, 7, 0]), [5, 6, 7, 8], [5, 6, 7, 0]]
    references = [
        [[5, 6, 7, 8], torch.tensor([4])],
        [torch.tensor([5, 6, 7, 0])],
        torch.tensor([[0, 0, 0, 0, 0], [0, 5, 6, 7, 8], [5, 6, 0, 0, 0]]),
        [[5, 6, 7, 0]],
    ]

    assert tensor_sentence_bleu(candidates, references).tolist() == [1.0] * 4
    assert tensor_sentence_bleu(candidates[2:3], references[2:3], pad_token_id=None).item() < 1.0


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_any_whole_numbers_will_do(dtype: torch.dtype) -> None:
    scores = tensor_sentence_bleu(CANDIDATES.to(dtype), REFERENCES.to(dtype))

    assert torch.equal(scores, tensor_sentence_bleu(CANDIDATES, REFERENCES))


def test_views_score_as_their_copies() -> None:
    ids = torch.randint(1, 5, (40, 6))
    candidates, references = ids.T[:, ::2], ids.T[:, None, 1::2]

    assert torch.equal(
        tensor_sentence_bleu(candidates, references),
        tensor_sentence_bleu(candidates.contiguous(), references.contiguous()),
    )


def test_input_is_left_as_it_was() -> None:
    candidates, references = CANDIDATES.clone(), REFERENCES.clone()
    tensor_sentence_bleu(candidates, references)

    assert torch.equal(candidates, CANDIDATES)
    assert torch.equal(references, REFERENCES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": CANDIDATES.float()}, "candidates has dtype torch.float32"),
        ({"references": REFERENCES.double()}, "references has dtype torch.float64"),
        ({"candidates": CANDIDATES > 5}, "candidates has dtype torch.bool"),
        ({"candidates": [[1.5, 2.0]] * 2}, r"candidates\[0\] has dtype float64"),
        ({"candidates": ["ab", "cd"]}, r"candidates\[0\] has dtype <U2"),
        ({"candidates": [[2**64], [1]]}, r"candidates\[0\] has dtype object"),
        ({"candidates": [[2**63], [1]]}, r"candidates\[0\] has an id out of range"),
        ({"candidates": -CANDIDATES}, r"candidates\[0\] has an id out of range"),
        ({"references": REFERENCES + 2**31}, r"references\[0\]\[0\] has an id out of range"),
        ({"candidates": [[1], [2, -3]]}, r"candidates\[1\] has an id out of range"),
        ({"candidates": CANDIDATES[0]}, r"candidates have shape \(4,\); it must be \(B, Tc\)"),
        ({"references": REFERENCES[:, 0]}, r"references have shape \(2, 4\); .*references\[:, None\]"),
        ({"references": REFERENCES[:, :0]}, "R must be at least 1"),
        ({"references": REFERENCES[:1]}, "references are of 1 candidates; there are 2"),
        ({"references": [[[1]]] * 3}, "references are of 3 candidates; there are 2"),
        ({"references": [[1, 2], [3]]}, r"references\[0\] must be a list of sentences"),
        ({"references": [torch.tensor([1]), [[3]]]}, r"references\[0\] must be a list of sentences"),
        ({"references": [[[[1]]], [[3]]]}, r"references\[0\]\[0\] has shape \(1, 1\)"),
        ({"references": REFERENCES.to("meta")}, "references are on meta and candidates on cpu"),
        ({"references": [[torch.zeros(2, dtype=int, device="meta")]] * 2}, r"references\[0\]\[0\] is on meta"),
        ({"candidate_lengths": torch.ones(2, dtype=int, device="meta")}, "candidate_lengths is on meta"),
        ({"candidate_lengths": [5, 4]}, r"candidates\[0\] has a length out of range; it must be from 0 to .* 4"),
        ({"candidate_lengths": [4, -1]}, r"candidates\[1\] has a length out of range"),
        ({"reference_lengths": [[4], [-2]]}, r"references\[1\]\[0\] has a length out of range"),
        ({"reference_lengths": [4, 4]}, r"reference_lengths has shape \(2,\); it must be \(2, 1\)"),
        ({"candidate_lengths": [1.0, 2.0]}, "candidate_lengths has dtype torch.float32"),
        ({"candidates": [[1], [2]], "candidate_lengths": [1, 1]}, "candidate_lengths belong to a tensor"),
        ({"candidates": torch.ones(2, 1, dtype=int).expand(2, 2**21)}, "2097152 and 4 tokens"),
        ({"smoothing_method": "method8"}, "smoothing_method is 'method8'; it must be one of"),
        ({"smoothing_method": "method1", "variant": "sacrebleu"}, "smoothing_method is 'method1'"),
        ({"variant": "moses"}, "variant is 'moses'"),
        ({"max_n": 0}, "max_n is 0"),
        ({"max_n": 2.0}, "max_n is 2.0"),
        ({"weights": (0.5, 0.5)}, "weights has 2 numbers and max_n is 4"),
        ({"weights": (1, 0, 0, -1)}, "weights is"),
        ({"weights": (0, 0, 0, 0)}, "not all 0"),
        ({"weights": (0.25,) * 4, "variant": "sacrebleu"}, "weights belong to variant='nltk'"),
        ({"effective_order": True}, "effective_order belongs to variant='sacrebleu'"),
        ({"smoothing_epsilon": 0.0}, "smoothing_epsilon is 0.0; it must be a number above 0"),
        ({"smoothing_k": float("nan")}, "smoothing_k is nan"),
        ({"dtype": torch.float16}, "dtype is torch.float16"),
    ],
)
def test_bad_input_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    good = {"candidates": CANDIDATES, "references": REFERENCES}
    for function in (tensor_sentence_bleu, tensor_corpus_bleu):
        with pytest.raises(ValueError, match=message):
            function(**good | change)


def test_on_an_accelerator_a_bad_sentence_scores_nan_and_the_others_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # What an accelerator runs, on the CPU.
    monkeypatch.setattr(functions, "_is_on_host", lambda sentences: False)
    candidates = torch.tensor([[5, 6, 7, 8], [5, -6, 7, 8], [5, 6, 7, 2**31], [5, 6, 7, 8], [5, 6, 7, 8]])
    lengths = torch.tensor([4, 4, 4, 5, 4])
    references = REFERENCES[:1].expand(5, 1, 4).clone()
    references[4, 0, 1] = -1
    scores = tensor_sentence_bleu(candidates, references, candidate_lengths=lengths)

    assert scores[0].item() == 1.0
    assert scores[1:].isnan().all()
    assert tensor_corpus_bleu(candidates, references, candidate_lengths=lengths).isnan()


def test_a_signature_names_all_that_a_score_depends_on() -> None:
    assert bleu_signature() == "tensorbleu:nltk|level:sentence|n:4|smooth:method3|w:equal|tok:ids|version:1"
    assert (
        bleu_signature(max_n=2, weights=(0.75, 0.25), smoothing_method="floor", level="corpus")
        == "tensorbleu:nltk|level:corpus|n:2|smooth:method1[0.1]|w:0.75,0.25|tok:ids|version:1"
    )
    assert (
        bleu_signature(variant="sacrebleu", smoothing_method="add-k")
        == "tensorbleu:sacrebleu|level:sentence|n:4|smooth:add-k[1]|eff:yes|tok:ids|version:1"
    )
    with pytest.raises(ValueError, match="level is 'document'"):
        bleu_signature(level="document")


def test_the_folder_can_be_copied_into_any_program() -> None:
    for file in Path(tensorbleu.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported = [str(node.module)]
            else:
                continue
            assert {name.split(".")[0] for name in imported} <= {"numpy", "torch", *sys.stdlib_module_names}, file
