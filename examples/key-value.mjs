// A key-value store in memory whose changes are a log: it is rebuilt from its records at each start,
// and `set` resolves when the change is on stable storage.
//
//   node examples/key-value.mjs DIR [set KEY VALUE | delete KEY | get KEY | list]
import { realpathSync } from 'node:fs';
import { Log } from 'walmirror';

export class KeyValueStore {
  #log;
  #values = new Map();

  /** Replays what is on the disk, committed or not: a primary that starts has nobody to ask. */
  static async open(options) {
    const store = new KeyValueStore();
    store.#log = await Log.open(options);
    for await (const batch of store.#log.read({ upTo: 'flush', live: false })) {
      for (const record of batch) store.#apply(JSON.parse(record.data.toString()));
    }
    return store;
  }

  get(key) {
    return this.#values.get(key);
  }

  entries() {
    return [...this.#values].sort(([a], [b]) => (a < b ? -1 : 1));
  }

  set(key, value) {
    return this.#change({ set: key, to: value });
  }

  delete(key) {
    return this.#change({ delete: key });
  }

  close() {
    return this.#log.close();
  }

  /**
   * Appended first and applied in the same turn, so that the state has the changes in the order of
   * the log. Readers here see a change a moment before it is durable; its caller waits for that.
   */
  async #change(change) {
    const lsn = this.#log.append(JSON.stringify(change));
    this.#apply(change);
    await this.#log.commit(lsn);
    return lsn;
  }

  #apply(change) {
    if ('set' in change) this.#values.set(change.set, change.to);
    else this.#values.delete(change.delete);
  }
}

async function main([dir, command = 'list', key, value]) {
  if (dir === undefined) throw new TypeError('say the directory of the store');
  const store = await KeyValueStore.open({ dir });
  try {
    if (command === 'set') console.log(`record ${await store.set(key, value)} is durable`);
    else if (command === 'delete') console.log(`record ${await store.delete(key)} is durable`);
    else if (command === 'get') console.log(store.get(key) ?? '(nothing)');
    else for (const [name, held] of store.entries()) console.log(`${name} = ${held}`);
  } finally {
    await store.close();
  }
}

const [, program = '.'] = process.argv;
if (import.meta.filename === realpathSync(program)) await main(process.argv.slice(2));
