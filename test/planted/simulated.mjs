/** Bugs for the simulator to find: what only a group with faults shows. As in plants.mjs. */
const tests = 'test/sim/planted.test.ts';
/** `plan`: what runs are to be like, so that they come to it. */
const inElections = { profile: 'quick', level: 'remote_flush', whenMissing: 'block' };
const onSlowDisks = { ...inElections, latency: 0.05, jitter: 0.05, flushMs: 15 };
/** Stories of one kind (sim/stories.ts), with three nodes that wait for one another's disks. */
const inStories = {
  ...inElections,
  profile: 'stories',
  stories: 5,
  nodes: 3,
  cascade: false,
  quorum: 1,
  grammar: 'ANY',
  ownLevels: 0,
  keepRecords: 0,
  clients: 2,
  thinkMs: 50,
  maxRecordBytes: 256,
  latency: 0.5,
  flushMs: 0.2,
  split: 0,
};
/** A primary runs on, cut off from the node that takes its place. */
const whenCutOff = { ...inStories, referee: false, story: 'cut-off' };
const whenALeaseLapses = { ...inStories, referee: true, story: 'lapse', ttlMs: 2_000 };
const whenAlone = {
  ...inStories,
  referee: true,
  story: 'alone',
  whenMissing: 'degrade',
  ttlMs: 2_000,
  syncTimeout: 800,
};
const inSwitchovers = { ...inStories, story: 'switch-over' };
/** Most of one is waiting for what was appended last: it is given up there. */
const inLongSwitchovers = { ...inSwitchovers, latency: 40, flushMs: 15, clients: 4 };

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
    plan: { ...inElections, referee: false },
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
  {
    name: 'sim_acknowledged_before_the_flush',
    like: 'etcd, NATS: a node acknowledges what is not on its stable storage yet',
    file: 'src/transport/primary_link.ts',
    find: 'flushPosition: this.#ackedFlush,\n        flushLsn: state[State.FLUSH_LSN]!,',
    replace: 'flushPosition: this.#ackedWrite,\n        flushLsn: state[State.CLOSED_LSN]!,',
    plan: { ...onSlowDisks, clients: 1 },
    tests,
  },
  {
    name: 'sim_memory_taken_for_a_disk',
    like: 'Redis WAIT: a primary counts what a standby has received, and calls it safe',
    file: 'src/replication/progress.ts',
    find: 'const flush = ends.find(ack.flushPosition);',
    replace: 'const flush = ends.find(ack.writePosition);',
    plan: { ...onSlowDisks, clients: 4, thinkMs: 50 },
    tests,
  },
  {
    name: 'sim_fenced_and_acknowledging',
    like: 'NATS: who has voted for another goes on to acknowledge its old leader',
    file: 'src/transport/follower.ts',
    find: "this.#link?.drop(new WalError('WAL_CLOSED', reason));",
    replace: '',
    plan: whenCutOff,
    tests,
  },
  {
    name: 'sim_short_log_promoted',
    like: 'SAFETY 3.4: a quorum of answers that need not meet the quorum of acknowledgements',
    file: 'src/replication/candidacy.ts',
    find: 'return Math.max(1, rule.members.length - acknowledging(rule) + 1);',
    replace: 'return Math.max(1, rule.members.length - acknowledging(rule));',
    plan: whenCutOff,
    tests,
  },
  {
    name: 'sim_best_log_not_taken',
    like: 'semi-sync: a replica is promoted, and the one that had more is rewound to it',
    file: 'src/api/win_epoch.ts',
    find: 'await standby.extend(best.history, best.end.position, endpoint, call.signal);',
    replace: '',
    plan: whenCutOff,
    tests,
  },
  {
    name: 'sim_tail_of_an_old_primary_kept',
    like: 'MySQL #99370: an old primary follows with what it alone had in its log',
    file: 'src/transport/follower.ts',
    find: 'if (this.#closed().position > position) {\n        const isPlain',
    replace:
      'if (this.#closed().position > position && !this.isReturning) {\n        const isPlain',
    plan: whenCutOff,
    tests,
  },
  {
    name: 'sim_fork_by_the_lengths',
    like: 'Kafka before KIP-101: where two logs part is told by their lengths',
    file: 'src/replication/history.ts',
    find: 'return lower(goesOn(a, i), goesOn(b, j));',
    replace: 'return lower(a.end, b.end);',
    plan: whenCutOff,
    tests,
  },
  {
    name: 'sim_lease_not_asked',
    like: 'a leader that acknowledges by a lease which has ended while it was paused',
    file: 'src/transport/primary_hub.ts',
    find: "if (level !== 'off' && !this.#mayAcknowledge()) return 0;",
    replace: '',
    plan: whenALeaseLapses,
    tests,
  },
  {
    name: 'sim_lease_by_its_timer',
    like: 'etcd #20418: a process that was paused goes on as the leader until a timer tells it',
    file: 'src/referee/lease_keeper.ts',
    find: 'return this.#lease.holds(this.#environment.bootTime());',
    replace: "return this.#state === 'held';",
    plan: whenALeaseLapses,
    tests,
  },
  {
    name: 'sim_lease_from_the_answer',
    like: 'SAFETY 4.3: the deadline is counted from the answer, which may be late',
    file: 'src/referee/store_referee.ts',
    find: 'deadlineOf(sentMs, renewed.ttlMs, this.timing)',
    replace: 'deadlineOf(this.#environment.bootTime(), renewed.ttlMs, this.timing)',
    plan: whenALeaseLapses,
    tests,
  },
  {
    name: 'sim_alone_before_it_is_recorded',
    like: 'a primary that acknowledges alone before the referee knows',
    file: 'src/replication/commit_rule.ts',
    find: 'this.#toRecord = this.newest;',
    replace: 'this.#toRecord = this.newest; if (decided.alone) this.#inForce = decided;',
    plan: whenAlone,
    tests,
  },
  {
    name: 'sim_appends_while_it_hands_over',
    like: 'an append between the last flush and the demotion is in no log but the old one',
    file: 'src/api/switchover.ts',
    find: 'driver.pause(switching(to));',
    replace: 'void switching;',
    plan: inSwitchovers,
    tests,
  },
  {
    name: 'sim_never_takes_appends_again',
    like: 'a switchover that failed leaves a primary that refuses all',
    file: 'src/api/switchover.ts',
    find: '    driver.resume();\n    throw error;',
    replace: '    throw error;',
    plan: inLongSwitchovers,
    tests,
  },
];
