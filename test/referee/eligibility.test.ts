import { describe, expect, it } from 'vitest';
import type { Rule } from '../../src/native/native_log.js';
import { refusalOf } from '../../src/referee/eligibility.js';
import type { Claim, GroupView } from '../../src/referee/referee.js';
import { asyncRule, claimOf, logId, nodeId, syncRule } from './claims.js';

const leader = { logId, epoch: 3, nodeId: nodeId('a'), name: 'a' };
const pause = { by: 'me', reason: 'why', at: 0 };

function left(rule: Rule, more: GroupView = {}): GroupView {
  return { leader, rule: { epoch: 3, number: 1, primary: nodeId('a'), rule }, ...more };
}

const promotion = (name: string, part: Partial<Claim> = {}) =>
  claimOf(name, { kind: 'promotion', ...part });
const forced = claimOf('c', { kind: 'forced' });
const progress = { epoch: 3, number: 1, lsn: 100 };
const reserved = { nodeId: nodeId('b'), reserved: true };
const held = { nodeId: nodeId('a'), reserved: false, place: claimOf('a').place };
const elsewhere = claimOf('a', { place: 'where a copy is' });
const nowhere = claimOf('a', { place: undefined });

describe('who may be granted the group', () => {
  it.each<[string, Claim, GroupView, string | undefined]>([
    ['the first primary of all', claimOf('a'), {}, undefined],
    ['a standby, of a group that has not begun', promotion('b'), {}, 'nothing_known'],
    [
      'the first primary, which had not got as far as its rule',
      claimOf('a'),
      { leader },
      undefined,
    ],
    ['another one then', claimOf('b'), { leader }, 'nothing_known'],
    ['a standby then', promotion('b'), { leader }, 'nothing_known'],
    ['one of another log', claimOf('a', { logId: '2'.repeat(32) }), { leader }, 'another_log'],

    ['a member of the synchronous set', promotion('b'), left(syncRule('b')), undefined],
    ['a standby that is none', promotion('c'), left(syncRule('b')), 'not_a_member'],
    ['an old primary that is none', claimOf('c'), left(syncRule('b')), 'not_a_member'],
    ['the last primary', claimOf('a'), left(syncRule('b')), undefined],
    ['the last primary, as a standby since', promotion('a'), left(syncRule('b')), undefined],
    [
      'a member, where the primary went on alone',
      promotion('b'),
      left({ ...syncRule('b'), degraded: true }),
      'degraded',
    ],
    [
      'the last primary, where it went on alone',
      claimOf('a'),
      left({ ...syncRule('b'), degraded: true }),
      undefined,
    ],

    [
      'async: one that has all',
      promotion('b', { lsn: 100 }),
      left(asyncRule, { progress }),
      undefined,
    ],
    [
      'async: one that lacks one',
      promotion('b', { lsn: 99 }),
      left(asyncRule, { progress }),
      'lagging',
    ],
    [
      'async: one within the lag',
      promotion('b', { lsn: 90, maximumLag: 10 }),
      left(asyncRule, { progress }),
      undefined,
    ],
    [
      'async: one outside of it',
      promotion('b', { lsn: 89, maximumLag: 10 }),
      left(asyncRule, { progress }),
      'lagging',
    ],
    ['async: nobody told how far it is', promotion('b'), left(asyncRule), 'nothing_known'],
    [
      'async: one that has more, of a history that came to nothing',
      promotion('b', { lsn: 200, lastEpoch: 2, maximumLag: 10 }),
      left(asyncRule, { progress }),
      'lagging',
    ],
    [
      'async: that was told before commits ceased to wait for standbys',
      promotion('b', { lsn: 100 }),
      left(asyncRule, { progress: { ...progress, number: 0 } }),
      'nothing_known',
    ],
    [
      'async: that is of an earlier primary',
      promotion('b', { lsn: 100 }),
      left(asyncRule, { progress: { ...progress, epoch: 2 } }),
      'nothing_known',
    ],

    ['while another holds it', promotion('b'), left(syncRule('b'), { holder: held }), 'held'],
    [
      'while its own last life holds it, whose directory is locked by now',
      claimOf('a'),
      left(syncRule('b'), { holder: held }),
      undefined,
    ],
    [
      'while a process holds it that has a copy of its directory',
      elsewhere,
      left(syncRule('b'), { holder: held }),
      'held',
    ],
    [
      'the same, where no place is known',
      nowhere,
      left(syncRule('b'), { holder: { ...held, place: undefined } }),
      'held',
    ],
    [
      'its own last life, for a promotion',
      promotion('a'),
      left(syncRule('b'), { holder: held }),
      'held',
    ],
    [
      'the last primary, whose directory holds its epoch',
      claimOf('a', { storedEpoch: 3 }),
      left(syncRule('b')),
      undefined,
    ],
    [
      'the last primary, with a directory that is older',
      claimOf('a', { storedEpoch: 2, epoch: 3 }),
      left(syncRule('b')),
      'older_copy',
    ],
    [
      'the same as a standby',
      promotion('a', { storedEpoch: 2, epoch: 3 }),
      left(syncRule('b')),
      'older_copy',
    ],
    [
      'a member, with a directory from before it was one',
      claimOf('b', { storedEpoch: 2, epoch: 3 }),
      left(syncRule('b')),
      'older_copy',
    ],
    [
      'the same as a standby',
      promotion('b', { storedEpoch: 2, epoch: 3 }),
      left(syncRule('b')),
      'older_copy',
    ],
    ['a member that holds it', promotion('b', { storedEpoch: 3 }), left(syncRule('b')), undefined],
    ['kept for it', promotion('b'), left(syncRule('b'), { holder: reserved }), undefined],
    ['kept for another', promotion('c'), left(syncRule('c'), { holder: reserved }), 'held'],
    [
      'kept for it, though it is no member',
      promotion('b'),
      left(syncRule('c'), { holder: reserved }),
      'not_a_member',
    ],

    ['a standby, paused', promotion('b'), left(syncRule('b'), { pause }), 'paused'],
    [
      'an old primary that is a member, paused',
      claimOf('b'),
      left(syncRule('b'), { pause }),
      'paused',
    ],
    ['the last primary, paused', claimOf('a'), left(syncRule('b'), { pause }), undefined],
    ['force, not paused', forced, left(syncRule('b')), 'not_paused'],
    ['force, paused', forced, left(syncRule('b'), { pause }), undefined],
    ['force, paused, held', forced, left(syncRule('b'), { pause, holder: held }), 'held'],
    [
      'force, paused, degraded',
      forced,
      left({ ...syncRule(), degraded: true }, { pause }),
      undefined,
    ],
  ])('%s', (_, claim, view, reason) => {
    expect(refusalOf(claim, view)?.reason).toBe(reason);
  });
});
