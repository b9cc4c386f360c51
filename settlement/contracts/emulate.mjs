// Runs messages to one account through TON's own C++ emulator (@ton/sandbox, main network's configuration), for the test that
// compares the embedded ledger with it.
//
//   node emulate.mjs FILE       (packages as for reference.mjs)
//
// Each line of FILE is an array of steps {now, lt, message}, a message being a bag of cells in base64. The first step finds no
// account. For each line one line is printed: an array of [exit code] where a message was not accepted, 0 if nothing ran, and else of
// [transaction, account afterwards] as bags of cells.

import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = path.resolve(process.env.CHRYSALIS_TOLK ?? path.join(here, 'node_modules'));
const require = createRequire(path.join(modules, 'x.js'));
const { beginCell, storeShardAccount } = require('@ton/core');
const { Executor, defaultConfig } = require('@ton/sandbox');

const executor = await Executor.create();
const nobody = beginCell().store(storeShardAccount({ account: null, lastTransactionHash: 0n, lastTransactionLt: 0n })).endCell();
// What the executor asks of a cell. Reading and hashing cells in JavaScript would take most of the time.
const asCell = (boc) => ({ toBoc: () => ({ toString: () => boc }) });

async function emulate(steps) {
  let shardAccount = nobody.toBoc().toString('base64');
  const said = [];
  for (const { now, lt, message } of steps) {
    const { result } = await executor.runTransaction({
      config: defaultConfig, libs: null, verbosity: 'short', shardAccount, message: asCell(message), now, lt: BigInt(lt),
      randomSeed: Buffer.alloc(32), ignoreChksig: false, debugEnabled: false,
    });
    if (result.success) {
      shardAccount = result.shardAccount;
      said.push([result.transaction, shardAccount]);
    } else {
      said.push([result.vmResults?.vmExitCode ?? 0]);
    }
  }
  return said;
}

for await (const line of readline.createInterface({ input: fs.createReadStream(process.argv[2]) })) {
  console.log(JSON.stringify(await emulate(JSON.parse(line))));
}
