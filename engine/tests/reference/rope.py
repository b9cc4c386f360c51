"""Writes rope.json: how fast transformers turns each pair of numbers, for every kind of scaling.

Run once by a person, with `pip install transformers torch`:
    python engine/tests/reference/rope.py > engine/tests/reference/rope.json
"""

import json

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

CASES = [
    ("linear", dict(factor=4.0)),
    ("llama3", dict(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)),
    ("yarn", dict(factor=4.0, original_max_position_embeddings=32768)),
    ("yarn", dict(factor=8.0, original_max_position_embeddings=4096, beta_fast=16.0, beta_slow=2.0, mscale=0.7,
                  mscale_all_dim=0.5, truncate=False)),
]

rows = []
for kind, more in CASES:
    parameters = {"rope_type": kind, "rope_theta": 500000.0, **more}
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, head_dim=64, max_position_embeddings=131072,
                         rope_parameters=dict(parameters))
    frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    rows.append({"rope_parameters": parameters, "frequencies": frequencies.tolist(), "attention_factor": float(factor)})
print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")
