/** ofdump's readers of raw messages and of hexadecimal text in all its forms. */
import fc from 'fast-check';
import { encode, of13 } from 'node-openflow';
import { Dump, type DumpOptions } from '../cli/dump.ts';
import type { Item } from '../cli/items.ts';

const RUNS = Number(process.env.FC_RUNS ?? 1);

function read(file: Buffer | string, options: DumpOptions = {}, size = 1 << 20): Item[] {
  const b = Buffer.from(file);
  const dump = new Dump(options);
  const out: Item[] = [];
  for (let at = 0; at < b.length; at += size) out.push(...dump.push(b.subarray(at, at + size)));
  return [...out, ...dump.end()];
}
const found = (items: readonly Item[]) => items.flatMap((i) => (i.kind === 'message' ? [i.bytes.toString('hex')] : []));
const reasons = (items: readonly Item[]) =>
  items.flatMap((i) => (i.kind === 'problem' ? [`${i.place.line ?? ''}@${i.place.offset}: ${i.reason}`] : []));

const list = [
  encode(of13.OFPHello(), 1),
  encode(of13.OFPFlowMod({ match: of13.OFPMatch({ in_port: 5 }) }), 2),
  encode(of13.OFPEchoRequest({ data: Buffer.from('an odd number') }), 3),
  encode(of13.OFPEchoRequest({ data: Buffer.alloc(100) }), 4),
  encode(of13.OFPBarrierRequest(), 5),
];
const all = Buffer.concat(list);
const hexes = list.map((b) => b.toString('hex'));

// ---- the forms, written as the tools write them ----------------------------------------------------------------------

function rows(b: Buffer, row: (line: Buffer, at: number) => string, collapse: boolean, last: string): string {
  const out: string[] = [];
  let starred = false;
  for (let at = 0; at < b.length; at += 16) {
    const line = b.subarray(at, at + 16);
    if (collapse && at > 0 && line.length === 16 && line.equals(b.subarray(at - 16, at))) {
      if (!starred) out.push('*');
      starred = true;
      continue;
    }
    starred = false;
    out.push(row(line, at));
  }
  return `${[...out, ...(last === '' ? [] : [last])].join('\n')}\n`;
}
const byte = (v: number) => v.toString(16).padStart(2, '0');
const ascii = (line: Buffer) => line.toString('latin1').replace(/[^ -~]/g, '.');
const offset = (n: number, width: number, base = 16) => n.toString(base).padStart(width, '0');

const hexdumpC = (b: Buffer) =>
  rows(
    b,
    (l, at) => {
      const cells = Array.from({ length: 16 }, (_, i) => (i < l.length ? byte(l[i] as number) : '  '));
      return `${offset(at, 8)}  ${cells.slice(0, 8).join(' ')}  ${cells.slice(8).join(' ')}  |${ascii(l)}|`;
    },
    true,
    offset(b.length, 8),
  );
const words = (l: Buffer, little: boolean) => {
  const out: string[] = [];
  for (let i = 0; i < l.length; i += 2) {
    const [a = 0, c = 0] = [l[i], l[i + 1]];
    out.push(little ? byte(c) + byte(a) : byte(a) + (i + 1 < l.length ? byte(c) : ''));
  }
  return out.join(' ');
};
const hexdump = (b: Buffer) => rows(b, (l, at) => `${offset(at, 7)} ${words(l, true)}`, true, offset(b.length, 7));
const odX = (b: Buffer) => rows(b, (l, at) => `${offset(at, 7, 8)} ${words(l, true)}`, true, offset(b.length, 7, 8));
const odBytes = (b: Buffer) =>
  rows(b, (l, at) => `${offset(at, 7, 8)} ${[...l].map(byte).join(' ')}`, true, offset(b.length, 7, 8));
const odNamed = (b: Buffer) =>
  rows(
    b,
    (l, at) => `${offset(at, 7, 8)} ${[...l].map(byte).join(' ').padEnd(47)}  >${ascii(l)}<`,
    false,
    offset(b.length, 7, 8),
  );
const xxd = (b: Buffer) =>
  rows(b, (l, at) => `${offset(at, 8)}: ${words(l, false).padEnd(39)}  ${ascii(l)}`, false, '');
const xxdPlain = (b: Buffer) => `${b.toString('hex').replace(/.{60}/g, '$&\n')}\n`;
const ovs = (b: Buffer) =>
  rows(
    b,
    (l, at) => {
      const cells = [...l].map(byte);
      const text = cells.map((c, i) => `${i === 8 ? '-' : i === 0 ? '' : ' '}${c}`).join('');
      return `${offset(at, 8)}  ${text.padEnd(48)} |${ascii(l).padEnd(16)}|`;
    },
    false,
    '',
  );
const FORMS: Record<string, (b: Buffer) => string> = {
  'hexdump -C': hexdumpC,
  hexdump,
  'od -x': odX,
  'od -tx1': odBytes,
  'od -tx1z': odNamed,
  xxd,
  'xxd -p': xxdPlain,
  'Open vSwitch': ovs,
  'digits only': (b) => b.toString('hex').toUpperCase(),
  'with spaces': (b) => [...b].map(byte).join(' '),
  'C array': (b) => `{${[...b].map((v) => `0x${v.toString(16)}`).join(', ')}};`,
  'C string': (b) => `"${[...b].map((v) => `\\x${byte(v)}`).join('')}"`,
  colons: (b) => [...b].map(byte).join(':'),
  words: (b) => `0x${b.toString('hex').replace(/.{8}/g, '$& 0x').replace(/ 0x$/, '')}`,
  'a message a line, with comments': (b) => {
    let text = '# what was sent\r\n';
    for (let at = 0; at + 8 <= b.length; at += b.readUInt16BE(at + 2)) {
      text += `${b.toString('hex', at, at + b.readUInt16BE(at + 2))} // message\r\n\r\n`;
    }
    return text;
  },
};

describe('hexadecimal text', () => {
  test.each(Object.entries(FORMS))('%s', (_, write) => {
    for (const size of [1, 7, 1000, 1 << 20]) {
      const items = read(write(all), {}, size);
      expect(reasons(items)).toEqual([]);
      expect(found(items)).toEqual(hexes);
    }
  });

  test('any messages in any form', () => {
    // lengths that make rows repeat, rows incomplete and bytes odd
    const message = fc
      .tuple(fc.nat(70), fc.constantFrom(0, 1, 0x20, 0x41, 0x7c, 0xff))
      .map(([n, v]) => encode(of13.OFPEchoReply({ data: Buffer.alloc(n, v) }), 7));
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 5 }),
        fc.constantFrom(...Object.keys(FORMS)),
        fc.integer({ min: 1, max: 200 }),
        (messages, form, size) => {
          const items = read((FORMS[form] as (b: Buffer) => string)(Buffer.concat(messages)), {}, size);
          expect(reasons(items)).toEqual([]);
          expect(found(items)).toEqual(messages.map((m) => m.toString('hex')));
        },
      ),
      { numRuns: 300 * RUNS },
    );
  });

  test('several dumps with text around them', () => {
    const text = list.map((b, i) => `OFPT_SOMETHING (OF1.3) (xid=0x${i}): added\n${hexdumpC(b)}\n`).join('and then\n');
    expect(reasons(read(text))).toEqual([]);
    expect(found(read(text))).toEqual(hexes);
    const items = read(text);
    // offsets count bytes, lines those of the text
    expect(items.map((i) => i.place.line)).toEqual(
      text.split('\n').flatMap((line, i) => (/^0{8} /.test(line) ? [i + 1] : [])),
    );
  });

  test('a part of a dump', () => {
    const shifted = xxd(all).replace(/^[\da-f]{8}/gm, (d) => offset(Number.parseInt(d, 16) + 0x40, 8));
    expect(found(read(shifted))).toEqual(hexes);
  });

  test('a dump with a line missing', () => {
    const text = xxd(all).split('\n');
    text.splice(3, 1);
    const items = read(text.join('\n'));
    expect(found(items)).toEqual(hexes.slice(0, 1));
    expect(reasons(items)[0]).toMatch(/^4@48: offset 00000040 in a dump where 30 was expected/);
  });

  test('a line that is not hex, and one with half a byte', () => {
    const text = `${hexes[0]}\nwhat is this\n${hexes[4]}\n0414000800000005a\n`;
    const items = read(text);
    expect(found(items)).toEqual([hexes[0], hexes[4]]);
    expect(reasons(items)).toEqual([
      '2@8: not hexadecimal: "what is this"',
      '4@16: an odd number of hexadecimal digits (0414000800000005a): "0414000800000005a"',
    ]);
    expect(reasons(read('GET / HTTP/1.1\n'))).toHaveLength(1);
  });

  test('a megabyte without an end of line', () => {
    const many = Buffer.concat(Array.from({ length: 20_000 }, () => list[3] as Buffer)).toString('hex');
    const items = read(`0x${many}`, {}, 65536);
    expect(reasons(items)).toEqual([]);
    expect(items).toHaveLength(20_000);
  });

  test('after a header that cannot be, reading goes on at a line that could be one', () => {
    const items = read(`${hexes[0]}\n0404000300000000\n${hexes[1]}\n`);
    expect(found(items)).toEqual([hexes[0], hexes[1]]);
    expect(reasons(items)).toEqual([
      '2@8: version 4, type 4: the header tells a length of 3, less than its own 8; 8 bytes skipped before reading went on at line 3, offset 16',
    ]);
  });
});

describe('raw messages', () => {
  test('any split', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: all.length }), (size) => {
        expect(found(read(all, {}, size))).toEqual(hexes);
      }),
    );
  });

  test('every truncation is located', () => {
    const ends = list.map((_, i) => Buffer.concat(list.slice(0, i + 1)).length);
    for (let n = 0; n <= all.length; n++) {
      const items = read(all.subarray(0, n));
      const whole = ends.filter((e) => e <= n).length;
      expect(found(items)).toEqual(hexes.slice(0, whole));
      const begin = whole === 0 ? 0 : (ends[whole - 1] as number);
      expect(reasons(items)).toEqual(begin === n ? [] : [expect.stringMatching(`^@${begin}: message cut short: `)]);
    }
  });

  test('a header that cannot be', () => {
    const bad = Buffer.from('0400000000000000', 'hex');
    expect(reasons(read(Buffer.concat([list[0] as Buffer, bad, Buffer.alloc(20)])))).toEqual([
      '@8: version 4, type 0: the header tells a length of 0, less than its own 8; 28 bytes skipped to the end',
    ]);
    // three in a row are enough to go on
    const items = read(Buffer.concat([bad, Buffer.alloc(3), ...list.slice(0, 3)]));
    expect(found(items)).toEqual(hexes.slice(0, 3));
    expect(reasons(items)).toEqual([expect.stringContaining('11 bytes skipped before reading went on at offset 11')]);
  });

  test('nothing is nothing', () => expect(read('')).toEqual([]));

  test('gzip is named', () => {
    expect(reasons(read(Buffer.from('1f8b0800000000000003', 'hex')))).toEqual([expect.stringContaining('gunzip')]);
  });

  test('a format can be forced', () => {
    expect(found(read(all, { format: 'raw' }))).toEqual(hexes);
    expect(found(read(hexes.join(''), { format: 'hex' }))).toEqual(hexes);
    expect(found(read(hexes.join(''), { format: 'raw' }))).toEqual([]);
  });
});
