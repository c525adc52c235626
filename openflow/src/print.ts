/**
 * Messages as text for people, in the spirit of `ovs-ofctl ofp-print`. A printer that knows nothing of a class shows all
 * of its fields, with numbers by their symbolic names where printNumbers.ts says which constants they are; matches,
 * actions, instructions and flows have the forms of ovs-fields(7) and ovs-actions(7). Nothing is left out but zeros that
 * mean "none" in flows. packet.ts adds a line about the packet in a packet-in or packet-out.
 */
import type { OfMessage } from './messages.ts';
import { errorText, namesOf } from './names.ts';
import { describePacket } from './packet.ts';
import { attributes, flowActions, flowMatch, objectText, unless, valueText, words } from './printActions.ts';
import { matchText } from './printMatch.ts';
import { bytesHex, flags, hex, type Obj, port, symbol, versionName } from './printNumbers.ts';

const NO_BUFFER = 0xffffffff;

function flowFlags(version: number, v: unknown): string | undefined {
  if (typeof v !== 'number' || v === 0) return undefined;
  return flags(version, 'OFPFF_', v).toLowerCase().split('|').join(' ');
}

function flowModText(o: Obj, version: number): string {
  // Nicira's flow mods may have the table in the upper byte
  const number = Number(o.command) & 0xff;
  const table = Number(o.command) > 0xff ? Number(o.command) >> 8 : o.table_id;
  const command = namesOf(version, 'OFPFC_').get(number) ?? `command ${number}`;
  const deletes = /^DELETE/.test(command);
  const anyPort = version === 1 || o.cls === 'NXTFlowMod' ? 0xffff : 0xffffffff;
  return words(
    command,
    unless(table, 0, (v) => (v === 255 ? 'table=ALL' : `table=${String(v)}`)),
    flowMatch(o, version),
    o.cookie_mask !== undefined && o.cookie_mask !== 0n
      ? `cookie=${hex(o.cookie as bigint)}/${hex(o.cookie_mask as bigint)}`
      : unless(o.cookie, 0n, (v) => `cookie=${hex(v as bigint)}`),
    unless(o.idle_timeout, 0, (v) => `idle_timeout=${String(v)}`),
    unless(o.hard_timeout, 0, (v) => `hard_timeout=${String(v)}`),
    unless(o.importance, 0, (v) => `importance=${String(v)}`),
    unless(o.buffer_id, NO_BUFFER, (v) => `buffer_id=${hex(v as number)}`),
    // without a delete they mean nothing, and libraries differ in what they write there
    deletes ? unless(o.out_port, anyPort, (v) => `out_port=${port(version, v)}`) : undefined,
    deletes ? unless(o.out_group, 0xffffffff, (v) => `out_group=${symbol(version, 'OFPG_', Number(v))}`) : undefined,
    flowFlags(version, o.flags),
    flowActions(o, version),
  );
}

function durationText(o: Obj): string {
  const nsec = Number(o.duration_nsec ?? 0);
  const fraction = String(nsec)
    .padStart(9, '0')
    .replace(/0{1,8}$/, '');
  return `duration=${String(o.duration_sec)}.${fraction}s`;
}

function flowStatsText(o: Obj, version: number): string {
  return words(
    // statistics of 1.5 have none, its descriptions of flows do
    o.cookie === undefined ? undefined : `cookie=${hex(o.cookie as bigint)}`,
    `table=${String(o.table_id)}`,
    o.duration_sec === undefined ? undefined : durationText(o),
    o.packet_count === undefined ? undefined : `n_packets=${String(o.packet_count)}`,
    o.byte_count === undefined ? undefined : `n_bytes=${String(o.byte_count)}`,
    o.stats === undefined ? undefined : `stats=${objectText(o.stats as Obj, version)}`,
    unless(o.reason, undefined, (v) => `reason=${String(v)}`),
    unless(o.idle_timeout, 0, (v) => `idle_timeout=${String(v)}`),
    unless(o.hard_timeout, 0, (v) => `hard_timeout=${String(v)}`),
    unless(o.importance, 0, (v) => `importance=${String(v)}`),
    // ages are told plus one
    unless(o.idle_age, 0, (v) => `idle_age=${Number(v) - 1}`),
    unless(o.hard_age, 0, (v) => `hard_age=${Number(v) - 1}`),
    flowFlags(version, o.flags),
    flowMatch(o, version, true),
    o.instructions === undefined && o.actions === undefined ? undefined : flowActions(o, version),
  );
}

function packetText(o: Obj, version: number): string {
  const data = o.data ?? o.frame;
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(0);
  const line = words(attributes(o, version, ['data', 'frame', 'xid', 'version']), `data_len=${bytes.length}`);
  if (bytes.length === 0) return line;
  const about = describePacket(bytes);
  return `${line}\n${about === '' ? '' : ` ${about}\n`} ${bytesHex(bytes)}`;
}

function helloText(o: Obj, version: number): string {
  const lines = (o.elements as Obj[]).map((e) =>
    e.cls === 'OFPHelloElemVersionBitmap'
      ? ` version bitmap: ${(e.versions as number[]).map((v) => `0x${v.toString(16).padStart(2, '0')}`).join(', ')}`
      : ` ${objectText(e, version)}`,
  );
  return lines.length === 0 ? '' : `\n${lines.join('\n')}`;
}

function errorMsgText(o: Obj, version: number): string {
  const data = o.data as Uint8Array;
  const experimenter =
    o.experimenter === undefined ? '' : ` experimenter=${hex(Number(o.experimenter))} exp_type=${String(o.exp_type)}`;
  const quoted = data.length === 0 ? '' : `\n ${data.length} bytes of data: ${bytesHex(data)}`;
  return `${errorText(version, Number(o.type), o.code as number | null)}${experimenter}${quoted}`;
}

function echoText(o: Obj): string {
  const data = o.data as Uint8Array;
  return data.length === 0 ? '0 bytes of payload' : `${data.length} bytes of payload: ${bytesHex(data)}`;
}

/** Classes with a form of their own; what they return goes behind the colon. */
const MESSAGES: Readonly<Record<string, (o: Obj, version: number) => string>> = {
  OFPHello: helloText,
  OFPErrorMsg: errorMsgText,
  OFPEchoRequest: echoText,
  OFPEchoReply: echoText,
  OFPFlowMod: flowModText,
  OFPPacketIn: packetText,
  OFPPacketOut: packetText,
  NXTFlowMod: flowModText,
  NXTPacketIn: packetText,
};
/** The same for elements of a body. */
const ELEMENTS: Readonly<Record<string, (o: Obj, version: number) => string>> = {
  OFPFlowStats: flowStatsText,
  OFPFlowDesc: flowStatsText,
  NXFlowStats: flowStatsText,
};

/** Names of classes that are not the name of the message type. */
const TYPE_NAMES: Readonly<Record<string, string>> = {
  OFPErrorMsg: 'ERROR',
  OFPSwitchFeatures: 'FEATURES_REPLY',
  OFPBundleCtrlMsg: 'BUNDLE_CONTROL',
  OFPBundleAddMsg: 'BUNDLE_ADD_MESSAGE',
  OFPRequestForward: 'REQUESTFORWARD',
};

/** Classes of multipart messages (statistics, before 1.3). */
const STATS = /^(OFP|NX)(\w+?)(?:Stats|(?<=FlowMonitor))(Request|Reply)$|^OFPMultipart/;

function snake(name: string): string {
  return name.replace(/([a-z\d])([A-Z])/g, '$1_$2').toUpperCase();
}

/** `OFPT_FLOW_MOD`, `OFPST_FLOW reply`. */
function typeName(o: Obj): string {
  const { cls } = o;
  const known = TYPE_NAMES[cls];
  if (known !== undefined) return `OFPT_${known}`;
  if (cls === 'OFPUnknownMessage') return `message of type ${String(o.msg_type)}`;
  const unknown = /^OFP(?:Multipart|Stats)(Request|Reply)Unknown$/.exec(cls);
  if (unknown !== null) return `OFPST_${String(o.type)} ${(unknown[1] as string).toLowerCase()}`;
  const stats = STATS.exec(cls);
  if (stats?.[2] !== undefined) {
    return `${stats[1] === 'NX' ? 'NXST' : 'OFPST'}_${snake(stats[2] as string)} ${(stats[3] as string).toLowerCase()}`;
  }
  if (cls.startsWith('OFP')) return `OFPT_${snake(cls.slice(3))}`;
  const extension = /^(NXT|ONF)(\w+)$/.exec(cls);
  return extension === null ? cls : `${extension[1]}_${snake(extension[2] as string)}`;
}

function isMessage(v: unknown): v is OfMessage {
  return typeof v === 'object' && v !== null && 'cls' in v && 'xid' in v && 'version' in v;
}

function indent(text: string): string {
  return ` ${text.replaceAll('\n', '\n ')}`;
}

/** Scalars behind the colon, structures and messages on lines of their own. */
function genericText(o: Obj, version: number): string {
  const head: string[] = [];
  const lines: string[] = [];
  const side = /Request/.test(o.cls) ? 'REQ_' : 'REPLY_';
  const multipart = STATS.test(o.cls) ? `${version < 4 ? 'OFPSF' : 'OFPMPF'}_${side}` : undefined;
  const element = (e: Obj) => (ELEMENTS[e.cls] ?? ((x: Obj, n: number) => attributes(x, n)))(e, version);
  for (const [name, v] of Object.entries(o)) {
    if (name === 'cls' || name === 'version' || name === 'xid' || v === undefined || v === null) continue;
    if (name === 'flags' && multipart !== undefined) {
      if (v !== 0) head.push(`flags=${flags(version, multipart, Number(v))}`);
    } else if (isMessage(v)) {
      lines.push(indent(format(v)));
    } else if (Array.isArray(v) && typeof v[0] === 'object' && name !== 'actions' && name !== 'instructions') {
      for (const e of v as Obj[]) {
        const inner = name === 'body' || name === 'ports' || name === 'queues' ? element(e) : objectText(e, version);
        lines.push(` ${inner}`);
      }
    } else if (
      (name === 'body' || name === 'desc') &&
      typeof v === 'object' &&
      !Array.isArray(v) &&
      !(v instanceof Uint8Array)
    ) {
      lines.push(` ${element(v as Obj)}`);
    } else if (Array.isArray(v) && v.length === 0) {
      if (name === 'body') lines.push(' (empty)');
    } else if (name === 'match' && (v as Obj).cls === 'OFPMatch') {
      const text = matchText(v as Obj, version);
      if (text !== '') head.push(text);
    } else {
      head.push(`${name}=${valueText(o.cls, name, v, version)}`);
    }
  }
  return [head.join(' '), ...lines].join('\n');
}

/**
 * A message as text: a line that begins with type, version and transaction id, and further lines, each beginning with a
 * space, where there is more to tell. For reading, not for parsing: `toJson` is for that.
 *
 * @example `OFPT_FLOW_MOD (OF1.3) (xid=0x2): ADD priority=7,in_port=1,eth_type=0x0800 actions=output:2`
 */
export function format(msg: OfMessage): string {
  const o = msg as unknown as Obj;
  const { version } = msg;
  const body = (MESSAGES[o.cls] ?? genericText)(o, version);
  const head = `${typeName(o)} (${versionName(version)}) (xid=${hex(msg.xid)}):`;
  if (body === '') return head;
  return body.startsWith('\n') ? head + body : `${head} ${body}`;
}
