import { describe, expect, it } from 'vitest';
import type { HistoryEntry, Place } from '../../src/native/native_log.js';
import { fenceTerm } from '../../src/replication/fence.js';
import { PrimarySession, type PrimaryView } from '../../src/replication/primary_session.js';
import type { NumberedRule } from '../../src/replication/rule.js';
import {
  isFinal,
  StandbySession,
  type StandbyView,
} from '../../src/replication/standby_session.js';

const [a, b, c] = ['a', 'b', 'c'].map((digit) => digit.repeat(32)) as [string, string, string];
const log = {
  logId: '1'.repeat(32),
  salt: '2'.repeat(16),
  segmentBytes: 65536,
  padded: false,
  maxRecordBytes: 1000,
};

function opened(epoch: number, opener: string, incarnation: number, at: number): HistoryEntry {
  return { epoch, opener, incarnation, position: 4096 + at * 100, lsn: at };
}

function at(n: number): Place {
  return { position: 4096 + n * 100, lsn: n };
}

/** A batch's crc in these tests: of what wrote it, and where it ends. */
function crcAt(history: readonly HistoryEntry[], position: number): number {
  if (position <= 4096) return 0;
  const writer = history.findLast((entry) => entry.position < position);
  return (writer?.epoch ?? 0) * 1_000_000 + (writer?.incarnation ?? 0) * 100_000 + position;
}

const rule: NumberedRule = {
  number: 1,
  rule: { synchronousCommit: 'local', synchronousStandbys: null, members: [], degraded: false },
};

interface Node {
  readonly nodeId: string;
  readonly history: readonly HistoryEntry[];
  readonly end: number;
  readonly commit?: number;
  readonly term?: { epoch: number; opener: string; incarnation: number };
  readonly start?: number;
  /** Itself a standby: it passes the log on. */
  readonly passesOn?: boolean;
  /** Of its term. */
  readonly witnesses?: readonly string[];
  /** Another byte string than the history says. */
  readonly crc?: number;
  /** What it knows of what was acknowledged, and makes of that. */
  readonly knows?: Partial<StandbyView>;
  readonly log?: Partial<typeof log>;
}

function termOf(node: Node) {
  const last = node.history.at(-1);
  const { epoch, opener, incarnation } = node.term ??
    last ?? { epoch: 0, opener: '0'.repeat(32), incarnation: 0 };
  return { epoch, opener, incarnation };
}

function primaryView(node: Node): PrimaryView {
  return {
    identity: { ...log, ...node.log, nodeId: node.nodeId, name: `p-${node.nodeId[0]}` },
    term: termOf(node),
    isPrimary: node.passesOn !== true,
    history: node.history,
    closed: at(node.end),
    commit: at(node.commit ?? 0),
    start: 4096 + (node.start ?? 0) * 100,
    witnesses: node.witnesses ?? [],
  };
}

function standbyView(node: Node): StandbyView {
  const end = at(node.end);
  return {
    identity: { ...log, ...node.log, nodeId: node.nodeId, name: `s-${node.nodeId[0]}` },
    term: termOf(node),
    role: 'standby',
    history: node.history,
    end,
    crc: node.crc ?? crcAt(node.history, end.position),
    commit: at(node.commit ?? 0),
    isCommitExact: false,
    quorumLsn: 0,
    quorumMostLsn: 0,
    rule: rule.rule,
    isRuleUndercut: false,
    rejoin: 'ask',
    hasReferee: false,
    isReleased: false,
    ...node.knows,
  };
}

/** Lets the two sessions talk, and writes down what each was told to do. */
function handshake(primary: Node, standby: Node): string[] {
  let standbyNow = standby;
  const p = new PrimarySession(() => primaryView(primary), 7);
  const s = new StandbySession(() => standbyView(standbyNow));
  const story: string[] = [];
  function forPrimary(actions: ReturnType<PrimarySession['onHello']>): void {
    for (const action of actions) {
      if (action.do === 'hello') forStandby(s.onHello(action.hello));
      else if (action.do === 'refuse') {
        story.push(`primary refuses: ${action.refusal.code}`);
        forStandby(s.onRefusal(action.refusal));
      } else if (action.do === 'checksum') {
        forPrimary(p.onChecksum(crcAt(primary.history, action.position)));
      } else if (action.do === 'accept') {
        story.push(`accept at ${(action.accept.start - 4096) / 100}`);
        forStandby(s.onAccept({ ...action.accept, rule }));
      } else story.push(`primary: ${action.do}`);
    }
  }
  function forStandby(actions: ReturnType<StandbySession['start']>): void {
    for (const action of actions) {
      if (action.do === 'hello') forPrimary(p.onHello(action.hello));
      else if (action.do === 'store') {
        story.push(`store ${action.term.epoch}.${action.term.incarnation}`);
        const { knows } = standbyNow;
        const role = knows?.role === 'primary' ? 'fenced' : (knows?.role ?? 'standby');
        standbyNow = { ...standbyNow, term: { ...action.term }, knows: { ...knows, role } };
        forStandby(s.stored());
      } else if (action.do === 'record') {
        story.push('record');
        forStandby(s.recorded());
      } else if (action.do === 'position') forPrimary(p.onPosition(action.position));
      else if (action.do === 'cut') {
        const end = (action.position - 4096) / 100;
        story.push(`cut at ${end}`);
        if (crcAt(standbyNow.history, action.position) !== action.crc) {
          forStandby(s.cutRefused());
        } else {
          const history = standbyNow.history.filter((entry) => entry.position < action.position);
          standbyNow = { ...standbyNow, end, history };
          forStandby(s.cut());
        }
      } else if (action.do === 'judged') story.push(`judged: ${action.judgement.verdict}`);
      else if (action.do === 'rejoin') {
        const end = (action.position - 4096) / 100;
        story.push(standbyNow.end > end ? `rejoin, cut at ${end}` : 'rejoin');
        const history = standbyNow.history.filter((entry) => entry.position < action.position);
        standbyNow = { ...standbyNow, end, history, knows: {} };
        forStandby(s.rejoined());
      } else if (action.do === 'begin') story.push('begin');
      else if (action.do === 'refuse') story.push(`standby refuses: ${action.refusal.code}`);
      else story.push(`standby: ${action.error.code}${isFinal(action.error) ? ', for good' : ''}`);
    }
  }
  forStandby(s.start());
  return story;
}

const first = opened(1, a, 1, 0);
const again = opened(1, a, 2, 50);
const promoted = opened(2, b, 1, 40);

describe('the handshake', () => {
  it('starts an empty standby at the beginning', () => {
    const story = handshake(
      { nodeId: a, history: [first], end: 50 },
      { nodeId: b, history: [], end: 0 },
    );
    expect(story).toEqual(['store 1.1', 'accept at 0', 'record', 'begin']);
  });

  it('goes on where a standby ends', () => {
    const story = handshake(
      { nodeId: a, history: [first, again], end: 60 },
      { nodeId: b, history: [first], end: 30 },
    );
    expect(story).toEqual(['store 1.2', 'accept at 30', 'record', 'begin']);
  });

  it('cuts a standby that is longer than its restarted primary', () => {
    const story = handshake(
      { nodeId: a, history: [first, again], end: 51 },
      { nodeId: b, history: [first], end: 70, commit: 50 },
    );
    expect(story).toEqual(['store 1.2', 'accept at 50', 'record', 'cut at 50', 'begin']);
  });

  describe('of an old primary', () => {
    const knows = { role: 'primary' } as const;
    const old = { nodeId: a, history: [first], end: 70, commit: 70 };
    const newer = { nodeId: b, history: [first, promoted], end: 60 };

    it('follows where its log ends at the fork, whatever it had committed', () => {
      const story = handshake(newer, { ...old, end: 40, commit: 40, knows });
      expect(story).toEqual([
        ...['store 2.1', 'accept at 40', 'judged: follow', 'rejoin', 'record', 'begin'],
      ]);
    });

    it('asks, or cuts and follows, where it is longer', () => {
      expect(handshake(newer, { ...old, knows })).toEqual([
        ...['store 2.1', 'accept at 40', 'judged: ask', 'standby refuses: WAL_WAS_PRIMARY'],
        'standby: WAL_WAS_PRIMARY, for good',
      ]);
      const auto = { ...knows, rejoin: 'auto' } as const;
      expect(handshake(newer, { ...old, knows: auto })).toEqual([
        ...['store 2.1', 'accept at 40', 'judged: ask', 'rejoin, cut at 40', 'record', 'begin'],
      ]);
    });

    it('never cuts what a quorum committed', () => {
      for (const rejoin of ['auto', 40] as const) {
        const known = { ...knows, rejoin, quorumLsn: 41 } as const;
        expect(handshake(newer, { ...old, knows: known })).toEqual([
          ...['store 2.1', 'accept at 40', 'judged: never', 'standby refuses: WAL_DIVERGED'],
          'standby: WAL_DIVERGED, for good',
        ]);
      }
    });

    it('cuts what a quorum may have committed only by the LSN that it told', () => {
      for (const rejoin of ['ask', 'auto', 39, 41] as const) {
        const told = handshake(newer, { ...old, knows: { ...knows, rule: null, rejoin } });
        expect(told).toContain('standby: WAL_WAS_PRIMARY, for good');
        expect(told).toContain('judged: name');
      }
      const named = { ...knows, rule: null, rejoin: 40 };
      expect(handshake(newer, { ...old, knows: named })).toContain('rejoin, cut at 40');
    });

    it('waits where the other is a standby that passes on what this one framed', () => {
      const behind = { nodeId: b, history: [first], end: 60 };
      expect(handshake(behind, { ...old, knows })).toEqual([
        ...['standby refuses: WAL_FENCED', 'standby: WAL_FENCED'],
      ]);
    });

    it('is a split where the other opened the same epoch', () => {
      const same = { nodeId: b, history: [first, again], end: 60 };
      expect(handshake(same, { ...old, knows })).toEqual([
        ...['standby refuses: WAL_SPLIT', 'standby: WAL_SPLIT, for good'],
      ]);
    });
  });

  it('stops both where the restarted primary ends below what is committed', () => {
    const story = handshake(
      { nodeId: a, history: [first, again], end: 51 },
      { nodeId: b, history: [first], end: 70, commit: 55 },
    );
    expect(story).toEqual([
      'store 1.2',
      'primary refuses: WAL_COMMITTED_LOST',
      'standby: WAL_COMMITTED_LOST, for good',
      'primary: lost',
    ]);
  });

  it('stops both where the primary lost what a shorter standby was told of', () => {
    const story = handshake(
      { nodeId: a, history: [first, again], end: 51 },
      { nodeId: b, history: [first], end: 30, commit: 55 },
    );
    expect(story).toContain('primary: lost');
  });

  describe('of a standby that is longer under a new epoch', () => {
    const newer = { nodeId: b, history: [first, promoted], end: 60 };
    const longer = { nodeId: c, history: [first], end: 45, commit: 40 };
    const sync = (...members: string[]) => ({
      rule: {
        ...({ synchronousCommit: 'remote_flush', synchronousStandbys: 'ANY 1 (*)' } as const),
        ...{ members, degraded: false },
      },
    });
    const cut = ['rejoin, cut at 40', 'record', 'begin'];

    it('cuts what nobody can have seen', () => {
      const story = handshake(newer, { ...longer, knows: sync(b) });
      expect(story).toEqual(['store 2.1', 'accept at 40', 'judged: follow', ...cut]);
    });

    it('judges by the primary, and not by a standby that passes its log on', () => {
      const upstream = { ...newer, nodeId: a, passesOn: true };
      const story = handshake(upstream, { ...longer, knows: sync(b) });
      expect(story).toEqual(['store 2.1', 'accept at 40', 'judged: follow', ...cut]);
      // It may have acknowledged what was cut from it since.
      expect(handshake(upstream, { ...longer, knows: sync(a) })).toContain('judged: name');
    });

    it('cuts what those who were fenced did not have, where the logs part with their term', () => {
      const heard = { ...newer, witnesses: [b, c] };
      const knows = sync(b, c);
      const story = handshake(heard, { ...longer, knows });
      expect(story).toEqual(['store 2.1', 'accept at 40', 'judged: follow', ...cut]);
      expect(handshake({ ...heard, witnesses: [a] }, { ...longer, knows })).toContain(
        'judged: name',
      );
      // Those of a later term say nothing of the one that parted from this log.
      const later = { ...promoted, epoch: 3, opener: a, ...at(50) };
      const third = { ...heard, nodeId: a, history: [first, promoted, later] };
      expect(handshake(third, { ...longer, knows })).toContain('judged: name');
    });

    it('asks where its own acknowledgement may have made the quorum', () => {
      const asked = [
        ...['store 2.1', 'accept at 40', 'judged: name', 'standby refuses: WAL_DIVERGED'],
        'standby: WAL_DIVERGED, for good',
      ];
      expect(handshake(newer, { ...longer, knows: sync(b, c) })).toEqual(asked);
      const auto = { ...sync(b, c), rejoin: 'auto' } as const;
      expect(handshake(newer, { ...longer, knows: auto })).toEqual(asked);
      const named = { ...sync(b, c), rejoin: 40 } as const;
      expect(handshake(newer, { ...longer, knows: named }).slice(3)).toEqual(cut);
    });

    it('asks where the old primary alone committed it, also what it knows to be', () => {
      for (const commit of [40, 45]) {
        expect(handshake(newer, { ...longer, commit })).toContain('judged: ask');
        const knows = { rejoin: 'auto' } as const;
        expect(handshake(newer, { ...longer, commit, knows }).slice(3)).toEqual(cut);
      }
    });

    it('never cuts what a quorum committed', () => {
      const knows = { quorumLsn: 41, rejoin: 'auto' } as const;
      const story = handshake(newer, { ...longer, commit: 41, knows });
      expect(story.slice(2)).toEqual([
        ...['judged: never', 'standby refuses: WAL_DIVERGED', 'standby: WAL_DIVERGED, for good'],
      ]);
    });

    it('cuts an opening that is committed, and holds no record', () => {
      const history = [first, { ...again, ...at(40) }];
      const end = { position: at(41).position, lsn: 40 };
      const story = handshake(newer, { ...longer, history, end: 41, commit: 41, knows: { end } });
      expect(story).toEqual(['store 2.1', 'accept at 40', 'judged: follow', ...cut]);
    });
  });

  it('tells a committed record that is missing from an opening or a filler without one', () => {
    const end = { position: at(51).position, lsn: 50 };
    const onPosition = (commit: Place): string => {
      const term = { epoch: 1, opener: a, incarnation: 3 };
      const history = [first, opened(1, a, 3, 50)];
      const session = new PrimarySession(() => primaryView({ nodeId: a, history, end: 60 }), 1);
      const sender = { logId: log.logId, salt: log.salt, nodeId: c, term };
      session.onHello({ minVersion: 1, maxVersion: 1, name: 's', sender });
      const position = { end: { ...end, lsn: commit.lsn }, crc: 0, commit };
      const [refused] = session.onPosition({ ...position, history: [first, again] });
      return refused?.do === 'refuse' ? `${refused.refusal.code}: ${refused.refusal.message}` : '';
    };
    const record = /knows LSN 51 to be committed;/;
    const noRecord = /committed past LSN 50, up to a term's opening or a segment's end behind it;/;
    expect(onPosition({ ...end, lsn: 51 })).toMatch(record);
    expect(onPosition(end)).toMatch(noRecord);
  });

  it('fences an old primary that a standby of a newer epoch calls', () => {
    const story = handshake(
      { nodeId: a, history: [first], end: 50 },
      { nodeId: c, history: [first, promoted], end: 50 },
    );
    expect(story).toEqual([
      'primary refuses: WAL_FENCED',
      'standby: WAL_FENCED',
      'primary: fenced',
    ]);
  });

  it('fences a primary that was set back to an earlier state of its disk', () => {
    const story = handshake(
      { nodeId: a, history: [first], end: 50 },
      { nodeId: c, history: [first, again], end: 55 },
    );
    expect(story).toContain('primary: fenced');
  });

  it('names a split, and neither goes on', () => {
    const other = opened(2, c, 1, 40);
    const story = handshake(
      { nodeId: b, history: [first, promoted], end: 50 },
      { nodeId: c, history: [first, other], end: 50 },
    );
    expect(story).toEqual([
      'primary refuses: WAL_SPLIT',
      'standby: WAL_SPLIT, for good',
      'primary: split',
    ]);
  });

  it('fences an old primary by a standby that a candidate has fenced', () => {
    const story = handshake(
      { nodeId: a, history: [first], end: 50 },
      { nodeId: c, history: [first], end: 50, term: fenceTerm(2, b) },
    );
    expect(story).toEqual([
      'primary refuses: WAL_FENCED',
      'standby: WAL_FENCED',
      'primary: fenced',
    ]);
  });

  it('goes on with the candidate that has opened the epoch', () => {
    const story = handshake(
      { nodeId: b, history: [first, promoted], end: 50 },
      { nodeId: c, history: [first], end: 40, term: fenceTerm(2, b) },
    );
    expect(story).toEqual(['store 2.1', 'accept at 40', 'record', 'begin']);
  });

  it('takes nothing of another candidate of the epoch, and stops nobody', () => {
    const story = handshake(
      { nodeId: b, history: [first, promoted], end: 50 },
      { nodeId: c, history: [first], end: 40, term: fenceTerm(2, a) },
    );
    expect(story).toEqual(['standby refuses: WAL_FENCED', 'standby: WAL_FENCED']);
  });

  it('an epoch that a candidate has given up binds to it nobody that was fenced for it', () => {
    const primary = { nodeId: b, history: [first, promoted], end: 50 };
    const fenced = { nodeId: c, history: [first], end: 40, term: fenceTerm(2, a) };
    const knows = { isReleased: true };
    const follows = ['store 2.1', 'accept at 40', 'record', 'begin'];
    expect(handshake(primary, { ...fenced, knows })).toEqual(follows);
    // Nobody else of that epoch who has not opened it, and nothing older.
    const refuses = ['standby refuses: WAL_FENCED', 'standby: WAL_FENCED'];
    const asks = { ...primary, history: [first], term: fenceTerm(2, b) };
    expect(handshake(asks, { ...fenced, knows })).toEqual(refuses);
    const older = { ...primary, history: [first] };
    expect(handshake(older, { ...fenced, knows })).toContain('primary: fenced');
  });

  it('an epoch that a node wanted, and did not get, binds it to nobody', () => {
    const story = handshake(
      { nodeId: b, history: [first, promoted], end: 50 },
      { nodeId: c, history: [first], end: 40, term: fenceTerm(2, c) },
    );
    expect(story).toEqual(['store 2.1', 'accept at 40', 'record', 'begin']);
  });

  it('an epoch that was handed over binds to nobody, where a referee granted it to another', () => {
    const primary = { nodeId: b, history: [first, promoted], end: 50 };
    const old = { nodeId: a, history: [first], end: 40, term: fenceTerm(2, c) };
    const knows = { hasReferee: true };
    const follows = ['store 2.1', 'accept at 40', 'record', 'begin'];
    expect(handshake(primary, { ...old, knows })).toEqual(follows);
    // Without a referee the successor may open it yet; and a candidate counts whom it has fenced.
    const refuses = ['standby refuses: WAL_FENCED', 'standby: WAL_FENCED'];
    expect(handshake(primary, old)).toEqual(refuses);
    expect(handshake(primary, { ...old, nodeId: 'e'.repeat(32), knows })).toEqual(refuses);
    // Who has followed its opener takes nothing of a second one.
    const followed = { ...old, term: { ...promoted, opener: c }, knows };
    expect(handshake(primary, followed)).toContain('primary: split');
  });

  it('a standby that passes the log on and has less of it is no reason to stop', () => {
    const upstream = { nodeId: b, history: [first], end: 30, passesOn: true };
    const refused = ['store 1.1', 'primary refuses: WAL_PEER_REFUSED', 'standby: WAL_PEER_REFUSED'];
    expect(handshake(upstream, { nodeId: c, history: [first], end: 40 })).toEqual(refused);
    const told = { nodeId: c, history: [first], end: 20, commit: 40 };
    expect(handshake(upstream, told)).toEqual(refused);
    expect(handshake(upstream, { ...told, commit: 30 })).toContain('begin');
    // Nor is it to be followed while the opening of the newer term has not come to it.
    const behind = { ...upstream, term: promoted };
    const longer = { nodeId: c, history: [first], end: 45, commit: 40 };
    expect(handshake(behind, longer)).toEqual(['store 2.1', ...refused.slice(1)]);
  });

  it('refuses another checksum at the same position', () => {
    const story = handshake(
      { nodeId: a, history: [first], end: 50 },
      { nodeId: b, history: [first], end: 30, crc: 1 },
    );
    expect(story).toEqual([
      'store 1.1',
      'primary refuses: WAL_DIVERGED',
      'standby: WAL_DIVERGED, for good',
    ]);
  });

  it('refuses a standby that has more of the term than the primary that writes it', () => {
    const story = handshake(
      { nodeId: a, history: [first], end: 50 },
      { nodeId: b, history: [first], end: 51 },
    );
    expect(story).toContain('primary refuses: WAL_DIVERGED');
  });

  it('refuses what was trimmed', () => {
    const story = handshake(
      { nodeId: a, history: [first], end: 50, start: 20 },
      { nodeId: b, history: [first], end: 19 },
    );
    expect(story).toContain('primary refuses: WAL_LSN_GONE');
  });

  it('refuses another log, another layout, and itself', () => {
    const primary = { nodeId: a, history: [first], end: 50 };
    const standby = { nodeId: b, history: [first], end: 30 };
    const other = { logId: '3'.repeat(32) };
    expect(handshake(primary, { ...standby, log: other })).toContain(
      'primary refuses: WAL_NOT_A_LOG',
    );
    expect(handshake(primary, { ...standby, log: { segmentBytes: 131072 } })).toEqual([
      'standby: WAL_NOT_A_LOG, for good',
    ]);
    expect(handshake(primary, { ...standby, nodeId: a })).toContain(
      'primary refuses: WAL_PEER_REFUSED',
    );
  });

  it('refuses a standby of another protocol', () => {
    const session = new PrimarySession(
      () => primaryView({ nodeId: a, history: [first], end: 50 }),
      1,
    );
    const hello = { minVersion: 98, maxVersion: 99, name: 'x', sender: undefined };
    expect(session.onHello(hello)).toMatchObject([
      { do: 'refuse', refusal: { code: 'WAL_VERSION' } },
    ]);
  });
});

describe('a standby', () => {
  function accepted(accept: object): unknown[] {
    const session = new StandbySession(() =>
      standbyView({ nodeId: b, history: [first], end: 70, commit: 50 }),
    );
    const { identity } = primaryView({ nodeId: a, history: [first], end: 0 });
    session.onHello({ ...identity, version: 1, term: { epoch: 1, opener: a, incarnation: 2 } });
    session.stored();
    const actions = session.onAccept({
      session: 1,
      start: at(50).position,
      crc: 0,
      end: at(51),
      commit: at(0),
      history: [first, again],
      witnesses: [],
      rule,
      ...accept,
    });
    return actions[0]?.do === 'record' ? session.recorded() : actions;
  }

  it('cuts only where it finds the fork point itself', () => {
    expect(accepted({})).toMatchObject([{ do: 'cut', position: at(50).position }]);
    expect(accepted({ start: at(49).position })).toMatchObject([
      { do: 'fail', error: { code: 'WAL_PEER_INVALID' } },
    ]);
  });

  it('never cuts what it knows to be committed, whatever the primary says', () => {
    const history = [first, opened(1, a, 2, 45)];
    expect(accepted({ start: at(45).position, history })).toMatchObject([
      { do: 'refuse', refusal: { code: 'WAL_COMMITTED_LOST' } },
      { do: 'fail' },
    ]);
  });

  it('wants a history that ends with the term of the session', () => {
    expect(accepted({ history: [first] })).toMatchObject([{ do: 'fail' }]);
    expect(accepted({ history: [again, first] })).toMatchObject([{ do: 'fail' }]);
    expect(accepted({ history: [] })).toMatchObject([{ do: 'fail' }]);
  });
});
