/** What contradicts itself and what a hypervisor lacks is refused with a reason; what both ends set is the same. */
import {
  COPY_METHODS,
  capabilitiesFor,
  checkOrder,
  optionParameters,
  qemuAbilities,
} from '../../../agent/core/techniques.ts';
import { copyOptionsSchema } from '../../../contracts/agent.ts';
import { FairwayError } from '../../../contracts/common.ts';
import type { CopyOrder } from '../../../contracts/copyOrder.ts';

const ALL = ['postcopy-ram', 'auto-converge', 'xbzrle', 'multifd', 'pause-before-switchover'];
const qemu = (version: [number, number, number] = [10, 0, 2], without: string[] = []) =>
  qemuAbilities(version, new Set(ALL.filter((c) => !without.includes(c))), ['none', 'zlib', 'zstd']);

function refusal(order: CopyOrder, abilities = qemu()): string | undefined {
  try {
    checkOrder(order, abilities, 'h1');
    return undefined;
  } catch (error) {
    if (!(error instanceof FairwayError)) throw error;
    expect(error.labels).toEqual(['badInput']);
    return `${error.code}: ${error.message}`;
  }
}
const zstd = { multifd: { channels: 4, compression: 'zstd' as const } };

describe('orders', () => {
  test.each(COPY_METHODS.map((m) => [m.name, m] as const))('%s can be done by QEMU 10', (_name, method) => {
    expect(refusal(method)).toBeUndefined();
    expect(copyOptionsSchema.parse(method.options)).toEqual(method.options);
  });

  test.each<[string, CopyOrder, RegExp]>([
    [
      'post-copy with multifd',
      { technique: 'post-copy', options: zstd },
      /^technique-conflict: post-copy .* QEMU 10\.1/,
    ],
    ['hybrid with multifd', { technique: 'hybrid', options: zstd }, /^technique-conflict: hybrid .* QEMU 10\.1/],
    [
      'a pre-copy that may turn, with multifd',
      { technique: 'pre-copy', mayTurnPostcopy: true, options: zstd },
      /^technique-conflict: a pre-copy that may turn post-copy/,
    ],
    [
      'XBZRLE with multifd',
      { technique: 'pre-copy', options: { xbzrle: true, ...zstd } },
      /^technique-conflict: XBZRLE/,
    ],
    ['post-copy with XBZRLE', { technique: 'post-copy', options: { xbzrle: true } }, /XBZRLE works between passes/],
    [
      'post-copy with auto-converge',
      { technique: 'post-copy', options: { autoConverge: true } },
      /auto-converge works between/,
    ],
    [
      'stop-and-copy with auto-converge',
      { technique: 'stop-and-copy', options: { autoConverge: true } },
      /a running guest/,
    ],
    ['stop-and-copy that may turn', { technique: 'stop-and-copy', mayTurnPostcopy: true }, /cannot turn/],
    ['a cache without XBZRLE', { technique: 'pre-copy', options: { xbzrleCacheMiB: 64 } }, /without XBZRLE/],
  ])('%s is refused', (_name, order, why) => {
    expect(refusal(order)).toMatch(why);
  });

  test('QEMU 10.1 does multifd with post-copy', () => {
    expect(refusal({ technique: 'hybrid', options: zstd }, qemu([10, 1, 0]))).toBeUndefined();
  });

  test('what a hypervisor lacks is named, and so is the host', () => {
    const lacks = (order: CopyOrder, ...without: string[]) => refusal(order, qemu([8, 2, 0], without));
    expect(lacks({ technique: 'post-copy' }, 'postcopy-ram')).toBe(
      'technique-unsupported: QEMU 8.2.0 on h1: it cannot do post-copy',
    );
    expect(lacks({ technique: 'pre-copy', mayTurnPostcopy: true }, 'postcopy-ram')).toMatch(/cannot do post-copy/);
    expect(lacks({ technique: 'pre-copy', options: { autoConverge: true } }, 'auto-converge')).toMatch(
      /no auto-converge/,
    );
    expect(lacks({ technique: 'pre-copy', options: { xbzrle: true } }, 'xbzrle')).toMatch(/no XBZRLE/);
    expect(lacks({ technique: 'pre-copy', options: zstd }, 'multifd')).toMatch(/no multifd/);
    const plain = qemuAbilities([10, 0, 0], new Set(ALL), ['none', 'zlib']);
    expect(refusal({ technique: 'pre-copy', options: zstd }, plain)).toMatch(/none, zlib only, not with zstd/);
  });
});

test('options become capabilities and parameters, and those of an earlier copy are taken back', () => {
  expect(capabilitiesFor({ technique: 'hybrid', options: { xbzrle: true } })).toMatchObject({
    'postcopy-ram': true,
    'postcopy-preempt': true,
    xbzrle: true,
    multifd: false,
    'auto-converge': false,
  });
  expect(optionParameters({ technique: 'pre-copy', options: zstd })).toEqual({
    'multifd-channels': 4,
    'multifd-compression': 'zstd',
  });
  expect(optionParameters({ technique: 'pre-copy' })).toMatchObject({ 'multifd-compression': 'none' });
  expect(optionParameters({ technique: 'pre-copy', options: { xbzrle: true, xbzrleCacheMiB: 32 } })).toMatchObject({
    'xbzrle-cache-size': 32 * 1024 * 1024,
  });
  expect(copyOptionsSchema.safeParse({ xbzrle: true, xbzrleCacheMiB: 48 }).success).toBe(false);
});
