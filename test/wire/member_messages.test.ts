import { describe, expect, it } from 'vitest';
import {
  decodeGrant,
  decodeMemberRequest,
  decodeStanding,
  encodeGrant,
  encodeMemberRequest,
  encodeStanding,
  type MemberRequest,
  type MemberStanding,
} from '../../src/wire/member_messages.js';
import { MessageType, maxMessageBytes } from '../../src/wire/message_type.js';

const id = (digit: string): string => digit.repeat(32);
const term = { epoch: 3, opener: id('a'), incarnation: 2 };
const sender = { logId: id('1'), salt: '2'.repeat(16), nodeId: id('3') };

const standing: MemberStanding = {
  version: 2,
  logId: id('1'),
  salt: '2'.repeat(16),
  nodeId: id('3'),
  name: 'b',
  role: 'fenced',
  term,
  last: { ...term, epoch: 2 },
  end: { position: 8192, lsn: 7 },
  commit: { position: 9000, lsn: 8 },
  rule: {
    synchronousCommit: 'remote_flush',
    synchronousStandbys: 'ANY 1 (*)',
    members: [id('3'), id('4')],
    degraded: true,
  },
  primary: 'a',
  primaryAddress: '127.0.0.1:7401',
  connected: true,
  isCandidate: true,
  isRuleCurrent: true,
  hasReferee: true,
};

describe('what members say to each other', () => {
  it('comes back as it was said', () => {
    const survey = { minVersion: 1, maxVersion: 2, name: 'c', sender, epoch: 0 };
    const cases: MemberRequest[] = [
      survey,
      { ...survey, sender: undefined },
      { ...survey, epoch: 9 },
    ];
    for (const request of cases) {
      const bytes = encodeMemberRequest(request);
      expect(decodeMemberRequest(bytes[4]!, bytes, 0, bytes.length)).toEqual(request);
    }
    const bare = { rule: null, isRuleCurrent: false, last: undefined, connected: false };
    for (const one of [standing, { ...standing, ...bare }]) {
      const bytes = encodeStanding(one);
      expect(bytes[4]).toBe(MessageType.STANDING);
      expect(decodeStanding(bytes, 0, bytes.length)).toEqual(one);
    }
  });

  it('a grant holds the longest history, and the longest rule', () => {
    const names = Array.from({ length: 200 }, (_, i) => `node_${i}`);
    const longest: MemberStanding['rule'] = {
      ...standing.rule!,
      synchronousStandbys: `ANY 1 (${names.join(', ')})`,
      members: Array.from({ length: 64 }, (_, i) => i.toString(16).padStart(32, '0')),
    };
    const history = Array.from({ length: 256 }, (_, i) => ({
      ...{ epoch: i + 1, opener: id('a'), incarnation: 1 },
      ...{ position: 4096 + i * 512, lsn: i },
    }));
    const { nodeId, name, term, commit } = standing;
    const end = { position: 200_000, lsn: 300 };
    const grant = {
      ...{ version: 2, nodeId, name, term, history, end, crc: 0xffff_ffff, commit },
      ...{ before: { ...term, epoch: 1 }, rule: longest, isRuleCurrent: true },
    };
    const bytes = encodeGrant(grant);
    expect(bytes.length).toBeLessThan(maxMessageBytes);
    expect(decodeGrant(bytes, 0, bytes.length)).toEqual(grant);
  });

  it('is refused where it is short, long or not this', () => {
    const bytes = encodeStanding(standing);
    for (let end = 5; end < bytes.length; end += 1) {
      expect(() => decodeStanding(bytes, 0, end)).toThrow();
    }
    expect(() => decodeStanding(Uint8Array.of(...bytes, 0), 0, bytes.length + 1)).toThrow(/longer/);
    const fence = encodeMemberRequest({
      minVersion: 1,
      maxVersion: 2,
      name: 'c',
      sender,
      epoch: 9,
    });
    // A survey of an epoch, and a fence for nobody.
    expect(() => decodeMemberRequest(MessageType.SURVEY, fence, 0, fence.length)).toThrow(/nobody/);
    fence[13] = 1;
    expect(() => decodeMemberRequest(MessageType.FENCE, fence, 0, fence.length)).toThrow(/nobody/);
  });
});
