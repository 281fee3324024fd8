/**
 * The bugs that are put back, one at a time, and the smallest part of the suite that finds each.
 * `like`: where another system shipped it, or the rule that it breaks.
 */

/** In native/core, at `PLANTED(name)`; `filter`: of the C++ tests' names. */
export const inTheCore = [
  {
    name: 'failed_flush_believed',
    like: 'PostgreSQL before 2018: a flush that failed is repeated, and believed',
    filter: 'FailedWriteIsFinal',
  },
  {
    name: 'tail_not_rewritten',
    like: 'what a failed flush left in the cache is taken for what is on the disk',
    filter: 'FailedWriteAtAnyPoint',
  },
  {
    name: 'control_in_a_cache_believed',
    like: 'the same, of the control file',
    filter: 'ControlFileIsWholeAfterAKill',
  },
  {
    name: 'any_position',
    like: 'RocksDB: records of a recycled file are taken for new ones',
    filter: 'BatchThatDoesNotContinue',
  },
  {
    name: 'chain_unchecked',
    like: 'RocksDB: recovery goes past a hole, or into a history that was cut',
    filter: 'BatchThatDoesNotContinue',
  },
  {
    name: 'cut_below_watermark',
    like: 'RocksDB: tolerating a torn tail cuts what was committed',
    filter: 'OfAClosedLog',
  },
  {
    name: 'no_proof_sought',
    like: 'the same, where only a later batch tells that it was durable',
    filter: 'OfAKilledLog',
  },
  {
    name: 'flushed_with_those_before',
    like: 'RocksDB: group commit leaves parallel writes behind that are never flushed',
    filter: 'AroundRolls',
  },
  {
    name: 'cut_segment_accepted',
    like: 'RocksDB: a log that was cut at a record boundary has a gap that nobody sees',
    filter: 'OfAClosedLog',
  },
  {
    name: 'clock_falls',
    like: 'RocksDB: a clock that is set back makes new log look old',
    filter: 'NeverFallsBelow',
  },
  {
    name: 'stale_batch_comes_back',
    like: 'etcd: what a torn write left behind comes to life when the log goes on',
    filter: 'DoesNotBringBackABatch',
  },
  {
    name: 'acknowledged_before_flush',
    like: 'etcd, NATS: acknowledged before it is on stable storage',
    filter: 'AroundRolls',
  },
  {
    name: 'newest_control_overwritten',
    like: 'etcd: an index that a crash leaves half written',
    filter: 'ControlFileIsWholeAfterAPowerLoss',
  },
  {
    name: 'checksum_unchecked',
    like: 'NATS: a single flipped bit is acted on',
    filter: 'BatchWithAnyBitFlipped',
  },
  {
    name: 'bad_control_is_none',
    like: 'NATS: metadata that cannot be read counts as absent',
    filter: 'ToldFromOneThatIsBad',
  },
  {
    name: 'unreadable_segment_removed',
    like: 'NATS: what cannot be read is an orphan, and deleted',
    filter: 'WhatCannotBeReadStays',
  },
  {
    name: 'missing_segment_is_the_end',
    like: 'a segment that is gone is taken for the end of the log',
    filter: 'OfAClosedLog',
  },
  {
    name: 'doubled_segment_accepted',
    like: 'of two files that claim one place, any is taken',
    filter: 'ClaimTheSamePlace',
  },
  {
    name: 'foreign_segment_reused',
    like: "another log's segment is taken for free space",
    filter: 'OfAnotherLog',
  },
  {
    name: 'trimmed_before_stored',
    like: 'PostgreSQL: log is removed before it is durable that nobody needs it',
    filter: 'OfATrimThatRemoves',
  },
  {
    name: 'claim_ignored',
    like: 'a segment is recycled under a standby that is being sent it',
    filter: 'TrimKeepsWhatIsClaimed',
  },
  {
    name: 'acknowledged_before_a_drop_is_stored',
    like: 'split mirrors: a stale copy is opened, and what was acknowledged since is not there',
    filter: 'MirrorGoesOnWhereOneDiskFails',
  },
  {
    name: 'pin_ignored',
    like: 'memory is written over while a socket still sends it',
    filter: 'LogKeepsPinnedBytes',
  },
  {
    name: 'cut_not_stored',
    like: 'a cut that a crash leaves half done is not done again',
    filter: 'AnyInstantOfACut',
  },
  {
    name: 'cut_leaves_its_tail',
    like: 'what was cut is found again behind the end, and taken for a proof',
    filter: 'AfterACutOfAnOldPrimarysTail',
  },
  {
    name: 'side_file_not_flushed',
    like: 'the tail that was kept aside is gone after a power loss',
    filter: 'AnyInstantOfACut',
  },
  {
    name: 'committed_cut',
    like: 'Kafka before KIP-101: truncation removes what was committed',
    filter: 'CutsNothingThatIsKnownToBeCommitted',
  },
  {
    name: 'name_not_flushed',
    like: 'etcd before it flushed directories: a new segment has no name after a power loss',
    filter: 'Enumerated',
  },
  {
    name: 'term_not_stored',
    like: 'Raft: a vote is answered before it is on stable storage',
    filter: 'ARuleIsStoredWithItsTerm',
  },
  {
    name: 'term_of_a_filler_forgotten',
    like: 'found here: a crash between the filler of an opening and the opening loses its term',
    filter: 'TheTermOfAFiller',
  },
  {
    name: 'older_control_accepted',
    like: 'a control file from a backup is believed beside a newer log',
    filter: 'OlderControlFile',
  },
  {
    name: 'watermark_ahead',
    like: 'the control file calls durable what is not',
    filter: 'AroundRolls',
  },
  {
    name: 'received_unverified',
    like: 'corruption spreads: a standby keeps what does not verify',
    filter: 'WithAnyOneChanged',
  },
  {
    name: 'served_unverified',
    like: 'corruption spreads: what has decayed on the disk is served',
    filter: 'DecayedOnTheDisk',
  },
];

/** In the pure parts of src: `find` is replaced while the tests run. `title`: of the tests. */
export const inTypeScript = [
  {
    name: 'acknowledgement_on_faith',
    like: 'PostgreSQL: any 64-bit number of a standby releases the waiting commits',
    file: 'src/replication/progress.ts',
    find: 'if (wrong !== undefined) return wrong;',
    replace: '',
    tests: 'test/replication/commit_place.test.ts',
  },
  {
    name: 'silently_asynchronous',
    like: 'MySQL: semi-synchronous replication goes on alone and says nothing',
    file: 'src/replication/commit_place.ts',
    find: "if (!this.#remote(level === 'remote_write' ? 'write' : 'flush')) return false;",
    replace: "if (!this.#remote(level === 'remote_write' ? 'write' : 'flush')) return true;",
    tests: 'test/replication/commit_place.test.ts',
  },
  {
    name: 'ahead_of_the_own_flush',
    like: 'what is committed is not on the primary itself',
    file: 'src/replication/commit_place.ts',
    find: 'if (this.#kth.position < position) {',
    replace: 'if (this.#kth.position !== position) {',
    tests: 'test/replication/commit_place.test.ts',
  },
  {
    name: 'earlier_term_committed',
    like: "Raft, figure 8: an earlier term's records count before one of this term does",
    file: 'src/replication/commit_place.ts',
    find: 'if (position < this.#opened || position <= this.#position) return false;',
    replace: 'if (position <= this.#position) return false;',
    tests: 'test/replication/commit_place.test.ts',
  },
  {
    name: 'connections_counted',
    like: 'two connections of one node make a quorum',
    file: 'src/replication/quorum.ts',
    find: 'this.#byNode.set(progress.nodeId, progress);',
    replace: 'this.#byNode.set(`$' + '{progress.nodeId} $' + '{this.#byNode.size}`, progress);',
    tests: 'test/replication/commit_place.test.ts',
  },
  {
    name: 'fork_by_the_last_term',
    like: 'Kafka before KIP-279: fast double failover, the fork point by the last term alone',
    file: 'src/replication/history.ts',
    find: 'return lower(goesOn(a, i), goesOn(b, j));',
    replace: 'return lower(goesOn(a, a.history.length - 1), goesOn(b, b.history.length - 1));',
    tests: 'test/replication/history.test.ts',
  },
  {
    name: 'fence_not_heard',
    like: 'MySQL: the old primary goes on after another was promoted',
    file: 'src/replication/primary_session.ts',
    find: "return [...this.#refuse('WAL_FENCED', text), { do: 'fenced', term: sender.term }];",
    replace: "return this.#refuse('WAL_FENCED', text);",
    tests: 'test/replication/handshake.test.ts',
  },
  {
    name: 'member_before_the_rule',
    like: 'NATS: a member counts before the change of members is known to all',
    file: 'src/replication/rule.ts',
    find: 'return since !== undefined && since <= this.#inForce && this.#admits(progress);',
    replace: 'return since !== undefined && this.#admits(progress);',
    tests: 'test/replication/rule.test.ts',
  },
  {
    name: 'another_history_followed',
    like: 'a standby that differs at the same position is fed on',
    file: 'src/replication/primary_session.ts',
    find: 'if (crc === undefined || (!isLonger && crc !== position.crc)) {',
    replace: 'if (crc === undefined) {',
    tests: 'test/replication/handshake.test.ts',
  },
  {
    name: 'commit_place_of_another_term',
    like: 'Kafka before KIP-101: a high watermark outlives the log that it was about',
    file: 'src/replication/known_commit.ts',
    find: 'if (this.#position <= start.position) return;',
    replace: 'if (this.#position > 0) return;',
    tests: 'test/replication/small_parts.test.ts',
  },
];
