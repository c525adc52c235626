/**
 * The JSON of a message as Ryu prints it when it has read the same bytes. That is `toJson`, but for the few places where
 * Ryu's readers know less than its classes: what it leaves out when it reads is left out here as well, so that the lines
 * of `ofdump --json` can be compared with `to_jsondict`.
 */
import { type Json, type OfMessage, of13, toJson } from 'node-openflow';

/** Messages of ONF extensions for 1.3 that Ryu can write, and reads as messages of an unknown experimenter. */
const READ_AS_EXPERIMENTER: readonly string[] = [
  'ONFBundleAddMsg',
  'ONFFlowMonitorCancel',
  'ONFFlowMonitorPaused',
  'ONFFlowMonitorResumed',
];

/** `bytes` are what `msg` was decoded from. */
export function ryuJson(msg: OfMessage, bytes: Buffer): Json {
  if (READ_AS_EXPERIMENTER.includes(msg.cls)) {
    const [experimenter, exp_type] = [bytes.readUInt32BE(8), bytes.readUInt32BE(12)];
    return toJson(of13.OFPExperimenter({ experimenter, exp_type, data: bytes.subarray(16) }));
  }
  if (msg.cls === 'ONFFlowMonitorStatsReply') {
    const [experimenter, exp_type] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
    const body = of13.OFPExperimenterMultipart({ experimenter, exp_type, data: bytes.subarray(24) });
    return toJson(of13.OFPExperimenterStatsReply({ flags: msg.flags, body }));
  }
  if (msg.cls === 'OFPHello') {
    // elements came with 1.3, and only the bitmap is read
    if (msg.version < 4) return { OFPHello: {} };
    return toJson({ ...msg, elements: msg.elements.filter((e) => e.cls === 'OFPHelloElemVersionBitmap') } as OfMessage);
  }
  if (msg.cls === 'OFPPacketIn' && msg.data.length > msg.total_len) {
    // some switches pad the packet
    return toJson({ ...msg, data: msg.data.subarray(0, msg.total_len) } as OfMessage);
  }
  const json = toJson(msg);
  return msg.version === 3 ? withoutExperimenters(json) : json;
}

/** Ryu's 1.2 knows no actions of experimenters, and keeps nothing of them but the header. */
function withoutExperimenters(json: Json): Json {
  if (Array.isArray(json)) return json.map(withoutExperimenters);
  if (typeof json !== 'object' || json === null) return json;
  const out: Record<string, Json> = {};
  for (const [name, v] of Object.entries(json)) {
    if (/^(NXAction|OFPActionExperimenter)/.test(name)) {
      const { experimenter, len, type } = v as Record<string, Json>;
      out.OFPActionExperimenter = { experimenter, len, type } as Json;
    } else {
      out[name] = withoutExperimenters(v);
    }
  }
  return out;
}
