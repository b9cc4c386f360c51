"""sentence-transformers and torch as a peer of `engine bench`: lines of JSON in, lines of JSON out. README.md has the protocol.

Needs `pip install torch sentence-transformers`. Texts come as tokens: no tokeniser is in what is timed.
"""

import json
import sys
import time

import torch
import transformers

BATCH = 32


class Peer:
    def load(self, model, threads=1):
        torch.set_num_threads(threads)
        self.model = transformers.AutoModel.from_pretrained(model, dtype=torch.float32).eval()
        return dict(peer="torch", version=f"torch {torch.__version__} transformers {transformers.__version__}",
                    instructions=torch.backends.cpu.get_cpu_capability(), threads=threads)

    def embed(self, texts):
        """As sentence-transformers encodes: sorted by length, in batches of 32, padded, mean and unit vector."""
        ordered = sorted(texts, key=len, reverse=True)
        total, began = 0.0, time.perf_counter()
        with torch.inference_mode():
            for first in range(0, len(ordered), BATCH):
                part = ordered[first:first + BATCH]
                longest = len(part[0])
                ids = torch.tensor([row + [0] * (longest - len(row)) for row in part])
                mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in part])
                hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
                wide = mask.unsqueeze(-1).float()
                mean = (hidden * wide).sum(1) / wide.sum(1)
                total += float(torch.nn.functional.normalize(mean).sum())
        return dict(ms=(time.perf_counter() - began) * 1000, sum=total)


def main():
    peer = Peer()
    for line in sys.stdin:
        (verb, arguments), = json.loads(line).items()
        try:
            answer = getattr(peer, verb)(**arguments)
        except (ValueError, AttributeError, TypeError, OSError) as error:
            answer = dict(error=str(error))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
