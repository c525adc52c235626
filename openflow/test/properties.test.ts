/**
 * What must hold for every message and for every sequence of bytes. Objects come from arbitrary.ts.
 * FC_RUNS multiplies the number of runs (default 1).
 */
import fc from 'fast-check';
import {
  decode,
  encode,
  fromJson,
  type MatchFields,
  MessageSplitter,
  matchKey,
  OFPMatch,
  OfDecodeError,
  parseJson,
  stringifyJson,
  toJson,
  VERSIONS,
  type Version,
} from 'node-openflow';
import { errorNames } from '../src/names.ts';
import { anyMessage, messageArb, messageNames } from './arbitrary.ts';

const runs = (n: number) => ({ numRuns: n * Number(process.env.FC_RUNS ?? 1) });
const any = (version: Version) => ({ plain: false, version });
const anyVersion = fc.constantFrom(...VERSIONS).chain((v) => anyMessage(any(v)));
const classes = VERSIONS.flatMap((v) => messageNames(v).map((n): [Version, string] => [v, n]));

describe.each(classes)('version %i, %s', (version, cls) => {
  test('what is encoded decodes to the same', () => {
    fc.assert(
      fc.property(messageArb(cls, any(version)), (msg) => {
        const bytes = encode(msg);
        expect(bytes.readUInt16BE(2)).toBe(bytes.length);
        expect(decode(bytes)).toEqual(msg);
        expect(encode(decode(bytes)).equals(bytes)).toBe(true);
      }),
      runs(25),
    );
  });

  test('its JSON text reads back to the same bytes', () => {
    fc.assert(
      fc.property(messageArb(cls, any(version)), (msg) => {
        const text = stringifyJson(toJson(msg));
        expect(encode(fromJson(parseJson(text), version), msg.xid).toString('hex')).toBe(encode(msg).toString('hex'));
      }),
      runs(12),
    );
  });

  test('cut short at every offset, it is refused with OfDecodeError', () => {
    fc.assert(
      fc.property(messageArb(cls, any(version)), (msg) => {
        const bytes = encode(msg);
        for (let n = 0; n < bytes.length; n++) {
          // Once with the header's old length, once with a header that tells the truth about the rest.
          expect({ bytes: n, isRefused: isRefused(bytes.subarray(0, n)) }).toEqual({ bytes: n, isRefused: true });
          const honest = Buffer.from(bytes.subarray(0, n));
          if (n >= 8) honest.writeUInt16BE(n, 2);
          onlyDecodeErrors(honest);
        }
      }),
      runs(4),
    );
  });
});

/** Whether OfDecodeError says no; any other error escapes. */
function isRefused(bytes: Buffer): boolean {
  try {
    decode(bytes);
  } catch (e) {
    if (e instanceof OfDecodeError) return true;
    throw e;
  }
  return false;
}

/** Decodes bytes that may be wrong; what decodes must encode again, to something that decodes to the same. */
function onlyDecodeErrors(bytes: Buffer): boolean {
  let msg: ReturnType<typeof decode>;
  try {
    msg = decode(bytes);
  } catch (e) {
    if (!(e instanceof OfDecodeError)) throw e;
    if (e.offset < 0 || e.offset > bytes.length) throw new Error(`offset ${e.offset} of ${bytes.length}`);
    // the error to answer with must be one that the version has
    if (errorNames({ version: e.version, ...e.ofError }).code === undefined) throw e;
    return false;
  }
  const again = encode(msg);
  expect(again.length).toBeLessThanOrEqual(bytes.length + 8);
  expect(decode(again)).toEqual(msg);
  toJson(msg);
  return true;
}

test('mutated messages: only OfDecodeError escapes', () => {
  let read = 0;
  let refused = 0;
  fc.assert(
    fc.property(
      anyVersion,
      fc.array(fc.tuple(fc.nat(), fc.oneof(fc.constantFrom(0, 1, 7, 8, 255), fc.nat(255))), {
        minLength: 1,
        maxLength: 6,
      }),
      (msg, edits) => {
        const bytes = Buffer.from(encode(msg));
        for (const [at, v] of edits) bytes[at % bytes.length] = v;
        // keep the header readable most of the time: the interesting errors lie deeper
        bytes[0] = msg.version;
        bytes.writeUInt16BE(bytes.length, 2);
        if (onlyDecodeErrors(bytes)) read++;
        else refused++;
      },
    ),
    runs(4000),
  );
  expect(read).toBeGreaterThan(0);
  expect(refused).toBeGreaterThan(0);
});

test('random bytes: only OfDecodeError escapes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(35), fc.constantFrom(...VERSIONS), (body, type, version) => {
      const bytes = Buffer.concat([Buffer.from([version, type, 0, 0, 0, 0, 0, 0]), body]);
      bytes.writeUInt16BE(bytes.length, 2);
      onlyDecodeErrors(bytes);
      onlyDecodeErrors(Buffer.from(body));
    }),
    runs(3000),
  );
});

test('decoding never reads outside the message', () => {
  fc.assert(
    fc.property(anyVersion, (msg) => {
      const bytes = encode(msg);
      const before = Buffer.concat([Buffer.alloc(11, 0xee), bytes, Buffer.alloc(9, 0xdd)]);
      const inside = before.subarray(11);
      // bytes behind the header's length are not this message's
      expect(decode(inside)).toEqual(msg);
    }),
    runs(500),
  );
});

test('a decoder spends no more than a small multiple of its input', () => {
  // The densest lists there are, at the largest size a message can have.
  const dense: [number, Buffer][] = [
    [0, Buffer.from('00010004', 'hex')],
    [18, Buffer.from('0000', 'hex')],
    [14, Buffer.from('0000000800000000', 'hex')],
  ];
  for (const [type, unit] of dense) {
    const bytes = Buffer.alloc(65535);
    for (let i = 8; i + unit.length <= bytes.length; i += unit.length) unit.copy(bytes, i);
    bytes.set([4, type, 0xff, 0xff], 0);
    const heap = process.memoryUsage().heapUsed;
    try {
      decode(bytes);
    } catch (e) {
      expect(e).toBeInstanceOf(OfDecodeError);
    }
    expect(process.memoryUsage().heapUsed - heap).toBeLessThan(65535 * 200);
  }
});

test('any chunking of a stream gives the same messages', () => {
  fc.assert(
    fc.property(
      fc.array(anyVersion, { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 }),
      (messages, sizes) => {
        const stream = Buffer.concat(messages.map((m) => Buffer.from(encode(m))));
        const splitter = new MessageSplitter();
        const out: Buffer[] = [];
        for (let at = 0, i = 0; at < stream.length; i++) {
          const n = sizes[i % sizes.length] as number;
          out.push(...splitter.push(Buffer.from(stream.subarray(at, at + n))));
          at += n;
        }
        expect(out.map(decode)).toEqual(messages);
        expect(splitter.pending).toBe(0);
      },
    ),
    runs(300),
  );
});

test('every single split point of two messages', () => {
  fc.assert(
    fc.property(anyVersion, anyVersion, (a, b) => {
      const stream = Buffer.concat([Buffer.from(encode(a)), Buffer.from(encode(b))]);
      for (let cut = 0; cut <= stream.length; cut++) {
        const splitter = new MessageSplitter();
        const out = [...splitter.push(stream.subarray(0, cut)), ...splitter.push(stream.subarray(cut))];
        expect(Buffer.concat(out).equals(stream)).toBe(true);
        expect(out).toHaveLength(2);
      }
    }),
    runs(20),
  );
});

test('normalising a match twice changes nothing, and its key ignores order', () => {
  fc.assert(
    fc.property(messageArb('OFPFlowMod', any(4)), (msg) => {
      if (msg.version !== 4 || msg.cls !== 'OFPFlowMod') throw new Error('unreachable');
      const { fields } = msg.match;
      expect(OFPMatch(fields)).toEqual(msg.match);
      const reversed = Object.fromEntries(Object.entries(fields).reverse()) as MatchFields;
      expect(matchKey({ cls: 'OFPMatch', fields: reversed })).toBe(matchKey(msg.match));
    }),
    runs(300),
  );
});

test('integers of 64 bits survive JSON text', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(1n << 70n), max: 1n << 70n }), (v) => {
      const back = parseJson(stringifyJson({ v, list: [v, 1.5, 'x\n\u2028'] })) as {
        v: bigint | number;
        list: unknown[];
      };
      expect(BigInt(back.v)).toBe(v);
      expect(back.list.slice(1)).toEqual([1.5, 'x\n\u2028']);
    }),
    runs(300),
  );
});
