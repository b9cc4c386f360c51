"""Writes tiny_chat.json: what Hugging Face's LlamaForCausalLM computes with the stored tiny-chat model.

Run once by a person after the model was trained anew, with `pip install transformers torch`:
    python engine/tests/reference/tiny_chat.py engine/models/tiny-chat engine/tests/reference/tiny_chat.json
"""

import hashlib
import json
import pathlib
import platform
import sys

import torch
import transformers

QUESTIONS = [
    "What is Chrysalis?",
    "Hello",
    "What is 3 plus 4?",
    "Zażółć 🦋 and something it never saw",
]


def main(directory, out):
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    rows = []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([prompt])
        with torch.no_grad():
            scores = model(ids).logits[0]
            answer = model.generate(ids, do_sample=False, max_new_tokens=48)[0][len(prompt):]
        rows.append({
            "question": question,
            "rendered": rendered,
            "prompt": prompt,
            "completion": answer.tolist(),
            "text": tokenizer.decode(answer, skip_special_tokens=True),
            "scores_of_last": [float(f"{x:.9g}") for x in scores[-1].tolist()],
            "scores_of_first": [float(f"{x:.9g}") for x in scores[0].tolist()],
        })
    result = {
        "runtime": {
            "python": platform.python_version(),
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "weights_sha256": hashlib.sha256((pathlib.Path(directory) / "model.safetensors").read_bytes()).hexdigest(),
        "rows": rows,
    }
    text = json.dumps(result, ensure_ascii=False).replace('{"question"', '\n{"question"')
    pathlib.Path(out).write_text(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
