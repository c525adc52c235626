/**
 * node-openflow against os-ken (Debian package python3-os-ken, the maintained Ryu) as a live oracle: generated messages
 * of every class it has, both ways. What os-ken cannot do is named in the tables below.
 */
import { join } from 'node:path';
import fc from 'fast-check';
import {
  decode,
  encode,
  fromJson,
  type Json,
  type MatchInput,
  OFPMatch,
  ofproto_v1_3,
  stringifyJson,
  toJson,
} from 'node-openflow';
import { messageArb, messageNames } from '../../openflow/test/arbitrary.ts';
import { Oracle, whyNoOracle } from '../../openflow/test/oracle/oracle.ts';

const why = whyNoOracle();
if (why !== undefined) console.warn(`skipped, because ${why}`);
const describeIf = why === undefined ? describe : describe.skip;
const RUNS = 100 * Number(process.env.FC_RUNS ?? 1);
jest.setTimeout(60_000);

const MESSAGE_NAMES = messageNames(4);
/** Classes os-ken reads: it has parsers for what a switch sends, and for flow-mod. */
const READS = new Set([
  ...MESSAGE_NAMES.filter((n) => /^OFP\w+StatsReply$/.test(n)),
  'OFPHello',
  'OFPErrorMsg',
  'OFPEchoRequest',
  'OFPEchoReply',
  'OFPExperimenter',
  'OFPSwitchFeatures',
  'OFPGetConfigReply',
  'OFPPacketIn',
  'OFPFlowRemoved',
  'OFPPortStatus',
  'OFPFlowMod',
  'OFPBarrierReply',
  'OFPQueueGetConfigReply',
  'OFPRoleReply',
  'OFPGetAsyncReply',
  'ONFBundleCtrlMsg',
]);
/** Classes os-ken writes: what a controller sends. */
const WRITES = new Set([
  ...MESSAGE_NAMES.filter((n) => /Request$/.test(n)),
  'OFPErrorMsg',
  'OFPEchoReply',
  'OFPExperimenter',
  'OFPSetConfig',
  'OFPPacketOut',
  'OFPFlowMod',
  'OFPGroupMod',
  'OFPPortMod',
  'OFPTableMod',
  'OFPMeterMod',
  'OFPSetAsync',
]);
const NEITHER = new Map([
  ['OFPUnknownMessage', 'a class of ours for what os-ken drops'],
  ['OFPMultipartRequestUnknown', 'a class of ours for what os-ken drops'],
  ['OFPMultipartReplyUnknown', 'a class of ours for what os-ken drops'],
  ['ONFBundleAddMsg', 'os-ken reads it as OFPExperimenter, and does not take its own JSON'],
  ['ONFFlowMonitorStatsReply', 'os-ken reads it as OFPExperimenterStatsReply'],
  ['ONFFlowMonitorCancel', 'os-ken reads it as OFPExperimenter'],
  ['ONFFlowMonitorPaused', 'os-ken reads it as OFPExperimenter'],
  ['ONFFlowMonitorResumed', 'os-ken reads it as OFPExperimenter'],
]);
const NOT_WRITTEN = new Map([
  [
    'OFPTableFeaturesStatsRequest',
    'os-ken fails on the name it has decoded from JSON, and writes 0 for the lengths of OXM ids',
  ],
]);

describeIf('os-ken', () => {
  let oracle: Oracle;
  beforeAll(() => {
    oracle = new Oracle(join(__dirname, '../../openflow/test/oracle/os_ken_oracle.py'));
  });
  afterAll(() => oracle.close());

  test('every class is covered or excused', () => {
    for (const n of MESSAGE_NAMES) expect([n, READS.has(n) || WRITES.has(n) || NEITHER.has(n)]).toEqual([n, true]);
  });

  test.each(MESSAGE_NAMES.filter((n) => READS.has(n)))('%s: it reads what we write, to the same JSON', async (cls) => {
    await fc.assert(
      fc.asyncProperty(messageArb(cls, { plain: true, version: 4 }), async (msg) => {
        const answer = await oracle.ask({ op: 'decode', hex: encode(msg).toString('hex') });
        expect(answer.error).toBeUndefined();
        expect(sorted(toJson(msg))).toEqual(sorted(answer.json as Json));
      }),
      { numRuns: RUNS },
    );
  });

  test.each(MESSAGE_NAMES.filter((n) => WRITES.has(n) && !NOT_WRITTEN.has(n)))(
    '%s: it writes the same bytes from our JSON, and its JSON reads here to the same bytes',
    async (cls) => {
      await fc.assert(
        fc.asyncProperty(messageArb(cls, { plain: true, version: 4 }), async (msg) => {
          const ours = encode(msg).toString('hex');
          const answer = await oracle.ask({ op: 'encode', json: toJson(msg), xid: msg.xid });
          expect(answer.error).toBeUndefined();
          expect(answer.hex).toBe(ours);
          expect(encode(fromJson(answer.json), msg.xid).toString('hex')).toBe(ours);
          expect(sorted(toJson(decode(Buffer.from(answer.hex as string, 'hex'))))).toEqual(sorted(answer.json as Json));
        }),
        { numRuns: RUNS },
      );
    },
  );

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
        const answer = await oracle.ask({ op: 'match', fields: given as Json });
        expect(answer.error).toBeUndefined();
        expect(sorted(toJson(OFPMatch(given as MatchInput)))).toEqual(sorted(answer.json as Json));
      }),
      { numRuns: 5 * RUNS },
    );
  });

  test('constants have its names and values', async () => {
    const { json } = await oracle.ask({ op: 'constants' });
    const theirs = json as Record<string, number>;
    for (const [name, value] of Object.entries(ofproto_v1_3)) expect([name, theirs[name]]).toEqual([name, value]);
    const missing = Object.keys(theirs).filter(
      (n) => /^(OFP|OXM|ONF)/.test(n) && !n.endsWith('_SIZE') && !(n in ofproto_v1_3),
    );
    expect(missing).toEqual([]);
  });
});

/** One text per JSON value, whatever the order of its keys and the type of its integers. */
function sorted(v: Json): string {
  const sort = (x: Json): Json => {
    if (Array.isArray(x)) return x.map(sort);
    if (typeof x !== 'object' || x === null) return x;
    return Object.fromEntries(
      Object.entries(x)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([k, e]) => [k, sort(e)]),
    );
  };
  return stringifyJson(sort(v), 1);
}
