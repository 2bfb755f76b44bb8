import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, pipeline

from syncattn.models import SyncAttnConfig, SyncAttnForCausalLM
from syncattn.models.text import byte_tokenizer, decode, encode, generate_text


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SyncAttnForCausalLM(
        SyncAttnConfig(
            mechanism="kuramoto",
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
        )
    )


@pytest.mark.parametrize("text", ["plain", "Ωω 🜂", "\x00\n\t"])
def test_bytes_there_and_back(text):
    assert decode(encode(text)[0]) == text


def test_broken_utf8_becomes_a_replacement_character():
    assert decode(torch.tensor([65, 0xFF])) == "A\ufffd"


@pytest.mark.parametrize("text", ["plain", " spaced  twice ", "Ωω 🜂", "\n\t'll", "don't , stop"])
def test_the_tokenizer_gives_the_same_bytes(text, tmp_path):
    tokenizer = byte_tokenizer()
    assert sorted(tokenizer.get_vocab()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert len(each) == 256
        assert each(text)["input_ids"] == list(text.encode())
        assert each.decode(encode(text)[0]) == text
        padded = each([text, text + "x"], padding=True)
        assert padded["input_ids"][0] == [0, *text.encode()]
        assert padded["attention_mask"][0][0] == 0


def test_the_tokenizer_knows_a_length():
    assert byte_tokenizer(16).model_max_length == 16
    with pytest.raises(ValueError, match="`max_length`"):
        byte_tokenizer(0)


def test_a_pipeline_writes_text(model):
    writer = pipeline("text-generation", model=model, tokenizer=byte_tokenizer(16), device="cpu")
    (out,) = writer("ab", max_new_tokens=5, do_sample=False)
    assert out["generated_text"] == generate_text(model, "ab", max_new_tokens=5, temperature=0.0)


def test_a_text_longer_than_the_context_goes_on(model):
    out = generate_text(model, "ab", max_new_tokens=30, seed=0)
    assert out.startswith("ab")
    assert len(out) >= 10


def test_the_seed_decides(model):
    first = generate_text(model, "ab", max_new_tokens=10, seed=1)
    assert first == generate_text(model, "ab", max_new_tokens=10, seed=1)
    assert first != generate_text(model, "ab", max_new_tokens=10, seed=2)


def test_temperature_zero_is_greedy(model):
    first = generate_text(model, "ab", max_new_tokens=5, temperature=0.0, seed=1)
    assert first == generate_text(model, "ab", max_new_tokens=5, temperature=0.0, seed=2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompt": ""}, "`prompt`"),
        ({"max_new_tokens": 0}, "`max_new_tokens`"),
        ({"temperature": -1.0}, "`temperature`"),
        ({"top_k": 0}, "`top_k`"),
    ],
)
def test_bad_input(model, changes, named):
    arguments = {"prompt": "ab", "max_new_tokens": 2} | changes
    with pytest.raises(ValueError, match=named):
        generate_text(model, arguments.pop("prompt"), **arguments)


def test_half_a_character_is_refused():
    with pytest.raises(ValueError, match=r"`text` must hold whole characters; got '\\udcff' at"):
        encode("ab\udcff")
