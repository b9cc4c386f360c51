"""A small model of each family in GGUF, written by PyPI's `gguf` by the rules of llama.cpp's converter, for the tests of `Weights`.

    pip install gguf==0.19.0
    python gguf_models.py DIRECTORY

The number at place `i` of a tensor whose name in Hugging Face's words is NAME is ((sum of the bytes of NAME) % 512 + i % 1024) / 1024,
so that a test computes what it expects. The permutation is `LlamaModel.permute` of conversion/llama.py, the shift `norm_shift` of
conversion/gemma.py.
"""

import pathlib
import sys

import gguf
import numpy as np

LAYERS, WIDTH, FEED, HEADS, KEYS, VOCABULARY, CONTEXT = 2, 16, 24, 2, 1, 24, 256
FAMILIES = {
    "llama": dict(arch=gguf.MODEL_ARCH.LLAMA, head=8, permute=True, llama3=True),
    "smollm3": dict(arch=gguf.MODEL_ARCH.SMOLLM3, head=8, permute=True, tied=True),
    "qwen2": dict(arch=gguf.MODEL_ARCH.QWEN2, head=8, bias=True),
    "qwen3": dict(arch=gguf.MODEL_ARCH.QWEN3, head=16, norms=True, tied=True),
    "gemma3": dict(arch=gguf.MODEL_ARCH.GEMMA3, head=16, norms=True, tied=True, gemma=True),
}


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def tensors(head: int, bias=False, norms=False, tied=False, gemma=False, **_):
    yield "model.embed_tokens.weight", (VOCABULARY, WIDTH)
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        for part, rows in (("q", HEADS), ("k", KEYS), ("v", KEYS)):
            yield f"{name}self_attn.{part}_proj.weight", (rows * head, WIDTH)
            if bias:
                yield f"{name}self_attn.{part}_proj.bias", (rows * head,)
        yield f"{name}self_attn.o_proj.weight", (WIDTH, HEADS * head)
        if norms:
            yield f"{name}self_attn.q_norm.weight", (head,)
            yield f"{name}self_attn.k_norm.weight", (head,)
        yield f"{name}mlp.gate_proj.weight", (FEED, WIDTH)
        yield f"{name}mlp.up_proj.weight", (FEED, WIDTH)
        yield f"{name}mlp.down_proj.weight", (WIDTH, FEED)
        yield f"{name}input_layernorm.weight", (WIDTH,)
        yield f"{name}post_attention_layernorm.weight", (WIDTH,)
        if gemma:
            yield f"{name}pre_feedforward_layernorm.weight", (WIDTH,)
            yield f"{name}post_feedforward_layernorm.weight", (WIDTH,)
    yield "model.norm.weight", (WIDTH,)
    if not tied:
        yield "lm_head.weight", (VOCABULARY, WIDTH)


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    places = np.arange(np.prod(shape)) % 1024
    return ((sum(name.encode()) % 512 + places) / 1024).astype(np.float32).reshape(shape)


def llama3_factors(head: int, base: float) -> np.ndarray:
    factor, low, high, context = 32.0, 1.0, 4.0, 8192
    factors = []
    for frequency in 1.0 / base ** (np.arange(0, head, 2, dtype=np.float32) / head):
        wave = 2 * np.pi / frequency
        smooth = (context / wave - low) / (high - low)
        between = 1 / ((1 - smooth) / factor + smooth)
        factors.append(1 if wave < context / high else factor if wave > context / low else between)
    return np.array(factors, np.float32)


def write(path: pathlib.Path, name: str, family: dict) -> None:
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[family["arch"]])
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500_000.0)
    if family["head"] * HEADS != WIDTH:
        writer.add_key_length(family["head"])
        writer.add_value_length(family["head"])
    if family.get("gemma"):
        writer.add_sliding_window(16)
        writer.add_rope_freq_base_swa(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"<{index}>" for index in range(VOCABULARY)])
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(7)
    names = gguf.get_tensor_name_map(family["arch"], LAYERS)
    if family.get("llama3"):
        writer.add_tensor("rope_freqs.weight", llama3_factors(family["head"], 500_000.0))
    for tensor, shape in tensors(**family):
        values = numbers(tensor, shape)
        if family.get("permute") and ".q_proj." in tensor:
            values = permute(values, HEADS)
        if family.get("permute") and ".k_proj." in tensor:
            values = permute(values, KEYS)
        if family.get("gemma") and tensor.endswith("norm.weight"):
            values = values + np.float32(1)
        there = names.get_name(tensor, try_suffixes=(".weight", ".bias"))
        # Rows of matrices in three types, vectors as they are.
        values = values.astype(np.float16) if len(shape) > 1 and ".mlp." in tensor else values
        writer.add_tensor(there, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


for name, family in FAMILIES.items():
    write(pathlib.Path(sys.argv[1]) / f"{name}.gguf", name, family)
