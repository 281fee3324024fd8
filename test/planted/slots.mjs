/** Bugs in what keeps the log for standbys that are away; as in plants.mjs. */
export const slots = [
  {
    name: 'no_slots_told_where_they_are_not_known',
    like: 'a primary whose slots are damaged makes its standbys forget theirs',
    file: 'src/api/slots.ts',
    find: 'if (this.#unknown !== undefined) return undefined;',
    replace: '',
    tests: 'test/api/slot_pins.test.ts',
  },
  {
    name: 'slot_of_a_namesake',
    like: 'two hosts of one name: the slot of the one is taken for that of the other',
    file: 'src/api/slots.ts',
    find: 'return name === ownName && (nodeId === null || nodeId === ownId);',
    replace: 'return name === ownName && (nodeId === null || ownId.length > 0);',
    tests: 'test/api/slot_pins.test.ts',
  },
  {
    name: 'pin_moved_before_it_is_stored',
    like: 'PG 046, 047: a pin moves in memory, log is removed, and after a crash the pin is back',
    file: 'src/api/slots.ts',
    find: 'const position = Math.min(now.position, stored?.position ?? slot.heldFrom);',
    replace: 'const position = now.position;',
    tests: 'test/api/slot_pins.test.ts',
  },
  {
    name: 'pin_moved_as_it_is_acknowledged',
    like: 'B24: what a standby has flushed is let go of before that is stored',
    file: 'src/api/slots.ts',
    find: 'if (place.position > slot.now.position) this.#place(slot.now, place);',
    replace:
      'if (place.position > slot.now.position) { this.#place(slot.now, place); ' +
      'if (slot.claim !== undefined) this.#host.native.moveRetain(slot.claim, place.position); }',
    tests: 'test/api/slot_pins.test.ts',
  },
  {
    name: 'lost_before_it_is_stored',
    like: 'a slot that is lost is one again after a crash, and its log is gone',
    file: 'src/api/slots.ts',
    find: '(now.lost && stored?.lost !== false)',
    replace: 'now.lost',
    tests: 'test/api/slot_pins.test.ts',
  },
  {
    name: 'names_not_flushed',
    like: 'a file is renamed and its directory is not flushed: the old one is back after a crash',
    file: 'src/transport/small_files.ts',
    find: 'await files.flushDirectory(dirname(path));',
    replace: '',
    tests: 'test/api/slot_file.test.ts',
  },
  {
    name: 'damaged_slots_are_none',
    like: 'a file of pins that does not verify is taken for one without any',
    file: 'src/api/slots.ts',
    find: 'this.#keepsAll = host.native.retain(0);',
    replace: '',
    tests: 'test/api/retention.test.ts',
  },
  {
    name: 'slots_end_with_the_primary',
    like: 'PG before 17: a slot does not survive a failover, and what it held is gone',
    file: 'src/api/standby_driver.ts',
    find: 'slots.told(told);',
    replace: '',
    tests: 'test/api/slots.test.ts',
  },
  {
    name: 'pin_of_another_history',
    like: 'a new primary holds for a standby what that one had of a history that was left',
    file: 'src/api/slots.ts',
    find: 'if (left !== undefined) this.cut(left);',
    replace: '',
    tests: 'test/api/slot_pins.test.ts',
  },
  {
    name: 'age_by_the_wall_clock',
    like: 'RocksDB WAL_ttl, FAULTS 26: a clock that jumps makes what is kept too old at once',
    file: 'src/api/slots.ts',
    find:
      'const elapsed = Math.min(maxElapsedMs, this.#host.now() - this.#tickedAt);\n' +
      '    this.#tickedAt = this.#host.now();',
    replace:
      'const elapsed = this.#host.wallClock() - this.#tickedAt;\n' +
      '    this.#tickedAt = this.#host.wallClock();',
    tests: 'test/api/slot_pins.test.ts',
  },
];
