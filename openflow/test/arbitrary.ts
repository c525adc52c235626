/**
 * fast-check generators of OpenFlow objects, made by walking the same declarations the codec is compiled from: every
 * class is generated without a line of its own here. Used by the property tests and by the differential tests against
 * other implementations, which ask for `plain` objects: those every implementation should know.
 */
import fc from 'fast-check';
import { compiledOf, VERSIONS } from '../src/codec.ts';
import type { Make } from '../src/compile.ts';
import { holds, typesOf, unknownOf } from '../src/layout.ts';
import { type MatchInput, OFPMatch } from '../src/match.ts';
import { MESSAGES, type OfMessage } from '../src/messages.ts';
import { OXM_FIELDS, type OxmKind, type OxmName } from '../src/oxmFields.ts';
import { oxmByName } from '../src/oxmRows.ts';
import { OFPStats, OXS_FIELDS, type OxsName, type StatsInput } from '../src/oxs.ts';
import type { AnyFamily, AnyStruct, Kind, Version } from '../src/schema.ts';

export interface Options {
  /** Only what Ryu knows as well. */
  readonly plain: boolean;
  /** Version of the objects, by its number on the wire. */
  readonly version: Version;
  /** The family what is generated is a member of, and how many of its members are around it. */
  readonly inside?: { readonly family: AnyFamily; readonly depth: number };
}

type Arb<T = unknown> = fc.Arbitrary<T>;

const text = (max: number): Arb<string> =>
  fc.string({ unit: fc.constantFrom(...'abcXYZ019 -_.'.split('')), maxLength: max });
const buffer = (lengths: readonly number[]): Arb<Buffer> =>
  fc.constantFrom(...lengths).chain((n) => fc.uint8Array({ minLength: n, maxLength: n }).map((a) => Buffer.from(a)));
const edge = (max: number): Arb<number> => fc.oneof(fc.constantFrom(0, 1, max), fc.integer({ min: 0, max }));
const big = (bits: number): Arb<bigint> => {
  const max = (1n << BigInt(bits)) - 1n;
  return fc.oneof(fc.constantFrom(0n, 1n, max, max < 1n << 53n ? max : 1n << 53n), fc.bigInt({ min: 0n, max }));
};
const hex = (n: number): Arb<string> => edge(n === 2 ? 255 : 65535).map((v) => v.toString(16).padStart(n, '0'));
const macs = fc.array(hex(2), { minLength: 6, maxLength: 6 }).map((a) => a.join(':'));
const ipv4s = fc.array(edge(255), { minLength: 4, maxLength: 4 }).map((a) => a.join('.'));
const ipv6s = fc
  .array(fc.oneof({ weight: 2, arbitrary: fc.constant('0') }, hex(4)), { minLength: 8, maxLength: 8 })
  .map((a) => a.join(':'));

const base64 = (max: number): Arb<string> =>
  fc.uint8Array({ minLength: 1, maxLength: max }).map((a) => Buffer.from(a).toString('base64'));

function valueArb(kind: OxmKind): Arb {
  switch (kind) {
    case 'u8':
      return edge(255);
    case 'u16':
      return edge(65535);
    case 'u24':
      return edge(0xffffff);
    case 'u32':
      return edge(0xffffffff);
    case 'u64':
      return big(64);
    case 'u128':
      return big(128);
    case 'mac':
      return macs;
    case 'ipv4':
      return ipv4s;
    case 'ipv6':
      return ipv6s;
    case 'time':
      return fc.tuple(edge(0xffffffff), edge(0xffffffff));
    case 'raw':
      return base64(124);
  }
}

const namesIn = (version: Version): OxmName[] =>
  (Object.keys(OXM_FIELDS) as OxmName[]).filter((n) =>
    [OXM_FIELDS[n], ...OXM_FIELDS[n].others].some((r) => r.versions.includes(version)),
  );
/** Fields as they stand in headers; `long` ones belong to experimenters. */
function headers(o: Options, long: boolean): Arb<string> {
  const names = namesIn(o.version).filter((n) => {
    const { experimenter, unnamed } = OXM_FIELDS[n];
    // behind long headers it writes no padding
    return ((long && !o.plain) || experimenter === undefined) && !(o.plain && unnamed.includes(o.version));
  });
  // Ryu has no lengths of fields it has no names for, and refuses to read a length of 0
  if (o.plain) return fc.constantFrom<string>(...names);
  const unknown = unknownType.map((t) => `field_${t}`);
  return fc.oneof({ weight: 9, arbitrary: fc.constantFrom<string>(...names) }, unknown);
}
// classes nobody gave a meaning: 0x0002 and 0x8004
const unknownType = fc.tuple(fc.constantFrom(2, 0x8004), edge(127)).map(([c, n]) => c * 128 + n);
const strangeExperimenter = fc.constantFrom(0, 0x1234, 0xdeadbeef);

function oxmEntry(o: Options): Arb<[string, unknown]> {
  // Ryu fails on numbers of experimenters' fields it has no names for
  const names = namesIn(o.version).filter((n) => {
    const { experimenter, unnamed } = OXM_FIELDS[n];
    return !o.plain || experimenter === undefined || !unnamed.includes(o.version);
  });
  const known = fc.constantFrom(...names).chain((n): Arb<[string, unknown]> => {
    const v = valueArb(OXM_FIELDS[n].kind);
    const masked = OXM_FIELDS[n].kind === 'raw' ? base64(60).map((b) => [b, b]) : fc.tuple(v, v);
    return fc.oneof({ weight: 2, arbitrary: v }, masked).map((x) => [n, x]);
  });
  const unknown = fc
    .tuple(unknownType, base64(20))
    .chain(
      ([t, v]): Arb<[string, unknown]> => fc.constantFrom<[string, unknown]>([`field_${t}`, v], [`field_${t}`, [v, v]]),
    );
  const experimenter = fc
    .tuple(edge(127), strangeExperimenter, base64(20))
    .map(([n, e, v]): [string, unknown] => [`field_${0xffff * 128 + n}_${e}`, v]);
  return o.plain
    ? fc.oneof({ weight: 9, arbitrary: known }, unknown)
    : fc.oneof({ weight: 8, arbitrary: known }, unknown, experimenter);
}

const matches = (o: Options): Arb<OFPMatch> =>
  fc
    .array(oxmEntry(o), { maxLength: 6 })
    .map((entries) => OFPMatch(Object.fromEntries(entries) as MatchInput, o.version));

function statsEntry(o: Options): Arb<[string, unknown]> {
  const known = fc
    .constantFrom(...(Object.keys(OXS_FIELDS) as OxsName[]))
    .chain((n): Arb<[string, unknown]> => valueArb(OXS_FIELDS[n].kind).map((v) => [n, v]));
  const unknown = fc.tuple(unknownType, base64(20)).map(([t, v]): [string, unknown] => [`field_${t}`, v]);
  const experimenter = fc
    .tuple(edge(127), strangeExperimenter, base64(20))
    .map(([n, e, v]): [string, unknown] => [`field_${0xffff * 128 + n}_${e}`, v]);
  return o.plain ? fc.oneof(known, unknown) : fc.oneof(known, unknown, experimenter);
}
const someStats = (o: Options): Arb<OFPStats> =>
  fc.array(statsEntry(o), { maxLength: 4 }).map((entries) => OFPStats(Object.fromEntries(entries) as StatsInput));

/** Messages that hold others. */
const HOLDERS = ['OFPBundleAddMsg', 'ONFBundleAddMsg', 'OFPRequestForward'];

/** What may stand inside the message `holder`. */
function innerArb(holder: string, o: Options): Arb {
  const names = o.plain
    ? holder === 'OFPRequestForward'
      ? ['OFPGroupMod', 'OFPMeterMod']
      : ['OFPFlowMod', 'OFPGroupMod', 'OFPPortMod']
    : messageNames(o.version).filter((n) => !HOLDERS.includes(n));
  return fc.constantFrom(...names).chain((n) => messageArb(n, o));
}

/** Lengths a raw field may have so that what is read is what was written. */
function rawLengths(s: AnyStruct, o: Options): number[] {
  // Ryu takes every experimenter body for one of 16 bytes
  if (o.plain && s.cls === 'OFPExperimenterMultipart') return [0, 1, 7, 8];
  // Ryu wants the vendor's number in front
  if (o.plain && s.cls === 'OFPVendorStats') return [4, 5, 8, 30];
  if (s.cls === 'OFPInstructionId' || s.cls === 'OFPActionId') return [0, 4];
  if (s.cls === 'OFPQueuePropUnknown') return [4, 12];
  if (s.cls === 'OFPFlowUpdateUnknown' || s.cls === 'ONFFlowUpdateUnknown') return [0, 4, 12];
  if (s.cls === 'NXActionUnknown') return [6, 14];
  // Ryu fails on numbers that are cut short
  if (o.plain && /^NXTPacketIn2Prop(FullLen|BufferId|TableId|Reason)$/.test(s.cls)) return [4];
  if (o.plain && s.cls === 'NXTPacketIn2PropCookie') return [12];
  if (s.options.padTo8 === 'inside') return 'type' in s.fields ? [4, 12, 20] : [0, 8, 16];
  return [0, 1, 7, 8, 30];
}

/** Type numbers of a class by which os-ken knows it. */
function knownTypes(s: AnyStruct, o: Options): (type: number) => boolean {
  if (!o.plain) return () => true;
  switch (s.cls) {
    // it takes what came with 1.5 for unknown
    case 'OFPAsyncConfigPropReasons':
      return (type) => type < 12;
    // it refuses updates but those of the event it registers last: initial and paused
    case 'OFPFlowUpdateFull':
      return (type) => type === 0;
    case 'OFPFlowUpdatePaused':
      return (type) => type === 5;
    default:
      return () => true;
  }
}

const oddly = (words: readonly number[]): number[] => (words.length % 2 === 1 ? [...words] : [...words, 7]);

/** os-ken 1.5 takes the elements behind the first for properties of the first. */
const ONE_AT_MOST = ['OFPBucket', 'OFPGroupDescStats', 'OFPControllerStatusStats'];

/** How many structures of a class a list may have. */
function listLength(cls: string, o: Options): { minLength?: number; maxLength: number } {
  // Ryu reads one, which is all there should be
  if (o.plain && cls === 'OFPAggregateStats') return { minLength: 1, maxLength: 1 };
  // a switch has one set of meter features; where one ends cannot be told when its last field may be missing
  const one = (o.plain && ONE_AT_MOST.includes(cls)) || cls === 'OFPMeterFeaturesStats';
  return { maxLength: o.version === 6 && one ? 1 : 3 };
}
const numbers = (size: 1 | 2 | 4, minLength: number, maxLength: number): Arb<number[]> =>
  fc.array(edge(2 ** (8 * size) - 1), { minLength, maxLength });

function fieldArb(s: AnyStruct, name: string, kind: Kind, o: Options): Arb | undefined {
  switch (kind.t) {
    case 'uint':
      if (name === 'type' || name === 'property' || name === 'event') {
        if (s.options.types !== undefined) return fc.constantFrom(...typesOf(s, o.version).filter(knownTypes(s, o)));
        if (s.cls.endsWith('Unknown')) return fc.constantFrom(200, 1000);
      }
      if (name === 'experimenter' || name === 'vendor') return strangeExperimenter;
      if (name === 'subtype') return fc.constantFrom(0, 200, 65535);
      if (name === 'new_pkt_type') return fc.constantFrom(2, 0x00018847, 0xffffffff);
      return edge(2 ** (8 * kind.size) - 1);
    case 'u64':
      return big(64);
    case 'mac':
      return macs;
    case 'ipv4':
      return ipv4s;
    case 'str':
      if (o.plain) return text(kind.size);
      // any bytes that do not end in NUL, and some that are UTF-8 beyond ASCII
      return fc.oneof(
        text(kind.size),
        text(6).map((t) => `${t}é中😀\udcff`),
      );
    case 'match':
      return matches(o);
    case 'bytes':
      return buffer(rawLengths(s, o));
    case 'struct':
      return structArb(kind.of, o);
    case 'list': {
      const { key } = kind;
      const length = listLength(kind.of.cls, o);
      if (key === undefined) return fc.array(structArb(kind.of, o), length);
      // JSON shows them as an object by this number: in its order, and each once
      const number = (e: unknown) => (e as Record<string, number>)[key] as number;
      return fc
        .uniqueArray(structArb(kind.of, o), { maxLength: 3, selector: number })
        .map((a) => a.sort((x, y) => number(x) - number(y)));
    }
    case 'family': {
      if (kind.of === undefined && (o.inside === undefined || o.inside.depth >= 2)) return fc.constant([]);
      const members = membersOf((kind.of ?? o.inside?.family) as AnyFamily, o);
      const maxLength = kind.of === undefined ? 2 : 4;
      return members.length === 0 ? fc.constant([]) : fc.array(fc.oneof(...members), { maxLength });
    }
    case 'either': {
      const length = kind.count === undefined ? { maxLength: 3 } : { minLength: kind.count, maxLength: kind.count };
      return fc.array(fc.oneof(...kind.of.map((m) => structArb(m, o))), length);
    }
    case 'stats':
      return someStats(o);
    case 'oxms':
      return fc.array(oxmEntry(o), { maxLength: 3 }).map((a) => a.map(([field, value]) => ({ field, value })));
    case 'tail':
      return o.plain ? edge(0xffffffff) : fc.oneof(edge(0xffffffff), fc.constant(null));
    case 'headed':
      return o.plain ? undefined : fc.boolean();
    case 'text':
      return text(40);
    case 'message':
      return innerArb(s.cls, o);
    case 'oxmHeader': {
      const any = headers(o, kind.size === undefined);
      return kind.none ? fc.oneof(any, fc.constant('')) : any;
    }
    case 'uints': {
      // os-ken goes on behind the end of a reply whose properties it did not pad
      if (o.plain && s.cls === 'OFPBundleFeaturesPropExperimenter') return fc.array(edge(0xffffffff)).map(oddly);
      // padded with zeros, which are read as part of it
      if (s.cls === 'NXActionNote') return fc.constantFrom(6, 14).chain((n) => numbers(1, n, n));
      return numbers(kind.size, kind.count ?? 0, kind.count ?? 5);
    }
    case 'bitmap':
      // Ryu never reads bit 31 of a word, and loops for ever over the padding behind an even number of words
      return fc
        .uniqueArray(edge(o.plain ? 30 : 255), { minLength: 1, maxLength: 5 })
        .map((a) => a.sort((x, y) => x - y));
    default:
      return undefined;
  }
}

/** Nicira's actions that Ryu writes in 1.0 from its own JSON: it made them for 1.0. The others are of no use there. */
const NX_OF_10 = [
  'NXActionSetQueue',
  'NXActionDecTtl',
  'NXActionPushMpls',
  'NXActionPopMpls',
  'NXActionSetMplsTtl',
  'NXActionDecMplsTtl',
  'NXActionSetMplsLabel',
  'NXActionSetMplsTc',
  'NXActionDecNshTtl',
  'NXActionController2',
];
/** Those that it does not write rightly in any version. It reads them, which openflow-os-ken-nicira.test.ts compares. */
const NX_NOT_WRITTEN = [
  // not made from its own JSON
  'NXActionBundle',
  'NXActionBundleLoad',
  // without padding behind them
  'NXActionStackPush',
  'NXActionStackPop',
  'NXActionLearn',
  'NXActionNAT',
  // has no JSON for numbers, and another one for masks before and after it wrote one
  'NXActionRegLoad2',
  // reads all three as one of no contents
  'NXActionEncapEther',
  'NXActionEncapNsh',
  'NXActionEncap',
];
/** Whether Ryu reads and writes an action of Nicira's. In 1.2 it drops them all. */
function isRyusNicira(cls: string, version: Version): boolean {
  if (version === 1) return NX_OF_10.includes(cls);
  return version !== 3 && !NX_OF_10.slice(0, -1).includes(cls) && !NX_NOT_WRITTEN.includes(cls);
}

/** Members of families that Ryu fails on, and in which versions. */
const NOT_RYUS: Readonly<Record<string, readonly Version[]>> = {
  OFPInstructionExperimenter: VERSIONS,
  // it takes the padding, and what follows, for more identifiers
  OFPActionCopyField: VERSIONS,
  OFPQueuePropExperimenter: [3],
};

/** Families of properties that stand in messages which os-ken only reads. */
const READ_ONLY = [
  'portDescProperty',
  'portStatsProperty',
  'queueDescProperty',
  'queueStatsProperty',
  'roleProperty',
  'controllerStatusProperty',
];

function membersOf(f: AnyFamily, o: Options): Arb[] {
  const declared = f.members.filter((m) => holds(m, o.version));
  const members = o.plain
    ? declared.filter(
        (m) =>
          NOT_RYUS[m.cls]?.includes(o.version) !== true &&
          (!m.cls.startsWith('NXAction') || isRyusNicira(m.cls, o.version)),
      )
    : [...declared, unknownOf(f, o.version)];
  // os-ken reads unknown properties, but does not write them
  if (o.plain && READ_ONLY.includes(f.name)) members.push(unknownOf(f, o.version));
  const depth = f === o.inside?.family ? o.inside.depth + 1 : 0;
  return members.map((m) => structArb(m, { ...o, inside: { family: f, depth } }));
}

const maybe = (a: Arb): Arb => fc.option(a, { nil: undefined });
const subfield = (o: Options): Arb => fc.tuple(headers(o, false), edge(65535));
function flowSpec(cls: string, o: Options): Arb {
  const n = fc.integer({ min: 1, max: 0x3ff });
  const immediate = n.chain((n_bits) =>
    fc.record({ n_bits: fc.constant(n_bits), src: big(16 * ((n_bits + 15) >> 4)) }),
  );
  const source = fc.oneof(immediate, fc.record({ n_bits: n, src: subfield(o) }));
  return cls === 'NXFlowSpecOutput' ? source : fc.tuple(source, subfield(o)).map(([s, dst]) => ({ ...s, dst }));
}

function customArb(cls: string, o: Options): Arb | undefined {
  switch (cls) {
    case 'NXFlowSpecMatch':
    case 'NXFlowSpecLoad':
    case 'NXFlowSpecOutput':
      return flowSpec(cls, o);
    case 'NXEncapProperty':
      return fc.record({ class: edge(65535), type: edge(255), data: buffer([0, 1, 4, 20]) });
    case 'NXActionRegLoad2':
      return oxmEntry(o).map(([dst, v]) => (Array.isArray(v) ? { dst, value: v[0], mask: v[1] } : { dst, value: v }));
    case 'NXActionController2':
      return fc.record({
        max_len: maybe(edge(65535)),
        controller_id: maybe(edge(65535)),
        reason: maybe(edge(255)),
        userdata: maybe(numbers(1, o.plain ? 1 : 0, 20)),
        pause: maybe(fc.constant(true)),
        ...(o.plain ? {} : { meter_id: maybe(edge(0xffffffff)) }),
      });
    case 'NXActionNAT':
      return fc.record({
        flags: edge(65535),
        range_ipv4_min: maybe(ipv4s),
        range_ipv4_max: maybe(ipv4s),
        range_ipv6_min: maybe(ipv6s),
        range_ipv6_max: maybe(ipv6s),
        range_proto_min: maybe(edge(65535)),
        range_proto_max: maybe(edge(65535)),
      });
    case 'OFPActionSetField':
      return oxmEntry(o).map(([field, value]) => ({
        field,
        value: Array.isArray(value) && o.version !== 6 ? value[0] : value,
      }));
    case 'OFPPropUnknown':
      return fc.record({ type: fc.constantFrom(200, 1000), data: buffer([0, 1, 4, 7, 8, 30]) });
    case 'OFPOxmId':
      return fc.record({
        type: fc.constantFrom(...namesIn(o.version).filter((n) => oxmByName(n, o.version)?.experimenter === undefined)),
        hasmask: fc.boolean(),
        length: edge(255),
      });
    case 'OFPExperimenterOxmId':
      return fc.record({
        type: edge(127).map((n) => `field_${0xffff * 128 + n}`),
        exp_id: edge(0xffffffff),
        hasmask: fc.boolean(),
        length: edge(255),
      });
    case 'OFPErrorMsg': {
      const data = buffer([0, 8, 64]);
      // 1.0 has no errors of experimenters: there 0xffff is a type like others
      const coded = (max: number) => fc.record({ type: edge(max), code: edge(65535), data, xid: edge(0xffffffff) });
      if (o.version === 1) return coded(0xffff);
      return fc.oneof(
        coded(0xfffe),
        fc.record({
          type: fc.constant(0xffff),
          exp_type: edge(65535),
          experimenter: edge(0xffffffff),
          data,
          xid: edge(0xffffffff),
        }),
      );
    }
    case 'OFPUnknownMessage':
      return fc.record({
        msg_type: fc.integer({ min: 40, max: 255 }),
        data: buffer([0, 1, 20]),
        xid: edge(0xffffffff),
      });
    default:
      return undefined;
  }
}

const known = new Map<string, Map<AnyStruct, Arb>>();

/** Objects of one class, made by its factory. */
export function structArb(s: AnyStruct, o: Options): Arb {
  // Actions hold actions: what generates them would be made thousands of times over.
  const key = `${o.version} ${o.plain} ${o.inside?.family.name} ${o.inside?.depth}`;
  const made = known.get(key) ?? new Map<AnyStruct, Arb>();
  known.set(key, made);
  const arb = made.get(s) ?? newStructArb(s, o);
  made.set(s, arb);
  return arb;
}

function newStructArb(s: AnyStruct, o: Options): Arb {
  const make = compiledOf(o.version).make.get(s.cls) as Make;
  const custom = customArb(s.cls, o);
  if (custom !== undefined) return custom.map((i) => make(i as object));
  const model: Record<string, Arb> = {};
  if (s.options.message !== undefined) model.xid = edge(0xffffffff);
  for (const [name, { kind, versions, extra }] of Object.entries(s.fields)) {
    if (versions?.includes(o.version) === false) continue;
    if (o.plain && extra?.includes(o.version) === true) continue;
    const arb = fieldArb(s, name, kind, o);
    if (arb !== undefined) model[name] = arb;
  }
  return fc.record(model).map((input) => {
    // there only when a bit says so
    if (s.cls === 'NXActionLearn2' && ((input.flags as number) & 4) === 0) input.result_dst = '';
    const made = make(input) as {
      cls: string;
      flags?: number;
      total_len?: number;
      data?: Buffer;
      buffer_id?: number;
      actions?: unknown[];
      xid?: number;
      match?: OFPMatch;
      message?: { xid: number };
      request?: { xid: number };
    };
    // JSON does not show transaction ids: inside a bundle it is the bundle's, in a forwarded request it is lost
    if (made.message !== undefined) made.message = { ...made.message, xid: made.xid as number };
    if (made.request !== undefined) made.request = { ...made.request, xid: 0 };
    // Ryu overwrites the packet with the message's own fields when there is no action in front of it
    if (o.plain && made.cls === 'OFPPacketOut' && made.actions?.length === 0) made.data = Buffer.alloc(0);
    // Ryu's class of 1.5 demands an in_port, and a packet or the number of a buffered one
    if (o.plain && made.cls === 'OFPPacketOut' && o.version === 6) {
      made.match = OFPMatch({ ...made.match?.fields, in_port: 1 }, 6);
      if (made.data?.length === 0 && made.buffer_id === 0xffffffff) made.buffer_id = 7;
    }
    // Ryu refuses to send both a packet and the number of a buffered one
    if (o.plain && made.cls === 'OFPPacketOut' && made.data?.length !== 0) made.buffer_id = 0xffffffff;
    // Ryu refuses flags in the requests of 1.0
    if (o.plain && o.version === 1 && made.cls.endsWith('StatsRequest')) made.flags = 0;
    // Ryu cuts the packet at total_len, which is never less than what came in a well-formed message
    if (o.plain && made.cls === 'OFPPacketIn') made.total_len = Math.max(made.total_len ?? 0, made.data?.length ?? 0);
    return made;
  });
}

/** Messages of one class. */
export function messageArb(cls: string, o: Options): fc.Arbitrary<OfMessage> {
  const s = (MESSAGES as readonly AnyStruct[]).find((m) => m.cls === cls && holds(m, o.version));
  if (s === undefined) throw new Error(`no message ${cls} in version ${o.version}`);
  return structArb(s, o) as fc.Arbitrary<OfMessage>;
}

/** Names of the messages of a version. */
export const messageNames = (version: Version): readonly string[] =>
  (MESSAGES as readonly AnyStruct[]).filter((m) => holds(m, version)).map((m) => m.cls);

const anyOf = new Map<string, fc.Arbitrary<OfMessage>>();
/** Messages of any class of a version. */
export function anyMessage(o: Options): fc.Arbitrary<OfMessage> {
  const key = `${o.version} ${o.plain}`;
  const arb = anyOf.get(key) ?? fc.oneof(...messageNames(o.version).map((n) => messageArb(n, o)));
  anyOf.set(key, arb);
  return arb;
}
