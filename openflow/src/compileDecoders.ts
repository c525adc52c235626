/**
 * The part of the compiler (compile.ts) that writes decoders: functions `dec_<class>(reader, from, end)`, `decL_<class>`
 * for lists and `decF_<family>`, as JavaScript source. runtime.ts has what they call by `rt`, layout.ts the offsets,
 * compileEncoders.ts the opposite.
 */
import {
  errorOf,
  fixedSize,
  holds,
  lengthOffset,
  minSize,
  q,
  segmentsOf,
  slotsOf,
  typesOf,
  unknownOf,
} from './layout.ts';
import { type AnyFamily, type AnyStruct, MAX_DEPTH, NEVER_HEADED, type Version } from './schema.ts';

export function decoderSource(s: AnyStruct, version: Version, around: AnyFamily | undefined): string {
  const c: string[] = [];
  const [t, code] = errorOf(s.options, version);
  const short = (at: string) => `rt.fail(r, ${at}, ${q(`${s.cls} cut short`)}, ${t}, ${code})`;
  const props: string[] = [`cls: ${q(s.cls)}`];
  const bounds = new Map<string, string>();
  c.push(`function dec_${s.cls}(r, p, end) {`);
  c.push('const dv = r.dv;');
  for (const seg of segmentsOf(s, version)) {
    if (seg.fixed) {
      c.push(`if (end - p < ${seg.size}) ${short('p')};`);
      for (const { at, slot } of seg.slots) {
        const { kind, name } = slot;
        const from = `p + ${at}`;
        let expr: string | undefined;
        if (kind.t === 'uint') expr = `dv.getUint${kind.size * 8}(${from})`;
        else if (kind.t === 'u64') expr = `dv.getBigUint64(${from})`;
        else if (kind.t === 'mac') expr = `rt.readMac(r.b, ${from} - r.base)`;
        else if (kind.t === 'ipv4') expr = `rt.formatIpv4(dv.getUint32(${from}))`;
        else if (kind.t === 'str') expr = `rt.readString(r, ${from}, ${kind.size})`;
        else if (kind.t === 'struct') expr = `dec_${kind.of.cls}(r, ${from}, end)`;
        else if (kind.t === 'uints') {
          const items = Array.from({ length: kind.count as number }, (_, i) => i * kind.size);
          expr = `[${items.map((i) => `dv.getUint${kind.size * 8}(${from} + ${i})`).join(', ')}]`;
        } else if (kind.t === 'lenOf') {
          c.push(`const n_${kind.list} = dv.getUint16(${from});`);
          bounds.set(kind.list, `n_${kind.list}`);
        } else if (kind.t === 'countOf') {
          const element = s.fields[kind.list]?.kind;
          if (element?.t !== 'uints') throw new Error(`${s.cls}: ${kind.list} cannot be counted`);
          c.push(`const n_${kind.list} = dv.getUint16(${from}) * ${element.size};`);
          bounds.set(kind.list, `n_${kind.list}`);
        } else if (kind.t === 'oxmHeader') {
          const header = `rt.decodeOxmHeader(r, ${from}, ${from} + 4, ${t}, ${code})`;
          expr = kind.none ? `dv.getUint32(${from}) === 0 ? '' : ${header}` : header;
        }
        if (expr !== undefined) {
          c.push(`const f_${name} = ${expr};`);
          props.push(`${name}: f_${name}`);
        }
      }
      c.push(`p += ${seg.size};`);
    } else {
      const { kind, name } = seg.slot;
      const bound = bounds.get(name);
      let to = 'end';
      if (bound !== undefined) {
        c.push(`if (${bound} > end - p) ${short('p')};`);
        to = `p + ${bound}`;
      }
      let expr = '';
      if (kind.t === 'match' && kind.bare === NEVER_HEADED) {
        expr = `rt.decodeBareMatch(r, p, p, ${to}, end)`;
      } else if (kind.t === 'match' && kind.bare !== undefined) {
        c.push(`const f_${kind.bare} = rt.isHeaded(r, p, ${to});`);
        props.push(`${kind.bare}: f_${kind.bare}`);
        expr = `rt.decodeBareMatch(r, f_${kind.bare} ? p + 4 : p, p, ${to}, end)`;
      } else if (kind.t === 'match') expr = 'rt.decodeMatch(r, p, end)';
      else if (kind.t === 'tail') {
        c.push(`if (p !== end && end - p < 8) ${short('p')}; r.q = p === end ? p : p + 8;`);
        expr = 'p === end ? null : dv.getUint32(p)';
      } else if (kind.t === 'stats') expr = `rt.decodeStats(r, p, end, ${t}, ${code})`;
      else if (kind.t === 'oxms') expr = `rt.decodeOxms(r, p, end, ${t}, ${code})`;
      else if (kind.t === 'text') expr = 'rt.readText(r, p, end)';
      else if (kind.t === 'bytes') expr = 'rt.bytes(r, p, end)';
      else if (kind.t === 'struct') expr = memberSource(kind.of, name, version, c);
      else if (kind.t === 'message') {
        expr = 'rt.nested.decode(r, p, end)';
      } else if (kind.t === 'uints') expr = `rt.uints${kind.size}(r, p, ${to}, ${t}, ${code})`;
      else if (kind.t === 'oxmHeader') {
        expr = `rt.decodeOxmHeader(r, p, end, ${t}, ${code})`;
        if (kind.when !== undefined) expr = `(f_${kind.when.field} & ${kind.when.bit}) === 0 ? (r.q = p, '') : ${expr}`;
      } else if (kind.t === 'bitmap') expr = 'rt.decodeBitmap(r, p, end)';
      else if (kind.t === 'either') {
        expr =
          kind.count === undefined
            ? `decL_${kind.reads.cls}(r, p, end)`
            : `[${[...Array(kind.count).keys()].map((i) => `dec_${kind.reads.cls}(r, ${i === 0 ? 'p' : 'r.q'}, end)`)}]`;
      } else if (kind.t === 'list') expr = `decL_${kind.of.cls}(r, p, ${to})`;
      else if (kind.t === 'family') expr = `decF_${(kind.of ?? around)?.name}(r, p, ${to})`;
      const inner = kind.t === 'family' && kind.of === undefined;
      if (inner) {
        const often = q(`${s.cls} inside itself too often`);
        c.push(`if (++r.inside > ${MAX_DEPTH}) rt.fail(r, p, ${often}, ${t}, ${code});`);
      }
      const from = kind.t === 'message' && kind.before !== undefined ? 'const m0 = p; ' : '';
      c.push(`${from}const f_${name} = ${expr}; p = r.q;${inner ? ' r.inside--;' : ''}`);
      // padding in front of what follows; a peer may leave it out when nothing does
      if (from !== '') c.push('p = Math.min(end, m0 + ((p - m0 + 7) & ~7));');
      props.push(`${name}: f_${name}`);
    }
  }
  const last = slotsOf(s, version).at(-1)?.kind;
  if (s.options.padTo8 === 'inside' && last?.t === 'either') {
    c.push(`if (end - p >= 8) rt.fail(r, p, ${q(`${s.cls} too long`)}, ${t}, ${code}); p = end;`);
  }
  c.push(`r.q = p; return { ${props.join(', ')} }; }`);
  return c.join('\n');
}

/** Reads a structure that is a member of another one, and ends where its own length says when it has one. */
function memberSource(s: AnyStruct, name: string, version: Version, c: string[]): string {
  const lenAt = lengthOffset(s, version);
  if (lenAt === undefined || fixedSize(s, version) !== undefined) return `dec_${s.cls}(r, p, end)`;
  const [t, code] = errorOf(s.options, version);
  const min = minSize(s, version);
  c.push(`const n_${name} = end - p < ${min} ? 0 : dv.getUint16(p + ${lenAt});`);
  c.push(`if (n_${name} < ${min} || n_${name} > end - p)`);
  c.push(`rt.fail(r, p, ${q(`${s.cls} has a wrong length`)}, ${t}, ${code});`);
  return `dec_${s.cls}(r, p, p + n_${name})`;
}

/** Reads structures of one class up to `end`. */
export function listDecoderSource(s: AnyStruct, version: Version): string {
  const [t, code] = errorOf(s.options, version);
  const bad = (what: string) => `rt.fail(r, p, ${q(`${s.cls} ${what}`)}, ${t}, ${code})`;
  const size = fixedSize(s, version);
  const lenAt = lengthOffset(s, version);
  const head = `function decL_${s.cls}(r, p, end) { const out = []; `;
  // Some structures end where their last field does, which tells its own length.
  const last = slotsOf(s, version).at(-1)?.kind.t;
  const endsItself = s.options.custom !== undefined || last === 'match' || last === 'tail';
  if (lenAt === undefined && endsItself) {
    return `${head}while (p < end) { const e = dec_${s.cls}(r, p, end); if (e !== undefined) out.push(e); p = r.q; }
r.q = end; return out; }`;
  }
  if (size !== undefined && lenAt === undefined) {
    return `${head}while (p < end) { if (end - p < ${size}) ${bad('cut short')};
out.push(dec_${s.cls}(r, p, p + ${size})); p += ${size}; } r.q = end; return out; }`;
  }
  if (lenAt === undefined) throw new Error(`${s.cls} cannot stand in a list`);
  // A structure of fixed size that tells another length would lose bytes: that is an error, not an extension point.
  const wrong = size === undefined ? `n < ${minSize(s, version)} || n > end - p` : `n !== ${size} || n > end - p`;
  return `${head}while (p < end) { if (end - p < ${minSize(s, version)}) ${bad('cut short')};
const n = r.dv.getUint16(p + ${lenAt}); if (${wrong}) ${bad('has a wrong length')};
out.push(dec_${s.cls}(r, p, p + n)); p += n; } r.q = end; return out; }`;
}

export function familyDecoderSource(f: AnyFamily, version: Version): string {
  const [t, code] = errorOf(f.options, version);
  const { min, aligned, padTo8, experimenter, lengthFirst } = f.options;
  const members = f.members.filter((m) => holds(m, version));
  const unknown = unknownOf(f, version);
  const read = (m: AnyStruct) => {
    const size = fixedSize(m, version);
    const check =
      size === undefined
        ? ''
        : `if (n !== ${size}) rt.fail(r, p, ${q(`${m.cls} has a wrong length`)}, ${t}, ${code}); `;
    const last = slotsOf(m, version).at(-1)?.kind;
    // What belongs to an experimenter is said to be words, but some send bytes: then it is kept raw.
    const cls =
      last?.t === 'uints' && last.size === 4 && last.count === undefined
        ? `((n & 3) === 0 ? dec_${m.cls} : dec_${unknown.cls})`
        : `dec_${m.cls}`;
    return `${check}out.push(${cls}(r, p, p + n));`;
  };
  const own = members.filter((m) => m.options.experimenter !== undefined);
  const cases = members
    .filter((m) => m.options.experimenter === undefined)
    .map((m) => {
      const types = typesOf(m, version);
      const first = types[0] === experimenter?.type ? experimenterSource(own, f, read) : '';
      return `${types.map((v) => `case ${v}:`).join(' ')} ${first}${read(m)} break;`;
    });
  // Some peers leave out the padding of the last TLV: the end of what holds it counts as padding.
  const step = padTo8 ? 'p = Math.min(end, p + ((n + 7) & ~7));' : 'p += n;';
  return `function decF_${f.name}(r, p, end) { const out = []; const dv = r.dv;
while (p < end) { if (end - p < 4) rt.fail(r, p, ${q(`${f.name} header cut short`)}, ${t}, ${code});
const n = dv.getUint16(p${lengthFirst ? '' : ' + 2'});
if (n < ${min} || n > end - p${aligned ? ' || (n & 7) !== 0' : ''}) rt.fail(r, p, ${q(`${f.name} of length `)} + n, ${t}, ${code});
one: switch (dv.getUint16(p${lengthFirst ? ' + 2' : ''})) {
${cases.join('\n')}
default: out.push(dec_${unknown.cls}(r, p, p + n)); }
${step} } r.q = end; return out; }`;
}

/** Tells experimenters' structures apart; falls through to what keeps unknown ones. */
function experimenterSource(own: readonly AnyStruct[], f: AnyFamily, read: (m: AnyStruct) => string): string {
  const size = f.options.experimenter?.subtypeSize ?? 4;
  // by experimenter and its own type: first those told apart by the word behind it
  const bySubtype = new Map<number, Map<number, string>>();
  const byId = new Map<number, string>();
  const told = own.filter((m) => m.options.experimenter?.[2] !== undefined);
  for (const m of [...told, ...own.filter((m) => !told.includes(m))]) {
    const [id, subtype, word] = m.options.experimenter as readonly [number, number?, number?];
    const found = `${read(m)} break one;`;
    if (subtype === undefined) {
      byId.set(id, found);
      continue;
    }
    const subtypes = bySubtype.get(id) ?? new Map<number, string>();
    const test = word === undefined ? found : `if (n >= 16 && dv.getUint32(p + 12) === ${word}) { ${found} }`;
    subtypes.set(subtype, `${subtypes.get(subtype) ?? ''}${test}\n`);
    bySubtype.set(id, subtypes);
  }
  const ids = [...new Set([...bySubtype.keys(), ...byId.keys()])];
  if (ids.length === 0) return '';
  const cases = ids.map((id) => {
    const sub = bySubtype.get(id);
    const types = [...(sub ?? [])].map(([type, found]) => `case ${type}: ${found} break;`);
    const inner =
      types.length === 0 ? '' : `if (n >= ${8 + size}) switch (dv.getUint${size * 8}(p + 8)) {\n${types.join('\n')} }`;
    return `case ${id}: ${inner} ${byId.get(id) ?? ''} break;`;
  });
  return `if (n >= 8) switch (dv.getUint32(p + 4)) {\n${cases.join('\n')} }\n`;
}
