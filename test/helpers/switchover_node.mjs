// A node of a group: as long as it is the primary, it appends records that name this process and
// commits them. Tells what was acknowledged and what it is on stdout; does what it is told on
// stdin: `switchover NAME`, `promote`, `stop STEP` (at that step it tells so, and goes on no more).
// `refereeFile`: options of a referee over a file, which then decides who leads.
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { openIn } from '../../dist/api/log.js';
import { fileReferee } from '../../dist/referee/index.js';
import { processEnvironment } from '../../dist/transport/environment.js';

const { clients, refereeFile, ...options } = JSON.parse(process.argv[2]);
const tell = (line) => writeSync(1, `${line}\n`);
const forever = new Promise(() => setInterval(() => {}, 1e6));
let stopAt = '';

async function step(name) {
  if (name !== stopAt) return;
  tell(`stopped ${name}`);
  await forever;
}

function stepping(object, calls) {
  for (const [call, name] of Object.entries(calls)) {
    const work = object[call].bind(object);
    const value = async (...given) => {
      await step(`before-${name}`);
      const result = await work(...given);
      await step(`after-${name}`);
      return result;
    };
    Object.defineProperty(object, call, { value });
  }
  return object;
}

const binding = processEnvironment.binding();
const ofLog = { storeRole: 'role', openTerm: 'opening' };
const ofReferee = { acquire: 'claim', release: 'release', recordRule: 'rule' };
const open = async (given) => stepping(await binding.open(given), ofLog);
const environment = {
  ...processEnvironment,
  binding: () => Object.create(binding, { open: { value: open } }),
};
const referee =
  refereeFile === undefined ? {} : { referee: stepping(fileReferee(refereeFile), ofReferee) };
const log = await openIn(environment, { ...options, ...referee });
const say = () => tell(`role ${log.status().role} ${log.status().term.epoch}`);
log.on('role', say);
say();

createInterface({ input: process.stdin }).on('line', async (line) => {
  const [what, name] = line.split(' ');
  if (what === 'stop') stopAt = name;
  try {
    if (what === 'switchover') {
      await log.switchover({ to: name, timeout: 10_000 });
      tell('done switched');
    }
    if (what === 'promote') {
      await log.promote({ primaryStopped: true });
      tell('done promoted');
    }
  } catch (error) {
    tell(`done ${error.code} ${error.message}`);
  }
});

const expected = ['WAL_SWITCHING', 'WAL_IS_STANDBY', 'WAL_FENCED'];
async function client(number) {
  for (let count = 1; ; count += 1) {
    if (log.status().role === 'primary') {
      const text = `${options.name}.${process.pid}.${number}.${count}`;
      try {
        const lsn = log.append(text);
        await log.commit(lsn);
        tell(`ack ${lsn} ${text}`);
      } catch (error) {
        if (!expected.includes(error.code)) tell(`error ${error}`);
      }
    }
    await sleep(2);
  }
}
for (let i = 0; i < clients; i += 1) void client(i);
