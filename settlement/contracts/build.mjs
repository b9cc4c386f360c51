// Compiles the contracts and makes the cross-check vectors with implementations that are not ours: the Tolk compiler of
// @ton/tolk-js, the cells of @ton/core, the Ed25519 of @ton/crypto.
//
//   node build.mjs          writes *.boc, manifest.json and ../vectors/*.json
//   node build.mjs --check  writes nothing; exits 1 if a committed file differs from what it would write
//
// Packages are found in ./node_modules, or in the directory that CHRYSALIS_TOLK names.

import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = path.resolve(process.env.CHRYSALIS_TOLK ?? path.join(here, 'node_modules'));
const require = createRequire(path.join(modules, 'x.js'));
const { runTolkCompiler, getTolkCompilerVersion } = require('@ton/tolk-js');
const { Address, Cell, beginCell, contractAddress } = require('@ton/core');
const { keyPairFromSeed, sign } = require('@ton/crypto');

const check = process.argv.includes('--check');
let differs = false;

function put(file, bytes) {
  const at = path.join(here, file);
  if (!check) {
    fs.mkdirSync(path.dirname(at), { recursive: true });
    fs.writeFileSync(at, bytes);
    return;
  }
  const same = fs.existsSync(at) && Buffer.compare(fs.readFileSync(at), Buffer.from(bytes)) === 0;
  if (!same) {
    console.error(`${file} differs from what its source gives`);
    differs = true;
  }
}

async function contracts() {
  const manifest = { compiler: `tolk ${await getTolkCompilerVersion()}`, package: '@ton/tolk-js 1.3.0', contracts: {} };
  for (const name of ['channel', 'charge_check', 'stake', 'registry']) {
    const result = await runTolkCompiler({
      entrypointFileName: `${name}.tolk`,
      fsReadCallback: (file) => fs.readFileSync(path.join(here, file), 'utf8'),
    });
    if (result.status === 'error') {
      console.error(`${name}.tolk: ${result.message}`);
      process.exit(1);
    }
    const boc = Buffer.from(result.codeBoc64, 'base64');
    manifest.contracts[name] = { code_hash: Cell.fromBoc(boc)[0].hash().toString('hex'), boc_bytes: boc.length };
    put(`${name}.boc`, boc);
  }
  put('manifest.json', JSON.stringify(manifest, null, 2) + '\n');
}

// Test values only: the seed is public, the key signs nothing of worth.
const seed = Buffer.from(Array.from({ length: 32 }, (_, i) => i + 1));
const keys = keyPairFromSeed(seed);
const hex = (byte) => Buffer.alloc(32, byte).toString('hex');

function voucherCell(v) {
  return beginCell().storeUint(0x76636831, 32).storeInt(v.chain, 32).storeAddress(Address.parseRaw(v.channel))
    .storeCoins(BigInt(v.cumulative)).storeBuffer(Buffer.from(v.usage_root, 'hex')).endCell();
}

function capCell(c) {
  return beginCell().storeUint(0x63617031, 32).storeInt(c.chain, 32).storeAddress(Address.parseRaw(c.channel))
    .storeBuffer(Buffer.from(c.job, 'hex')).storeCoins(BigInt(c.most)).endCell();
}

function closeCell(c) {
  return beginCell().storeUint(0x63636c32, 32).storeInt(c.chain, 32).storeAddress(Address.parseRaw(c.channel))
    .storeCoins(BigInt(c.paid)).storeUint(c.valid_until, 32).endCell();
}

// One key signs both here; on a chain the payer signs the cap and the guest the charge.
function chargeCell(c) {
  const cap = capCell(c);
  const payer = beginCell().storeBuffer(sign(cap.hash(), keys.secretKey)).endCell();
  return beginCell().storeUint(0x63686731, 32).storeAddress(Address.parseRaw(c.stake))
    .storeBuffer(Buffer.from(c.receipt_hash, 'hex')).storeUint(BigInt(c.seq), 64).storeCoins(BigInt(c.cost))
    .storeCoins(BigInt(c.cumulative)).storeRef(cap).storeRef(payer).endCell();
}

function signed(cases, cell) {
  return cases.map((fields) => {
    const hash = cell(fields).hash();
    return { fields, cell_hash: hash.toString('hex'), signature: sign(hash, keys.secretKey).toString('hex') };
  });
}

function vectors(file, cases, cell) {
  const body = {
    made_by: '@ton/core 0.63.1 and @ton/crypto 3.3.0, by settlement/contracts/build.mjs',
    seed: seed.toString('hex'),
    public_key: keys.publicKey.toString('hex'),
    cases: signed(cases, cell),
  };
  put(`../vectors/${file}`, JSON.stringify(body, null, 2) + '\n');
}

// A registry's address, and the hashes of the bodies of its messages.
function registry() {
  const code = Cell.fromBoc(fs.readFileSync(path.join(here, 'registry.boc')))[0];
  const roles = beginCell().storeAddress(Address.parseRaw(`0:${hex(1)}`)).storeAddress(Address.parseRaw(`0:${hex(2)}`)).endCell();
  const terms = beginCell().storeUint(86_400, 32).storeUint(1_800_000_000, 32).storeUint(7, 64).endCell();
  const data = beginCell().storeInt(-239, 32).storeUint(0, 64).storeUint(0, 16).storeUint(0, 48).storeBit(0).storeBit(0)
    .storeRef(roles).storeRef(terms).endCell();
  const keyed = (tag, kind, id) => beginCell().storeBuffer(Buffer.from(tag)).storeUint(5, 64).storeUint(kind, 8)
    .storeBuffer(Buffer.from(id, 'hex'));
  const ceilings = [1n, 2n, 3n, 2n ** 64n - 1n].reduce((cell, most) => cell.storeUint(most, 64), keyed('rprp', 2, hex(3)));
  const bodies = {
    allow_image: keyed('rprp', 1, hex(3)).storeUint(1_900_000_000, 32),
    allow_model: ceilings,
    allow_proxy: keyed('rprp', 3, hex(3)).storeBuffer(Buffer.from('DEhttps://proxy.example')),
    restore_gpu: keyed('rprp', 6, hex(3)),
    fee: keyed('rprp', 7, hex(0)).storeUint(25, 16),
    admin: keyed('rprp', 8, hex(0)).storeBuffer(Buffer.from(hex(4), 'hex')),
    code: keyed('rexe', 10, hex(0)).storeBit(1).storeRef(code),
    execute: keyed('rexe', 1, hex(3)).storeBit(0),
    cancel: keyed('rcan', 1, hex(3)),
    revoke: keyed('rtgt', 5, hex(3)).storeUint(9, 8),
    remove: keyed('rtgt', 2, hex(3)),
  };
  const hashes = Object.entries(bodies).map(([name, body]) => [name, body.endCell().hash().toString('hex')]);
  const file = {
    made_by: '@ton/core 0.63.1, by settlement/contracts/build.mjs',
    address: contractAddress(0, { code, data }).toRawString(),
    bodies: Object.fromEntries(hashes),
  };
  put('../vectors/registry.json', JSON.stringify(file, null, 2) + '\n');
}

await contracts();
registry();
vectors('voucher.json', [
  { chain: 20241, channel: `0:${hex(0x11)}`, cumulative: '0', usage_root: hex(0) },
  { chain: 20241, channel: `0:${hex(0x11)}`, cumulative: '1', usage_root: hex(0xab) },
  { chain: -239, channel: `0:${hex(0xfe)}`, cumulative: '255', usage_root: hex(0xff) },
  { chain: -3, channel: `-1:${hex(0x01)}`, cumulative: '256', usage_root: hex(0x42) },
  { chain: 20241, channel: `0:${hex(0x80)}`, cumulative: '18446744073709551615', usage_root: hex(0x7f) },
], voucherCell);
vectors('cap.json', [
  { chain: 20241, channel: `0:${hex(0x11)}`, job: hex(0).slice(32), most: '0' },
  { chain: -239, channel: `0:${hex(0xfe)}`, job: hex(0xab).slice(32), most: '100000' },
  { chain: -3, channel: `-1:${hex(0x01)}`, job: hex(0xff).slice(32), most: '18446744073709551615' },
], capCell);
vectors('close.json', [
  { chain: 20241, channel: `0:${hex(0x11)}`, paid: '0', valid_until: 0 },
  { chain: -239, channel: `0:${hex(0xfe)}`, paid: '256', valid_until: 1_800_000_000 },
  { chain: -3, channel: `0:${hex(0x01)}`, paid: '18446744073709551615', valid_until: 4_294_967_295 },
], closeCell);
vectors('charge.json', [
  { chain: 20241, stake: `0:${hex(0x22)}`, receipt_hash: hex(0x33), seq: '0', cost: '0', job: hex(0).slice(32), most: '0', channel: `0:${hex(0x11)}`, cumulative: '0' },
  { chain: 20241, stake: `0:${hex(0x22)}`, receipt_hash: hex(0x33), seq: '7', cost: '1500', job: hex(0x44).slice(32), most: '2000', channel: `0:${hex(0x11)}`, cumulative: '123456789' },
  { chain: -239, stake: `-1:${hex(0x55)}`, receipt_hash: hex(0xff), seq: '18446744073709551615', cost: '18446744073709551615', job: hex(0xff).slice(32), most: '18446744073709551615', channel: `-1:${hex(0xee)}`, cumulative: '18446744073709551615' },
], chargeCell);
process.exit(differs ? 1 : 0);
