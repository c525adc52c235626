/**
 * node-openflow against os-ken (Debian package python3-os-ken, the maintained Ryu) as a live oracle: generated messages
 * of every class it has, in every version, both ways. What os-ken cannot do is named in openflow/test/oracle/excuses.ts.
 */
import { join } from 'node:path';
import fc from 'fast-check';
import * as lib from '../../openflow/src/index.ts';
import { type Json, type MatchInput, OFPMatch, of10, toJson, VERSIONS } from '../../openflow/src/index.ts';
import { messageArb, messageNames } from '../../openflow/test/arbitrary.ts';
import {
  type Comparable,
  comparable,
  readsAlike,
  sorted,
  writesAlike,
} from '../../openflow/test/oracle/differential.ts';
import { EXCUSES } from '../../openflow/test/oracle/excuses.ts';
import { Oracle, whyNoOracle } from '../../openflow/test/oracle/oracle.ts';
import { gate } from './gate.ts';

const { suite, named } = gate(whyNoOracle());
const RUNS = 40 * Number(process.env.FC_RUNS ?? 1);
jest.setTimeout(300_000);

const CONSTANTS: Readonly<Record<number, Readonly<Record<string, number>> | undefined>> = {
  1: constantsOf('ofproto_v1_0'),
  3: constantsOf('ofproto_v1_2'),
  4: constantsOf('ofproto_v1_3'),
  5: constantsOf('ofproto_v1_4'),
  6: constantsOf('ofproto_v1_5'),
};
function constantsOf(name: string): Readonly<Record<string, number>> | undefined {
  return (lib as unknown as Record<string, Readonly<Record<string, number>> | undefined>)[name];
}

suite(named('os-ken'), () => {
  let oracle: Oracle;
  beforeAll(() => {
    oracle = new Oracle(join(__dirname, '../../openflow/test/oracle/os_ken_oracle.py'));
  });
  afterAll(() => oracle.close());

  describe.each(VERSIONS)('version %i', (version) => {
    let known: Comparable;
    beforeAll(async () => {
      known = await comparable(oracle, version);
    });

    test('every class is compared or excused, and none of its classes is missing', () => {
      expect(known.unexplained).toEqual([]);
      expect(known.missing).toEqual([]);
    });

    test.each(messageNames(version))('%s', async (cls) => {
      const compared = [known.reads.has(cls), known.writes.has(cls)];
      if (!compared.includes(true)) {
        const { reads, writes, neither } = EXCUSES[version];
        expect({ ...reads, ...writes, ...neither }).toHaveProperty(cls);
        return;
      }
      await fc.assert(
        fc.asyncProperty(messageArb(cls, { plain: true, version }), async (msg) => {
          if (known.reads.has(cls)) expect(await readsAlike(oracle, msg)).toBeUndefined();
          if (known.writes.has(cls)) expect(await writesAlike(oracle, msg)).toBeUndefined();
        }),
        { numRuns: RUNS, endOnFailure: true },
      );
    });

    test('constants have its names and values', async () => {
      const { json } = await oracle.ask({ op: 'constants', version });
      const theirs = json as Record<string, number>;
      const ours = CONSTANTS[version] ?? {};
      for (const [name, value] of Object.entries(ours)) expect([name, theirs[name]]).toEqual([name, value]);
      const missing = Object.keys(theirs).filter(
        (n) => /^(OFP|OXM|ONF)/.test(n) && !n.endsWith('_SIZE') && !(n in ours),
      );
      expect(missing).toEqual([]);
    });
  });

  test('matches of 1.0 get the same wildcards', async () => {
    const maybe = <T>(v: fc.Arbitrary<T>) => fc.option(v, { nil: undefined });
    const octets = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map((a) => a.join('.'));
    const mac = fc.constantFrom('AA:bb:CC:00:11:22', '00:00:00:00:00:00', 'ff:FF:ff:ff:ff:ff');
    const prefix = maybe(fc.integer({ min: 0, max: 32 }));
    const u8 = maybe(fc.nat(255));
    const u16 = maybe(fc.nat(65535));
    const fields = fc.record({
      in_port: u16,
      dl_src: maybe(mac),
      dl_dst: maybe(mac),
      dl_vlan: u16,
      dl_vlan_pcp: u8,
      dl_type: u16,
      nw_tos: u8,
      nw_proto: u8,
      nw_src: maybe(octets),
      nw_dst: maybe(octets),
      tp_src: u16,
      tp_dst: u16,
      nw_src_mask: prefix,
      nw_dst_mask: prefix,
    });
    const wildcards = fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, fc.nat(0xffffffff));
    await fc.assert(
      fc.asyncProperty(fields, wildcards, async (all, w) => {
        const given = Object.fromEntries(Object.entries({ ...all, wildcards: w }).filter(([, v]) => v !== undefined));
        const answer = await oracle.ask({ op: 'match', version: 1, fields: given as Json });
        expect(answer.error).toBeUndefined();
        expect(sorted(toJson(of10.OFPMatch(given), 1))).toEqual(sorted(answer.json as Json));
      }),
      { numRuns: 10 * RUNS },
    );
  });

  test('matches are normalised alike', async () => {
    const octet = fc.nat(255);
    const v4 = fc.tuple(octet, octet, octet, octet).map((a) => a.join('.'));
    const word = fc.constantFrom('0', '0', '0', '1', 'ab', 'ABCD', 'ffff');
    const v6 = fc.oneof(
      fc.array(word, { minLength: 8, maxLength: 8 }).map((a) => a.join(':')),
      fc.constantFrom('::', '::1', 'fe80::1', '::ffff:10.0.0.1', '::1.2.3.4', '1::', '2001:DB8:0:0:1::1'),
    );
    const mac = fc.constantFrom('AA:bb:CC:00:11:22', '00:00:00:00:00:00', 'ff:FF:ff:ff:ff:ff', '01:00:5e:00:00:fb');
    const or = <T>(v: fc.Arbitrary<T>, more: fc.Arbitrary<unknown>) => fc.oneof(v, fc.tuple(v, v), more);
    const none = fc.constant(undefined);
    const small = (bits: number) => fc.oneof(none, or(fc.nat(2 ** bits - 1), none));
    const fields = fc.record({
      in_port: small(31),
      metadata: or(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), none),
      eth_src: or(mac, none),
      vlan_vid: small(13),
      ipv4_src: or(
        v4,
        fc.tuple(v4, fc.integer({ min: 0, max: 32 })).map(([a, n]) => `${a}/${n}`),
      ),
      arp_tpa: fc.oneof(none, fc.constant('10.1.2.3/255.255.0.0')),
      ipv6_dst: or(
        v6,
        fc.tuple(v6, fc.integer({ min: 0, max: 128 })).map(([a, n]) => `${a}/${n}`),
      ),
      pbb_uca: small(1),
      tcp_flags: small(12),
      actset_output: small(31),
      reg3: small(31),
      tun_ipv4_src: fc.oneof(none, v4),
      nsh_spi: small(24),
      ct_label: or(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), none),
      xreg1: or(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), none),
    });
    await fc.assert(
      fc.asyncProperty(fields, async (all) => {
        const given = Object.fromEntries(Object.entries(all).filter(([, v]) => v !== undefined));
        const answer = await oracle.ask({ op: 'match', version: 4, fields: given as Json });
        expect(answer.error).toBeUndefined();
        expect(sorted(toJson(OFPMatch(given as MatchInput)))).toEqual(sorted(answer.json as Json));
      }),
      { numRuns: 10 * RUNS },
    );
  });
});
