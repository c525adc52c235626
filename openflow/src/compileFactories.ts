/**
 * The part of the compiler (compile.ts) that writes factories: functions `make_<class>(input)`, as JavaScript source.
 * runtime.ts has what they call by `rt`; factories.ts has what callers see of them.
 */
import { q, slotsOf } from './layout.ts';
import type { AnyStruct, Version } from './schema.ts';

export function makerSource(s: AnyStruct, version: Version): string {
  const cls = q(s.cls);
  const props: string[] = [`cls: ${cls}`];
  for (const slot of slotsOf(s, version)) {
    const { name, kind, field } = slot;
    if (name === '' || field?.presence === 'hidden') continue;
    const v = `i.${name}`;
    const or = (dflt: string, convert: string) =>
      field?.presence === 'required' ? `${name}: ${convert}` : `${name}: ${v} === undefined ? ${dflt} : ${convert}`;
    const dflt = field?.except?.versions.includes(version) === true ? field.except.dflt : field?.dflt;
    if (field === undefined) {
      props.push(or(name === 'version' ? String(version) : '0', v));
    } else if (kind.t === 'uint' || kind.t === 'tail' || kind.t === 'headed') {
      props.push(or(String(dflt), v));
    } else if (kind.t === 'u64') {
      props.push(or(`${dflt}n`, `rt.u64(${v}, ${cls}, ${q(name)})`));
    } else if (kind.t === 'mac' || kind.t === 'ipv4') {
      props.push(or(q(dflt), `rt.${kind.t}(${v}, ${cls}, ${q(name)})`));
    } else if (kind.t === 'str' || kind.t === 'text') {
      props.push(or('""', v));
    } else if (kind.t === 'match' && field.presence === 'optional') {
      props.push(or(`rt.OFPMatch({}, ${version})`, v));
    } else if (kind.t === 'stats') {
      props.push(or('rt.OFPStats()', v));
    } else if (kind.t === 'oxms') {
      props.push(or('[]', `rt.normaliseOxms(rt.list(${v}, ${cls}, ${q(name)}), ${cls}, ${version})`));
    } else if (kind.t === 'message' && kind.xid === 'outer') {
      props.push(`${name}: rt.withXid(${v}, i.xid)`);
    } else if (kind.t === 'bytes') {
      props.push(or('rt.none', `rt.buffer(${v}, ${cls}, ${q(name)})`));
    } else if (kind.t === 'list' || kind.t === 'family' || kind.t === 'either') {
      props.push(or('[]', `rt.list(${v}, ${cls}, ${q(name)}).slice()`));
    } else if (kind.t === 'uints') {
      const none = kind.count === undefined ? '[]' : `[${new Array(kind.count).fill(0).join(', ')}]`;
      props.push(or(none, `rt.list(${v}, ${cls}, ${q(name)}).slice()`));
    } else if (kind.t === 'oxmHeader' && field.presence === 'optional') {
      props.push(or("''", v));
    } else if (kind.t === 'bitmap') {
      props.push(`${name}: rt.list(${v}, ${cls}, ${q(name)}).slice()`);
    } else if (kind.t === 'struct') {
      props.push(or(`make_${kind.of.cls}(undefined)`, v));
    } else {
      props.push(`${name}: ${v}`);
    }
  }
  const fields = s.options.toFields === undefined ? '' : `i = rt.toFields.get(${cls})(i);`;
  return `function make_${s.cls}(i) { if (i === undefined) i = rt.nothing; ${fields} return { ${props.join(', ')} }; }`;
}
