/**
 * The part of the compiler (compile.ts) that writes encoders: functions `enc_<class>(object, writer)` and `encF_<family>`,
 * as JavaScript source. runtime.ts has what they call by `rt`, layout.ts the offsets, compileDecoders.ts the opposite.
 */
import { fixedSize, holds, q, segmentsOf } from './layout.ts';
import { type AnyFamily, type AnyStruct, NEVER_HEADED, type Version } from './schema.ts';

export function encoderSource(s: AnyStruct, version: Version, around: AnyFamily | undefined): string {
  const c: string[] = [];
  const cls = q(s.cls);
  let lenAt = -1;
  let offset = 0;
  // lists whose length stands in an earlier field
  const lengths = new Map<string, number>();
  c.push(`function enc_${s.cls}(o, w) {`);
  c.push('const s0 = w.p - w.start; let p, dv, v, i;');
  let beforeVariable = true;
  for (const seg of segmentsOf(s, version)) {
    if (seg.fixed) {
      c.push(`if (w.cap - w.p < ${seg.size}) w.grow(${seg.size}); p = w.p; dv = w.dv;`);
      for (const { at, slot } of seg.slots) {
        const { kind, name } = slot;
        const to = `p + ${at}`;
        const prop = `o.${name}`;
        if (kind.t === 'uint') {
          const test = kind.size === 4 ? '(v >>> 0)' : `(v & ${kind.size === 1 ? 255 : 65535})`;
          c.push(`v = ${prop}; if (${test} !== v) rt.badUint(${cls}, ${q(name)}, v, ${kind.size * 8});`);
          c.push(`dv.setUint${kind.size * 8}(${to}, v);`);
        } else if (kind.t === 'u64') {
          c.push(
            `v = ${prop}; if (typeof v !== 'bigint' || BigInt.asUintN(64, v) !== v) v = rt.u64(v, ${cls}, ${q(name)});`,
          );
          c.push(`dv.setBigUint64(${to}, v);`);
        } else if (kind.t === 'mac') {
          c.push(
            `v = ${prop}; if (typeof v !== 'string' || !rt.writeMac(w.b, ${to}, v)) rt.badMac(${cls}, ${q(name)}, v);`,
          );
        } else if (kind.t === 'ipv4') {
          c.push(`v = ${prop}; i = typeof v === 'string' ? rt.parseIpv4(v) : -1;`);
          c.push(`if (i < 0) rt.badIpv4(${cls}, ${q(name)}, v); dv.setUint32(${to}, i);`);
        } else if (kind.t === 'str') {
          c.push(`rt.writeString(w, ${to}, ${kind.size}, ${prop}, ${cls}, ${q(name)});`);
        } else if (kind.t === 'pad') {
          for (let i = 0; i < kind.size; ) {
            const n = kind.size - i >= 4 ? 4 : kind.size - i >= 2 ? 2 : 1;
            c.push(`dv.setUint${n * 8}(${to} + ${i}, 0);`);
            i += n;
          }
        } else if (kind.t === 'const') {
          c.push(`dv.setUint${kind.size * 8}(${to}, ${kind.value});`);
        } else if (kind.t === 'len') {
          if (!beforeVariable) throw new Error(`${s.cls}: length after a field of variable size`);
          lenAt = offset + at;
          if (fixedSize(s, version) !== undefined) c.push(`dv.setUint16(${to}, ${fixedSize(s, version)});`);
        } else if (kind.t === 'lenOf') {
          lengths.set(kind.list, offset + at);
        } else if (kind.t === 'countOf') {
          const list = `o.${kind.list}`;
          c.push(`v = rt.list(${list}, ${cls}, ${q(kind.list)}).length;`);
          c.push(`if ((v & 65535) !== v) rt.badUint(${cls}, ${q(kind.list)}, v, 16); dv.setUint16(${to}, v);`);
        } else if (kind.t === 'oxmHeader') {
          c.push(`v = ${prop}; ${kind.none ? `if (v === '') dv.setUint32(${to}, 0); else ` : ''}{`);
          c.push(`w.p = ${to}; rt.encodeOxmHeader(w, v, 4, ${cls}, ${q(name)}); }`);
        } else if (kind.t === 'struct') {
          c.push(`w.p = ${to}; rt.object(${prop}, ${cls}, ${q(name)}); enc_${kind.of.cls}(${prop}, w);`);
        } else if (kind.t === 'uints') {
          const n = kind.count as number;
          c.push(
            `v = rt.list(${prop}, ${cls}, ${q(name)}); if (v.length !== ${n}) rt.badCount(${cls}, ${q(name)}, ${n});`,
          );
          c.push(
            `for (i = 0; i < ${n}; i++) rt.put${kind.size}(dv, ${to} + i * ${kind.size}, v[i], ${cls}, ${q(name)});`,
          );
        }
      }
      c.push(`w.p = p + ${seg.size};`);
      offset += seg.size;
    } else {
      beforeVariable = false;
      const { kind, name } = seg.slot;
      const prop = `o.${name}`;
      const lengthAt = lengths.get(name);
      if (lengthAt !== undefined) c.push(`const l_${name} = w.p - w.start;`);
      if (kind.t === 'match') {
        c.push(
          kind.bare === undefined
            ? `rt.encodeMatch(${prop}, w, ${cls}, ${q(name)});`
            : `rt.encodeBareMatch(${prop}, w, ${kind.bare === NEVER_HEADED ? 'false' : `o.${kind.bare} === true`}, ${cls}, ${q(name)});`,
        );
      } else if (kind.t === 'stats') {
        c.push(`rt.encodeStats(${prop}, w, ${cls}, ${q(name)});`);
      } else if (kind.t === 'oxms') {
        c.push(`rt.encodeOxms(rt.list(${prop}, ${cls}, ${q(name)}), w, ${cls});`);
      } else if (kind.t === 'tail') {
        c.push(`v = ${prop}; if (v !== null) { if (w.cap - w.p < 8) w.grow(8);`);
        c.push(`rt.put4(w.dv, w.p, v, ${cls}, ${q(name)}); w.dv.setUint32(w.p + 4, 0); w.p += 8; }`);
      } else if (kind.t === 'text') {
        c.push(`rt.writeText(w, ${prop}, ${cls}, ${q(name)});`);
      } else if (kind.t === 'oxmHeader') {
        if (kind.when !== undefined) c.push(`if ((o.${kind.when.field} & ${kind.when.bit}) !== 0)`);
        c.push(`rt.encodeOxmHeader(w, ${prop}, 10, ${cls}, ${q(name)});`);
      } else if (kind.t === 'bytes') {
        c.push(`v = ${prop}; if (!(v instanceof Uint8Array)) rt.badBytes(${cls}, ${q(name)}, v); w.bytes(v);`);
      } else if (kind.t === 'struct') {
        c.push(`rt.object(${prop}, ${cls}, ${q(name)}); enc_${kind.of.cls}(${prop}, w);`);
      } else if (kind.t === 'message') {
        c.push(
          `i = w.p - w.start; rt.nested.encode(${prop}, w, ${kind.xid === 'outer' ? 'o.xid' : 'undefined'}, ${cls}, ${q(name)});`,
        );
        if (kind.before !== undefined) {
          c.push(`if (rt.list(o.${kind.before}, ${cls}, ${q(kind.before)}).length > 0)`);
          c.push('w.zeros((8 - ((w.p - w.start - i) & 7)) & 7);');
        }
      } else if (kind.t === 'list' || kind.t === 'family') {
        c.push(`v = rt.list(${prop}, ${cls}, ${q(name)}); for (i = 0; i < v.length; i++) {`);
        if (kind.t === 'list') {
          c.push(`const e = v[i]; rt.element(e, ${q(kind.of.cls)}, ${cls}, ${q(name)}); enc_${kind.of.cls}(e, w); }`);
        } else {
          c.push(`encF_${(kind.of ?? around)?.name}(v[i], w, ${cls}, ${q(name)}); }`);
        }
      } else if (kind.t === 'either') {
        c.push(`v = rt.list(${prop}, ${cls}, ${q(name)});`);
        if (kind.count !== undefined) {
          c.push(`if (v.length !== ${kind.count}) rt.badCount(${cls}, ${q(name)}, ${kind.count});`);
        }
        c.push('for (i = 0; i < v.length; i++) { const e = v[i]; switch (e == null ? undefined : e.cls) {');
        for (const m of kind.of) c.push(`case ${q(m.cls)}: enc_${m.cls}(e, w); break;`);
        c.push(`default: rt.badMember(e, 'identifier', ${cls}, ${q(name)}); } }`);
      } else if (kind.t === 'uints') {
        c.push(
          `v = rt.list(${prop}, ${cls}, ${q(name)}); i = v.length * ${kind.size}; if (w.cap - w.p < i) w.grow(i);`,
        );
        c.push(`p = w.p; dv = w.dv; for (i = 0; i < v.length; i++, p += ${kind.size})`);
        c.push(`rt.put${kind.size}(dv, p, v[i], ${cls}, ${q(name)}); w.p = p;`);
      } else if (kind.t === 'bitmap') {
        c.push(`rt.encodeBitmap(${prop}, w, ${cls}, ${q(name)});`);
      }
      if (lengthAt !== undefined) {
        c.push(`w.dv.setUint16(w.start + s0 + ${lengthAt}, w.p - w.start - l_${name});`);
        if (kind.t === 'match' && kind.bare !== undefined)
          c.push(`w.zeros((8 - ((w.p - w.start - l_${name}) & 7)) & 7);`);
      }
    }
  }
  const isMessage = s.options.message !== undefined;
  const pad = 'w.zeros((8 - ((w.p - w.start - s0) & 7)) & 7);';
  if (s.options.padTo8 === 'inside') c.push(pad);
  if (isMessage) c.push(`if (w.p - w.start - s0 > 65535) rt.tooLong(${cls});`);
  if (lenAt >= 0 && fixedSize(s, version) === undefined) {
    c.push(`w.dv.setUint16(w.start + s0 + ${lenAt}, w.p - w.start - s0);`);
  }
  if (s.options.padTo8 === 'outside') c.push(pad);
  c.push('}');
  return c.join('\n');
}

export function familyEncoderSource(f: AnyFamily, version: Version): string {
  const all = [...f.members, ...f.unknowns].filter((m) => holds(m, version));
  const cases = all.map((m) => `case ${q(m.cls)}: return enc_${m.cls}(o, w);`);
  return `function encF_${f.name}(o, w, cls, field) { switch (o == null ? undefined : o.cls) {
${cases.join('\n')}
default: rt.badMember(o, ${q(f.name)}, cls, field); } }`;
}
