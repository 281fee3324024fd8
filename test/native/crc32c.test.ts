import { describe, expect, it } from 'vitest';
import { crc32c } from '../format/crc32c.js';
import { binding, payload } from './native.js';

describe('the native crc32c', () => {
  const bytes = payload(1, 20_000);

  it('has a table implementation behind whatever the processor offers', () => {
    expect(binding.crc32cImplementations().at(-1)).toBe('table');
  });

  it.each(binding.crc32cImplementations())('%s agrees with crc-32 at every length', (name) => {
    for (let length = 0; length < 700; length++) {
      for (const offset of [0, 1, 3, 4, 7]) {
        const part = bytes.subarray(offset, offset + length);
        expect(binding.crc32cWith(name, part)).toBe(crc32c(part));
      }
    }
    for (let length = 3000; length <= bytes.length; length += 211) {
      const part = bytes.subarray(length % 8, length);
      expect(binding.crc32cWith(name, part)).toBe(crc32c(part));
    }
  });

  it('goes on from the crc of the bytes before', () => {
    for (let cut = 0; cut < bytes.length; cut += 501) {
      const before = binding.crc32c(bytes.subarray(0, cut));
      expect(binding.crc32c(bytes.subarray(cut), before)).toBe(crc32c(bytes));
    }
  });
});
