/** Bugs for the simulator to find: what only a group with faults shows. As in plants.mjs. */
const tests = 'test/sim/planted.test.ts';
/** `plan`: what runs are to be like, so that they come to it. */
const inElections = { profile: 'quick', level: 'remote_flush', whenMissing: 'block' };

export const simulated = [
  {
    name: 'sim_silently_asynchronous',
    like: 'MySQL: semi-synchronous replication goes on alone and says nothing',
    file: 'src/replication/commit_place.ts',
    find: "if (!this.#remote(each, isWrite ? 'write' : 'flush')) return false;",
    replace: "if (!this.#remote(each, isWrite ? 'write' : 'flush')) continue;",
    tests,
  },
  {
    name: 'sim_ahead_of_the_own_flush',
    like: 'what is committed is not on the primary itself',
    file: 'src/replication/commit_place.ts',
    find: 'if (this.#kth.position >= position) continue;',
    replace: 'if (this.#kth.position === position) continue;',
    tests,
  },
  {
    name: 'sim_shown_before_it_is_safe',
    like: 'NATS: a record is read before a quorum has it, and is gone after a failover',
    file: 'src/api/core.ts',
    find: 'if (commit.position < position) return this.rebuild.bound(commit);',
    replace: 'if (commit.position < 0) return this.rebuild.bound(commit);',
    tests,
  },
  {
    name: 'sim_term_not_stored',
    like: 'Redis-Raft: a term is taken on, and forgotten by a crash (SAFETY 2.3)',
    file: 'src/transport/follower.ts',
    find: 'if (!isKnown) await this.native.storeRole(role, term, primaryName, address);',
    replace: '',
    tests,
  },
  {
    name: 'sim_received_dropped_by_promotion',
    like: 'Redis: a replica that is promoted drops what it had received and acknowledged',
    file: 'src/api/promote.ts',
    find: 'await standby.stop();',
    replace: `await standby.stop();
      await core.native.truncate(core.native.state[4] > 4096 ? 4096 : 0, 'x.diverged');`,
    tests,
  },
  {
    name: 'sim_cut_to_the_commit_place',
    like: 'Kafka before KIP-101: a replica drops what lies past its high watermark, and then leads',
    file: 'src/api/promote.ts',
    find: 'await standby.stop();',
    replace: `await standby.stop();
      const { position: upTo } = standby.upstream().told;
      if (upTo >= 4096 && upTo < core.native.state[2]) {
        await core.native.truncate(upTo, 'x.diverged', 'unseen');
      }`,
    plan: inElections,
    tests,
  },
];
