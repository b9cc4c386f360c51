"""Writes families/*.json: what Hugging Face's transformers computes with a small random model of each family.

Run once by a person, in an environment with `pip install torch transformers`:
    python engine/tests/reference/families.py engine/tests/reference/families

No weights are committed. A weight is a function of the seed and its place, and `engine/tests/engine/checkpoint.rs` computes
the same ones: tensors in the order of their names, a counter that runs through all of them, SplitMix64 of seed and counter,
its upper 24 bits as a fraction in [-1, 1), times the tensor's amplitude, plus its centre, in 32-bit floats.
"""

import base64
import json
import pathlib
import platform
import sys

import numpy
import torch
import transformers

# The tokenizer is one token for each byte, then these. Rows of the table above them are no token, as Qwen's are.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END = 258
PROMPT = 48
GREEDY = 64
# Ten times what the scores may be off.
LEAD = 1e-3
# Positions whose scores are kept: the first ones, both sides of the windows' and blocks' edges, the last ones.
ROWS = [0, 1, 2, 3, 6, 7, 8, 9, 15, 16, 17, 23, 24, 30, 31, 32, 33, 34, 39, 40, 44, 45, 46, 47]

BASE = dict(
    vocab_size=272, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=256, eos_token_id=END,
    pad_token_id=None, tie_word_embeddings=False,
)


def rope(theta, kind="default", **more):
    return {"rope_theta": theta, "rope_type": kind, **more}


LLAMA3 = rope(500000.0, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = rope(10000.0, "yarn", factor=4.0, original_max_position_embeddings=64)

CASES = {
    "llama2": ("LlamaConfig", dict(vocab_size=261, num_key_value_heads=4, rope_parameters=rope(10000.0))),
    "llama3": ("LlamaConfig", dict(rope_parameters=LLAMA3)),
    "llama-linear": ("LlamaConfig", dict(rope_parameters=rope(10000.0, "linear", factor=4.0))),
    "llama-yarn": ("LlamaConfig", dict(rope_parameters=YARN)),
    "smollm2": ("LlamaConfig", dict(hidden_size=96, num_attention_heads=3, num_key_value_heads=1,
                                    tie_word_embeddings=True, rope_parameters=rope(100000.0))),
    "mistral": ("MistralConfig", dict(sliding_window=8, head_dim=32, num_hidden_layers=3,
                                      rope_parameters=rope(10000.0))),
    "smollm3": ("SmolLM3Config", dict(num_hidden_layers=4, tie_word_embeddings=True, no_rope_layers=[1, 1, 1, 0],
                                      rope_parameters=rope(5000000.0))),
    "qwen2": ("Qwen2Config", dict(rms_norm_eps=1e-6, tie_word_embeddings=True, rope_parameters=rope(1000000.0))),
    "qwen3": ("Qwen3Config", dict(rms_norm_eps=1e-6, head_dim=32, tie_word_embeddings=True,
                                  rope_parameters=rope(1000000.0))),
    "gemma3": ("Gemma3TextConfig", dict(
        rms_norm_eps=1e-6, head_dim=32, num_hidden_layers=4, tie_word_embeddings=True, sliding_window=8,
        query_pre_attn_scalar=24,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"full_attention": rope(1000000.0, "linear", factor=8.0),
                         "sliding_attention": rope(10000.0)})),
}

BERT = dict(vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2,
            max_position_embeddings=64, type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0)


def mix(seed, first, count):
    """SplitMix64's outputs number `first + 1` to `first + count`."""
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + (numpy.arange(first + 1, first + 1 + count, dtype=numpy.uint64)
                                  * numpy.uint64(0x9E3779B97F4A7C15))
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return z ^ (z >> numpy.uint64(31))


def scale_of(name, shape):
    """Centre and amplitude, such that activations neither vanish nor explode. Amplitudes are exact in binary."""
    if "norm" in name.lower() and name.endswith("weight"):
        # Gemma adds one to what it stores.
        return (0.0 if scale_of.gemma else 1.0), 0.25
    if name.endswith("bias"):
        return 0.0, 0.25
    if "embed" in name:
        # Where the table is also the output layer, a large row would choose its own token for ever.
        # Gemma multiplies what it looks up by the root of its width.
        return 0.0, (0.03125 if scale_of.gemma else 0.125) if scale_of.tied else 0.5
    wide = (3.0 / shape[-1]) ** 0.5
    return 0.0, round(wide * 64) / 64


def fill(model, seed):
    """Fills the model and says what it was filled with: [name, shape, centre, amplitude], in the order of the names."""
    state = model.state_dict()
    tied = {name for name in (model._tied_weights_keys or {})} if model.config.tie_word_embeddings else set()
    names = sorted(name for name in state if name not in tied and state[name].dtype == torch.float32)
    scale_of.tied = bool(model.config.tie_word_embeddings)
    told, first = [], 0
    for name in names:
        shape = list(state[name].shape)
        centre, amplitude = scale_of(name, shape)
        count = int(numpy.prod(shape))
        bits = (mix(seed, first, count) >> numpy.uint64(40)).astype(numpy.int64) - (1 << 23)
        values = bits.astype(numpy.float32) * numpy.float32(2.0 ** -23) * numpy.float32(amplitude)
        values = values + numpy.float32(centre)
        state[name].copy_(torch.from_numpy(values.reshape(shape)))
        told.append([name, shape, centre, amplitude])
        first += count
    model.tie_weights()
    return told


def ids(seed, count, below, above=0):
    return [above + int(z % numpy.uint64(below - above)) for z in mix(seed ^ 0xFFFF, 0, count)]


def packed(tensor):
    return base64.b64encode(tensor.numpy().astype("<f4").tobytes()).decode()


def greedy(model, prompt):
    """The continuation among bytes, with the smallest lead that a choice had; recomputed in whole for each token."""
    row, lead = list(prompt), 1e9
    for _ in range(GREEDY):
        scores = model(torch.tensor([row]), use_cache=False).logits[0, -1]
        best = torch.topk(scores[:256], 2)
        if scores[END] >= best.values[0]:
            return None, 0.0
        lead = min(lead, float(best.values[0] - max(best.values[1], scores[END])))
        if lead < LEAD:
            return None, lead
        row.append(int(best.indices[0]))
    return row[len(prompt):], lead


def decoder(name, kind, options, seed):
    config = getattr(transformers, kind)(**{**BASE, **options}, attn_implementation="eager")
    scale_of.gemma = "Gemma" in kind
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    told = fill(model, seed)
    prompt = ids(seed, PROMPT, 256)
    scores = model(torch.tensor([prompt])).logits[0]
    text, lead = greedy(model, prompt[:16])
    return dict(config=told_config(model), seed=seed, tensors=told, prompt=prompt, rows=ROWS, scores=packed(scores[ROWS]),
                greedy_prompt=16, greedy=text, greedy_lead=lead), scores


def told_config(model):
    config = json.loads(model.config.to_json_string(use_diff=True))
    config["architectures"] = [type(model).__name__]
    config.pop("transformers_version", None)
    config.pop("dtype", None)
    return config


def distinct(case):
    return len(set(case["greedy"] or []))


def find(name, kind, options):
    """The first seed whose greedy text says something and whose choices are all clear."""
    for seed in range(1, 400):
        case, scores = decoder(name, kind, options, seed)
        if case["greedy"] and distinct(case) >= 24:
            print(f"{name}: seed {seed}, largest score {scores.abs().max():.2f}, least lead {case['greedy_lead']:.1e}, "
                  f"{distinct(case)} different tokens")
            return case
    raise SystemExit(f"{name}: no seed will do")


def bert(kind, seed, **options):
    config = transformers.BertConfig(**BERT, **options, attn_implementation="eager")
    scale_of.gemma = False
    model = getattr(transformers, kind)(config).eval().float()
    told = fill(model, seed)
    # [CLS] words [SEP], and for a pair more words [SEP] in segment 1.
    words = ids(seed, 40, 96, 5)
    one = [2, *words[:29], 3]
    two = [*one, *words[29:], 3]
    return model, told, one, two, [0] * len(one) + [1] * (len(two) - len(one))


def embedder(seed):
    model, told, one, _, _ = bert("BertModel", seed)
    hidden = model(torch.tensor([one])).last_hidden_state[0]
    return dict(config=told_config(model), seed=seed, tensors=told, prompt=one, hidden=packed(hidden[[0, 1, 15, 30]]),
                rows=[0, 1, 15, 30], mean=packed(hidden.mean(0)))


def reranker(seed):
    model, told, _, two, segments = bert("BertForSequenceClassification", seed, num_labels=1)
    ids = torch.tensor([two])
    score = model(ids, token_type_ids=torch.tensor([segments])).logits[0]
    plain = model(ids).logits[0]
    return dict(config=told_config(model), seed=seed, tensors=told, prompt=two, segments=segments, score=packed(score),
                score_in_one_segment=packed(plain))


def write(out, name, case):
    runtime = dict(python=platform.python_version(), transformers=transformers.__version__, torch=torch.__version__)
    text = json.dumps(dict(runtime=runtime, **case), separators=(",", ":"))
    text = text.replace('["', '\n["').replace('"prompt"', '\n"prompt"').replace('"scores"', '\n"scores"') + "\n"
    (out / f"{name}.json").write_text(text)
    print(f"{name}: {len(text)} bytes")


def main(out, *names):
    torch.set_num_threads(1)
    out = pathlib.Path(out)
    with torch.no_grad():
        for name, (kind, options) in CASES.items():
            if not names or name in names:
                write(out, name, find(name, kind, options))
        if not names or "bert" in names:
            write(out, "bert", embedder(7))
        if not names or "reranker" in names:
            write(out, "reranker", reranker(8))


if __name__ == "__main__":
    main(*sys.argv[1:])
