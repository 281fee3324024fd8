// A node of a group with a referee in etcd: as long as it is the primary, it appends records that
// nobody else appends, and tells each that was acknowledged or refused; in every role it tells what
// it reads. What happens to it goes to its standard error, with the time. Times are nanoseconds of
// one clock for all processes of a machine.
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Log } from '../../dist/index.js';
import { etcdReferee } from '../../dist/referee/index.js';

const { clients, etcd, ...options } = JSON.parse(process.argv[2]);
const tell = (line) => writeSync(1, `${line}\n`);
const note = (text) => writeSync(2, `${process.hrtime.bigint() / 1000000n} ${text}\n`);
const line = (_, message) => note(message);
const logger = { debug: () => undefined, info: line, warn: line, error: line };

const log = await Log.open({ ...options, logger, referee: etcdReferee(etcd) });
tell(`role ${log.status().role}`);
log.on('role', ({ role }) => tell(`role ${role}`));
log.on('lease', ({ state, reason }) => note(`lease ${state} ${reason ?? ''}`));

let count = 0;
async function client() {
  for (;;) {
    if (log.status().role === 'primary') {
      count += 1;
      const text = `${options.name}.${process.pid}.${count}`;
      const began = process.hrtime.bigint();
      let lsn;
      try {
        lsn = log.append(text);
        await log.commit(lsn);
        tell(`ack ${lsn} ${text} ${began} ${process.hrtime.bigint()}`);
      } catch (error) {
        if (error.code !== 'WAL_FENCED' && error.code !== 'WAL_IS_STANDBY') tell(`error ${error}`);
        if (lsn === undefined) tell(`refused ${text}`);
      }
    }
    await sleep(5);
  }
}

/** Again and again from some records before what is committed: these have to be the same ones. */
async function reader() {
  for (;;) {
    const from = Math.max(1, log.status().commitLsn - 50);
    let next = from;
    try {
      for await (const batch of log.read({ from })) {
        for (const { lsn, data } of batch) {
          if (lsn !== next) tell(`error read LSN ${lsn} where ${next} was to come`);
          next = lsn + 1;
          if (lsn > log.status().commitLsn) tell(`error read LSN ${lsn}, which is not committed`);
          tell(`read ${lsn} ${data}`);
        }
        if (next > from + 2000) break;
      }
    } catch (error) {
      tell(`error read: ${error}`);
      await sleep(100);
    }
  }
}

/**
 * The word of an operator, which a node waits for where any one of several standbys may have
 * acknowledged what goes (docs/adr/0013): the history shows whether any did.
 */
async function operator() {
  for (;;) {
    await sleep(500);
    const { rejoin } = log.status();
    if (rejoin?.state !== 'asks') continue;
    tell(`asked ${rejoin.firstLsn}`);
    await log
      .rejoin({ follow: options.members[0], rejoin: rejoin.firstLsn - 1 })
      .catch((error) => note(`not heard: ${error.message}`));
  }
}

for (let i = 0; i < clients; i += 1) void client();
void operator();
void reader();
