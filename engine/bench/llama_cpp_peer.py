"""llama.cpp as a peer of `engine bench` and `engine compare`: lines of JSON in, lines of JSON out. README.md has the protocol.

Needs `llama-cpp-python` built on this machine, so that llama.cpp has the processor's own instructions:
    CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama_cpp_python llama_cpp_python==0.3.36
It calls llama.cpp's C interface: neither its sampler nor Python's part of the package is in what is timed.
"""

import base64
import ctypes
import json
import re
import sys
import time

import llama_cpp
import numpy

ROWS = 512


@llama_cpp.llama_log_callback
def silent(level, text, data):
    """llama.cpp says a thousand lines while it loads."""


llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))


class Peer:
    def load(self, model, threads=1, context=2048, sequences=1):
        parameters = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), parameters)
        if not self.model:
            raise ValueError(f"llama.cpp cannot load {model}")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = context * sequences
        options.n_batch = options.n_ubatch = ROWS
        options.n_seq_max = sequences
        options.n_threads = options.n_threads_batch = threads
        options.no_perf = True
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise ValueError("llama.cpp makes no context")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.batch = llama_cpp.llama_batch_init(ROWS, 0, 1)
        system = llama_cpp.llama_print_system_info().decode()
        has = [name for name, on in re.findall(r"(\w+) = (\d)", system) if on == "1" and name.isupper()]
        return dict(peer="llama.cpp", version=f"llama-cpp-python {llama_cpp.__version__}", threads=threads,
                    instructions=" ".join(has))

    def rows(self, rows):
        """Computes (token, position, sequence, scored) and waits for the result."""
        for index, (token, position, sequence, scored) in enumerate(rows):
            self.batch.token[index] = token
            self.batch.pos[index] = position
            self.batch.n_seq_id[index] = 1
            self.batch.seq_id[index][0] = sequence
            self.batch.logits[index] = scored
        self.batch.n_tokens = len(rows)
        began = time.perf_counter()
        status = llama_cpp.llama_decode(self.context, self.batch)
        llama_cpp.llama_synchronize(self.context)
        took = (time.perf_counter() - began) * 1000
        if status:
            raise ValueError(f"llama_decode says {status}")
        return took

    def forget(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)

    def prefill(self, tokens):
        self.forget()
        took = 0.0
        for first in range(0, len(tokens), ROWS):
            part = range(first, min(first + ROWS, len(tokens)))
            took += self.rows([(tokens[i], i, 0, i + 1 == len(tokens)) for i in part])
        return dict(ms=took)

    def decode(self, tokens, position):
        return dict(each_ms=[self.rows([(token, position + i, 0, True)]) for i, token in enumerate(tokens)])

    def streams(self, prompts, tokens):
        """Every prompt in a sequence of its own, then each step feeds one token to each of them."""
        self.forget()
        for sequence, prompt in enumerate(prompts):
            self.rows([(token, i, sequence, i + 1 == len(prompt)) for i, token in enumerate(prompt)])
        each = []
        for step, row in enumerate(tokens):
            each.append(self.rows([(token, len(prompts[s]) + step, s, True) for s, token in enumerate(row)]))
        return dict(each_ms=each)

    def scored(self, index=-1):
        pointer = llama_cpp.llama_get_logits_ith(self.context, index)
        return numpy.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (self.size,))

    def scores(self, tokens):
        """The scores of what follows the last of these tokens."""
        self.prefill(tokens)
        return dict(scores=base64.b64encode(self.scored().astype("<f4").tobytes()).decode())

    def greedy(self, tokens, count):
        """The best continuation, and how far the second best was behind at each step."""
        self.prefill(tokens)
        out, leads = [], []
        for step in range(count):
            row = self.scored()
            best = int(row.argmax())
            lead = float(row[best] - numpy.partition(row, -2)[-2])
            out.append(best)
            leads.append(lead)
            self.rows([(best, len(tokens) + step, 0, True)])
        return dict(tokens=out, leads=leads)

    def tokenize(self, text, special=False):
        data = text.encode()
        room = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), room, len(room), False, special)
        if count < 0:
            raise ValueError("llama_tokenize wants more room")
        return dict(tokens=list(room[:count]))


def main():
    peer = Peer()
    for line in sys.stdin:
        (verb, arguments), = json.loads(line).items()
        try:
            answer = getattr(peer, verb)(**arguments)
        except (ValueError, AttributeError, TypeError) as error:
            answer = dict(error=str(error))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
