#!/usr/bin/env python3
"""A second implementation of docs/protocol.md, made from that page: a client in one file.

    second.py check job.json   opens the vectors' job and answer, verifies the receipt
    second.py talk job.json    seals a job of its own to the vectors' keyset, prints it as a line of JSON, reads a line
                               with the sealed answer and the sealed receipt, prints a verdict

It needs PyPI's `cryptography` with ML-KEM-768. It takes the channel's address, a hash over the contract's code, from
the vectors and does not verify the keyset's attestation.
"""
import hashlib
import hmac
import json
import os
import struct
import sys

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEM, KDF, AEAD = 0x647A, 1, 3
CHUNK, RECORD, RECEIPT_MAX = 16384, 512, 4096

class Refused(Exception):
    """Something is not as the protocol demands."""

def demand(true, why):
    if not true:
        raise Refused(why)

def digest(domain, *parts):
    """SHA-256 over domain, zero byte, and each part with its length before it."""
    lengths = b"".join(struct.pack(">Q", len(p)) + p for p in parts)
    return hashlib.sha256(domain.encode() + b"\0" + lengths).digest()

def verify(key, signature, message, what):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        raise Refused(f"{what}: the signature is wrong") from None

# Deterministic CBOR: unsigned and negative integers, byte and text strings, arrays, maps with integer keys.
def cbor(value):
    def head(major, n):
        if n < 24:
            return bytes([major << 5 | n])
        code = next(c for c in range(4) if n < 1 << (8 << c))
        return bytes([major << 5 | 24 + code]) + n.to_bytes(1 << code, "big")

    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(k) + cbor(value[k]) for k in sorted(value))

def uncbor(data, what):
    """The value whose encoding is exactly `data`."""
    def take(at, depth):
        demand(at < len(data) and depth < 8, f"{what}: not CBOR")
        major, n = data[at] >> 5, data[at] & 31
        at += 1
        if n >= 24:
            demand(n <= 27, f"{what}: not CBOR")
            end = at + (1 << n - 24)
            demand(end <= len(data), f"{what}: cut")
            n, at = int.from_bytes(data[at:end], "big"), end
        if major in (0, 1):
            return (n if major == 0 else -1 - n), at
        demand(n <= len(data) - at, f"{what}: cut")
        if major in (2, 3):
            piece = data[at:at + n]
            return (piece if major == 2 else piece.decode("utf-8", "strict")), at + n
        demand(major in (4, 5), f"{what}: not a kind of value that is used")
        items = []
        for _ in range(n * (major - 3)):
            item, at = take(at, depth + 1)
            items.append(item)
        return (items if major == 4 else dict(zip(items[::2], items[1::2]))), at

    value, end = take(0, 0)
    demand(end == len(data) and cbor(value) == data, f"{what}: not the canonical encoding")
    return value

# QUIC variable-length integers and chunks.
def varint(n):
    code = next(c for c in range(4) if n < 1 << (8 << c) - 2)
    return (n | code << (8 << code) - 2).to_bytes(1 << code, "big")

def take_varint(data, at):
    demand(at < len(data), "a length is cut")
    size = 1 << (data[at] >> 6)
    demand(at + size <= len(data), "a length is cut")
    return int.from_bytes(data[at:at + size], "big") & ((1 << 8 * size - 2) - 1), at + size

def take_string(data, at):
    n, at = take_varint(data, at)
    demand(n <= len(data) - at, "a string is cut")
    return data[at:at + n], at + n

def chunks(data):
    """Each chunk with the AAD under which it opens."""
    at = 0
    while True:
        n, at = take_varint(data, at)
        if n == 0:
            demand(len(data) - at <= CHUNK + 16, "the last chunk is too long")
            yield data[at:], b"final"
            return
        demand(n <= CHUNK + 16 and n <= len(data) - at, "a chunk is cut or too long")
        yield data[at:at + n], b""
        at += n

# HPKE, base mode: X-Wing, HKDF-SHA256, ChaCha20-Poly1305.
def extract(salt, ikm):
    return hmac.digest(salt or bytes(32), ikm, "sha256")

def expand(prk, info, length):
    """HKDF-Expand of at most one block, which is all that is needed here."""
    return hmac.digest(prk, info + b"\1", "sha256")[:length]

SUITE = b"HPKE" + struct.pack(">HHH", KEM, KDF, AEAD)

def labeled_extract(salt, label, ikm):
    return extract(salt, b"HPKE-v1" + SUITE + label + ikm)

def labeled_expand(prk, label, info, length):
    return expand(prk, struct.pack(">H", length) + b"HPKE-v1" + SUITE + label + info, length)

def combine(mlkem, x, ct_x, pk_x):
    return hashlib.sha3_256(mlkem + x + ct_x + pk_x + b"\\.//^\\").digest()

def encapsulate(public):
    mlkem, ct_mlkem = MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    own = X25519PrivateKey.generate()
    ct_x, x = own.public_key().public_bytes_raw(), own.exchange(X25519PublicKey.from_public_bytes(public[1184:]))
    return combine(mlkem, x, ct_x, public[1184:]), ct_mlkem + ct_x

def decapsulate(seed, enc):
    long = hashlib.shake_256(seed).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(long[:64])
    own = X25519PrivateKey.from_private_bytes(long[64:])
    x = own.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
    return combine(mlkem.decapsulate(enc[:1088]), x, enc[1088:], own.public_key().public_bytes_raw())

class Context:
    """What both ends of one seal derive from the shared secret."""

    def __init__(self, shared, enc, key_id):
        self.enc, self.header = enc, struct.pack(">BHHH", key_id, KEM, KDF, AEAD)
        info = b"message/bhttp chunked request\0" + self.header
        schedule = b"\0" + labeled_extract(b"", b"psk_id_hash", b"") + labeled_extract(b"", b"info_hash", info)
        secret = labeled_extract(shared, b"secret", b"")
        self.aead = ChaCha20Poly1305(labeled_expand(secret, b"key", schedule, 32))
        self.base = labeled_expand(secret, b"base_nonce", schedule, 12)
        self.exporter = labeled_expand(secret, b"exp", schedule, 32)

    def export(self, label):
        return labeled_expand(self.exporter, b"sec", label, 32)

    def seal(self, message):
        parts = [message[i:i + CHUNK] for i in range(0, len(message), CHUNK)]
        out = self.header + self.enc
        for i, part in enumerate(parts):
            last = i + 1 == len(parts)
            sealed = self.aead.encrypt(nonce(self.base, i), part, b"final" if last else b"")
            out += varint(0 if last else len(sealed)) + sealed
        return out

    def open_request(self, sealed):
        demand(sealed[:7] == self.header, "the sealed request is of another key or suite")
        return open_chunks(self.aead, self.base, sealed[1127:])

    def open_answer(self, sealed):
        prk = extract(self.enc + sealed[:32], self.export(b"message/bhttp chunked response"))
        return open_chunks(ChaCha20Poly1305(expand(prk, b"key", 32)), expand(prk, b"nonce", 12), sealed[32:])

    def open_receipt(self, sealed):
        demand(len(sealed) == 2 + RECEIPT_MAX + 16, "the sealed receipt has another length")
        aead = ChaCha20Poly1305(self.export(b"chrysalis/receipt-key/v1"))
        padded = aead.decrypt(bytes(12), sealed, b"")
        n = int.from_bytes(padded[:2], "big")
        demand(n <= RECEIPT_MAX and not any(padded[2 + n:]), "the receipt's padding is not zero")
        return padded[2:2 + n]

def nonce(base, counter):
    return bytes(a ^ b for a, b in zip(base, struct.pack(">IQ", 0, counter)))

def open_chunks(aead, base, data):
    return b"".join(aead.decrypt(nonce(base, i), c, aad) for i, (c, aad) in enumerate(chunks(data)))

# Binary HTTP.
def http_request(body, envelope_digest):
    def strings(*texts):
        return b"".join(varint(len(text)) + text for text in texts)
    named = envelope_digest.hex().encode()
    fields = strings(b"content-type", b"application/octet-stream", b"x-envelope-digest", named)
    return b"\0" + strings(b"POST", b"https", b"", b"/v1/chat/completions", fields, body) + b"\0"

def http_request_parts(message):
    demand(message[:1] == b"\0", "not a binary HTTP request of known length")
    at, line, fields, place = 1, [], {}, 0
    for _ in range(6):
        text, at = take_string(message, at)
        line.append(text)
    section, body = line[4:]
    while place < len(section):
        name, place = take_string(section, place)
        fields[name], place = take_string(section, place)
    return line[:4], fields, body

def http_answer_records(message):
    kind, at = take_varint(message, 0)
    status, at = take_varint(message, at)
    demand((kind, status) == (3, 200), "not a binary HTTP answer of indeterminate length")
    while message[at:at + 1] != b"\0":
        _, at = take_string(message, at)
        _, at = take_string(message, at)
    at, records = at + 1, []
    while message[at:at + 1] != b"\0":
        record, at = take_string(message, at)
        demand(len(record) == RECORD, "a record of another length")
        records.append(record)
    demand(message[at:] == b"\0\0", "something follows the answer")
    return records

# Cells of TON, as far as caps and charges need them.
class Cell:
    def __init__(self, *below):
        self.bits, self.below = "", below

    def uint(self, bits, value):
        self.bits += f"{value & (1 << bits) - 1:0{bits}b}"
        return self

    def raw(self, data):
        self.bits += "".join(f"{byte:08b}" for byte in data)
        return self

    def address(self, packed):
        return self.uint(3, 4).raw(packed)

    def coins(self, n):
        size = (n.bit_length() + 7) // 8
        return self.uint(4, size).raw(n.to_bytes(size, "big"))

    def depth(self):
        return max((c.depth() + 1 for c in self.below), default=0)

    def hash(self):
        n = len(self.bits)
        bits = self.bits if n % 8 == 0 else self.bits + "1" + "0" * (7 - n % 8)
        out = bytes([len(self.below), n // 8 + (n + 7) // 8]) + int(bits, 2).to_bytes(len(bits) // 8, "big")
        out += b"".join(struct.pack(">H", c.depth()) for c in self.below)
        return hashlib.sha256(out + b"".join(c.hash() for c in self.below)).digest()

def cap_cell(chain, channel, job, most):
    return Cell().uint(32, 0x63617031).uint(32, chain).address(channel).raw(job).coins(most)

def verify_charge(data, core, core_digest, keyset, payer_key):
    demand(len(data) == 282, "a charge of another length")
    tag, chain, channel, job, most, cap_sig, stake, receipt_hash, seq, cost, total, signature = struct.unpack(
        ">Ii33s16sQ64s33s32sQQQ64s", data)
    demand(tag == 0x63686731, "not a charge")
    cap = cap_cell(chain, channel, job, most)
    cell = Cell(cap, Cell().raw(cap_sig)).uint(32, tag).address(stake).raw(receipt_hash)
    cell.uint(64, seq).coins(cost).coins(total)
    verify(keyset[6], signature, cell.hash(), "charge")
    verify(payer_key, cap_sig, cap.hash(), "cap")
    said = (chain, channel, job, most, stake, receipt_hash, seq, cost)
    known = (core[24], core[25], core[7], core[23], keyset[13], core_digest, core[1], core[22])
    demand(said == known, "the charge differs from the receipt")
    demand(cost <= most, "the charge is above its cap")
    return cell.hash()

class Job:
    """A client's view of one job: what it sealed, and what it can derive."""

    def __init__(self, context, keyset, envelope, channel, request):
        self.context, self.keyset, self.channel, self.request = context, keyset, channel, request
        self.fields, self.digest = uncbor(envelope, "envelope"), digest("chrysalis/envelope-digest/v1", envelope)
        self.payer_key = self.fields[7][74:106]

    def take(self, sealed_answer):
        """Records in order; returns tokens, finish, the chain's end, the records in it, the receipt."""
        chain, tokens, finish, counted, receipt, ended = (
            digest("chrysalis/frames/v2", self.digest), [], 0, 0, b"", False)
        for i, record in enumerate(http_answer_records(self.context.open_answer(sealed_answer))):
            kind, count, fin, sequence, meter, width, reserved = struct.unpack("<IIIIQII", record[:32])
            demand(sequence == i and reserved == 0 and width == 0 and not ended, "a record is out of place")
            if kind == 1:
                demand(count <= 120 and not finish and fin <= 5, "a record of ids is out of place")
                demand(not any(record[32 + 4 * count:]), "a record's padding is not zero")
                tokens += struct.unpack(f"<{count}I", record[32:32 + 4 * count])
                demand(meter == len(tokens), "a record's meter is wrong")
                chain, counted, finish = digest("chrysalis/frame/v2", chain, record), counted + 1, fin
            else:
                demand(kind == 3 and count <= 480 and finish and fin <= 1, "a record is out of place")
                receipt, ended = receipt + record[32:32 + count], fin == 1
        demand(ended, "the answer is cut")
        return tokens, finish, chain, counted, receipt

    def verify_receipt(self, receipt, tokens, finish, chain, counted):
        demand(len(receipt) <= RECEIPT_MAX and receipt[:1] == b"\xd2", "not a tagged COSE_Sign1")
        protected, unprotected, payload, signature = uncbor(receipt[1:], "receipt")
        content_type = "application/vnd.chrysalis.receipt.v1+cbor"
        demand(uncbor(protected, "header") == {1: -8, 3: content_type} and unprotected == {}, "another header")
        verify(self.keyset[6], signature, cbor(["Signature1", protected, b"chrysalis/receipt/v1", payload]), "receipt")
        parts = uncbor(payload, "payload")
        core, keyset, envelope = uncbor(parts[0], "core"), self.keyset, self.fields
        offer = next((m for m in keyset[7] if m[0] == envelope[3]), None)
        demand(offer is not None, "the keyset does not offer the model")
        usage = {0: int.from_bytes(self.request[20:24], "little"), 1: 0, 2: len(tokens)}
        prices, step = offer[6], keyset[8]
        cost = -(-sum(usage[i] * prices[i] for i in range(3)) // 1_000_000)
        cost = -(-cost // step) * step if step else cost
        salt = self.context.export
        known = {
            0: 1, 3: envelope[2], 4: keyset[14], 5: keyset[15], 7: envelope[1], 9: self.digest, 10: envelope[5],
            11: offer[0], 12: offer[2], 13: offer[3], 14: offer[5],
            15: digest("chrysalis/request/v1", salt(b"chrysalis/commitment/request/v1"), self.request),
            16: digest("chrysalis/response/v1", salt(b"chrysalis/commitment/response/v1"), chain),
            17: counted, 18: chain, 19: finish - 1, 20: usage, 21: prices, 22: cost, 23: envelope[6],
            24: keyset[10], 25: self.channel,
        }
        for field, value in known.items():
            demand(core.get(field) == value, f"the receipt's field {field} is {core.get(field)}, not {value}")
        core_digest = digest("chrysalis/receipt-core-digest/v1", parts[0])
        return core_digest, verify_charge(parts[1], core, core_digest, keyset, self.payer_key), parts[1]

def split_envelope(signed):
    n = int.from_bytes(signed[:2], "big")
    demand(n <= 1024 and len(signed) == 2 + n + 64, "the envelope has another length")
    return signed[2:2 + n], signed[2 + n:]

def check(v):
    keyset_bytes, (envelope, signature), sealed = v["keyset"], split_envelope(v["envelope"]), v["sealed_request"]
    keyset, enc = uncbor(keyset_bytes, "keyset"), sealed[7:1127]
    context = Context(decapsulate(v["kem_seed"], enc), enc, keyset[5][0][0])
    line, fields, body = http_request_parts(context.open_request(sealed))
    job = Job(context, keyset, envelope, v["channel"], body)
    f = job.fields
    demand(digest("chrysalis/keyset-digest/v1", keyset_bytes) == v["keyset_digest"] == f[2], "keyset digest")
    demand(job.digest == v["envelope_digest"], "envelope digest")
    demand(line[3] == b"/v1/chat/completions" and body == v["request"], "request")
    demand(fields[b"x-envelope-digest"] == job.digest.hex().encode(), "the digest inside the seal")
    verify(job.payer_key, signature, digest("chrysalis/envelope/v1", envelope, enc), "envelope")
    verify(job.payer_key, f[8], cap_cell(keyset[10], v["channel"], f[1], f[6]).hash(), "cap")
    demand(len(sealed) == f[12], "sealed_bytes")
    *answer, receipt = job.take(v["sealed_answer"])
    demand(answer[0] == [7, 70_000, 2] and answer[2] == v["frames"], "answer")
    demand(receipt == v["receipt"] == context.open_receipt(v["sealed_receipt"]), "receipt")
    found = job.verify_receipt(receipt, *answer)
    demand(found == (v["core_digest"], v["charge_cell"], v["charge"]), "charge")
    demand(v["cancel"] == job.digest + context.export(b"chrysalis/cancel/v1"), "cancel")
    refusal = uncbor(v["refusal"], "refusal")
    verify(keyset[6], refusal[1], digest("chrysalis/not-started/v1", cbor(refusal[0])), "refusal")
    demand(refusal[0] == {0: 1, 1: [0, [job.digest]], 2: [2, []]}, "the refusal's statement")

def talk(v):
    keyset, payer = uncbor(v["keyset"], "keyset"), Ed25519PrivateKey.from_private_bytes(v["payer_seed"])
    key = keyset[5][0]
    shared, enc = encapsulate(key[4])
    context, body = Context(shared, enc, key[0]), v["request"]
    f = uncbor(split_envelope(v["envelope"])[0], "envelope")
    f[1] = os.urandom(16)
    f[8] = payer.sign(cap_cell(keyset[10], v["channel"], f[1], f[6]).hash())
    # The length does not depend on the digest. A context seals once, so it is counted instead of tried.
    length = len(http_request(body, bytes(32)))
    pieces = -(-length // CHUNK)
    f[12] = 1127 + length + 16 * pieces + 4 * (pieces - 1) + 1
    envelope = cbor(f)
    job = Job(context, keyset, envelope, v["channel"], body)
    signed = struct.pack(">H", len(envelope)) + envelope + payer.sign(digest("chrysalis/envelope/v1", envelope, enc))
    sealed = context.seal(http_request(body, job.digest))
    print(json.dumps({"envelope": signed.hex(), "sealed_request": sealed.hex()}), flush=True)
    reply = {k: bytes.fromhex(x) for k, x in json.loads(sys.stdin.readline()).items()}
    *answer, receipt = job.take(reply["sealed_answer"])
    demand(receipt == context.open_receipt(reply["sealed_receipt"]), "two receipts for one job")
    job.verify_receipt(receipt, *answer)

def main():
    with open(sys.argv[2], encoding="utf-8") as file:
        vectors = {k: bytes.fromhex(x) for k, x in json.load(file).items() if isinstance(x, str)}
    try:
        {"check": check, "talk": talk}[sys.argv[1]](vectors)
    except (Refused, InvalidTag) as refused:
        print(f"refused: {str(refused) or 'the seal does not open'}")
        sys.exit(1)
    print("receipt verified")

main()
