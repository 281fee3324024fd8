/** Bugs in the ways back of a fenced primary (docs/adr/0013). */
export const waysBackInTheCore = [
  {
    name: 'fenced_still_appends',
    like: 'SAFETY 2.6: a primary that heard of a higher epoch goes on to take records',
    filter: 'WhatAQuorumCommittedIsThereAtAnyInstant',
  },
];

export const waysBackInTypeScript = [
  {
    name: 'split_forgotten',
    like: 'SAFETY 2.1: a restart makes both of two nodes of one epoch primaries again',
    file: 'src/transport/follower.ts',
    find: "if (error.code === 'WAL_SPLIT') this.#storeSplit();",
    replace: '',
    tests: 'test/api/split.test.ts',
  },
  {
    name: 'force_not_recorded',
    like: 'nobody can tell later that a role was taken by force',
    file: 'src/api/promote.ts',
    find: "if (role === 'standby') return null;",
    replace: 'if (term.epoch > 0) return null;',
    tests: 'test/api/rejoin_force.test.ts',
  },
  {
    name: 'fenced_promoted_unforced',
    like: 'a failed primary is promoted again over the one that took its place',
    file: 'src/api/promote.ts',
    find: "if (standby.role !== 'standby' && !force) throw notRejoined(core);",
    replace: '',
    tests: 'test/api/rejoin_force.test.ts',
  },
];
