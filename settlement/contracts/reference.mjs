// Runs the channel in TON's own C++ emulator (@ton/sandbox, main network's prices) and writes what it did to
// ../vectors/reference.json. A Rust test sends the same messages through the embedded ledger and compares.
//
//   node reference.mjs          (packages as for build.mjs; also needs @ton/sandbox)

import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = path.resolve(process.env.CHRYSALIS_TOLK ?? path.join(here, 'node_modules'));
const require = createRequire(path.join(modules, 'x.js'));
const { Cell, beginCell, contractAddress } = require('@ton/core');
const { Blockchain } = require('@ton/sandbox');
const { keyPairFromSeed, sign } = require('@ton/crypto');

const START = 1_800_000_000;
const DELAY = 3_600;
// The emulator's configuration is main network's, so the channel is made for it.
const CHAIN = -239;
const voucherKey = keyPairFromSeed(Buffer.alloc(32, 4));
const payeeKey = keyPairFromSeed(Buffer.alloc(32, 5));

const blockchain = await Blockchain.create();
blockchain.now = START;
const developer = await blockchain.treasury('developer');
const provider = await blockchain.treasury('provider');
const stranger = await blockchain.treasury('stranger');

const code = Cell.fromBoc(fs.readFileSync(path.join(here, 'channel.boc')))[0];
const terms = beginCell().storeAddress(developer.address).storeAddress(provider.address).storeUint(DELAY, 32)
  .storeUint(START + 30 * 86_400, 32).storeBuffer(payeeKey.publicKey).storeUint(1, 64).endCell();
const data = beginCell().storeUint(0, 8).storeInt(CHAIN, 32).storeCoins(0).storeCoins(0).storeUint(0, 32)
  .storeBuffer(voucherKey.publicKey).storeUint(0, 256).storeUint(0, 32).storeRef(terms).endCell();
const init = { code, data };
const channel = contractAddress(0, init);

const body = (tag, queryId) => beginCell().storeBuffer(Buffer.from(tag)).storeUint(queryId, 64);
const voucher = (cumulative, chain) => beginCell().storeUint(0x76636831, 32).storeInt(chain, 32).storeAddress(channel)
  .storeCoins(cumulative).storeBuffer(Buffer.alloc(32, 6)).endCell();
const claim = (cell) => body('clai', 7).storeBuffer(sign(cell.hash(), voucherKey.secretKey)).storeRef(cell).endCell();

const steps = [];
function note(name, transactions) {
  const account = BigInt('0x' + channel.hash.toString('hex'));
  const transaction = transactions.find((t) => t.address === account);
  const { computePhase, actionPhase } = transaction.description;
  steps.push({
    step: name,
    exit_code: computePhase.exitCode,
    action_code: actionPhase?.resultCode ?? null,
    gas_used: Number(computePhase.gasUsed),
    total_fees: transaction.totalFees.coins.toString(),
    out: transaction.outMessages.values().map((m) => [m.info.value.coins.toString(), m.info.forwardFee.toString()]),
  });
}

async function step(name, sender, message) {
  const result = await sender.send({ to: channel, bounce: true, ...message });
  note(name, result.transactions);
}

async function external(name, cell) {
  const body = beginCell().storeUint(0x65636c6d, 32).storeBuffer(sign(cell.hash(), voucherKey.secretKey)).storeRef(cell).endCell();
  const info = { type: 'external-in', dest: channel, importFee: 0n };
  const result = await blockchain.sendMessage({ info, body });
  note(name, result.transactions);
}

const first = voucher(123_456_789n, CHAIN);
const request = (tag) => ({ value: 30_000_000n, body: body(tag, 1).endCell() });
const deposit = { value: 2_080_000_000n, body: body('topu', 1).storeCoins(2_000_000_000n).endCell() };
await step('deploy', developer, { ...deposit, init });
await step('claim', stranger, { value: 50_000_000n, body: claim(first) });
await step('replay', stranger, { value: 50_000_000n, body: claim(first) });
await step('other chain', stranger, { value: 50_000_000n, body: claim(voucher(5n, 20241)) });
await external('external claim', voucher(200_000_000n, CHAIN));
await step('stranger closes', stranger, request('rcls'));
await step('close', developer, request('rcls'));
await step('cancel', developer, request('ccls'));
await step('rotate', developer, { value: 30_000_000n, body: body('rotk', 1).storeUint(9, 256).endCell() });
await step('close', developer, request('rcls'));
blockchain.now = START + DELAY;
await step('finalize', developer, request('fcls'));
const balance = (await blockchain.getContract(channel)).balance.toString();
blockchain.now = START + 30 * 86_400 + 1;
await step('destroy', developer, request('fcls'));
const made_by = '@ton/sandbox 0.41.0, by settlement/contracts/reference.mjs';
fs.writeFileSync(path.join(here, '../vectors/reference.json'), JSON.stringify({ made_by, steps, balance }, null, 2) + '\n');
process.exit(0);
