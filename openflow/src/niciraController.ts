/**
 * Declaration of the action that sends a packet to a controller with all that came after OpenFlow's own (NXAST_CONTROLLER2
 * of ovs-actions(7)): its properties are all optional, which the language of schema.ts has no word for. niciraActions.ts
 * collects Nicira's actions.
 */
import { BAD_LEN, bad, customAction, uint } from './niciraActionKinds.ts';
import { nicira_ext as nx } from './niciraConstants.ts';
import { fail } from './wire.ts';

/** Sends the packet to a controller. A property that is not there has the switch's default. */
export interface Controller2 {
  cls: 'NXActionController2';
  max_len?: number;
  controller_id?: number;
  reason?: number;
  userdata?: number[];
  pause?: true;
  meter_id?: number;
}
export interface Controller2Input {
  readonly max_len?: number | undefined;
  readonly controller_id?: number | undefined;
  readonly reason?: number | undefined;
  /** Bytes for the controller's own use. */
  readonly userdata?: readonly number[] | undefined;
  /** Stop processing until the controller resumes it. */
  readonly pause?: true | undefined;
  readonly meter_id?: number | undefined;
}
/** Its numbers, with their property types and their sizes in bytes. */
const CONTROLLER2_NUMBERS = [
  ['max_len', nx.NXAC2PT_MAX_LEN, 2],
  ['controller_id', nx.NXAC2PT_CONTROLLER_ID, 2],
  ['reason', nx.NXAC2PT_REASON, 1],
  ['meter_id', nx.NXAC2PT_METER_ID, 4],
] as const;
/** Lengths that properties of numbers tell: Open vSwitch counts the padding of 16 bits, and that of 8 bits not. */
const CONTROLLER2_LENGTHS = { 1: 5, 2: 8, 4: 8 } as const;

export const NXActionController2 = customAction<'NXActionController2', Controller2, Controller2Input>(
  'NXActionController2',
  nx.NXAST_CONTROLLER2,
  {
    encode(o, w) {
      const c = o as Controller2;
      w.zeros(6);
      const number = ([name, type, size]: (typeof CONTROLLER2_NUMBERS)[number]): void => {
        if (c[name] === undefined) return;
        const v = uint(c[name], size === 1 ? 8 : size === 2 ? 16 : 32, c.cls, name);
        w.zeros(8);
        const at = w.p - 8;
        w.dv.setUint16(at, type);
        w.dv.setUint16(at + 2, CONTROLLER2_LENGTHS[size]);
        w.b.writeUIntBE(v, at + 4, size);
      };
      for (const n of CONTROLLER2_NUMBERS) if (n[0] !== 'meter_id') number(n);
      if (c.userdata !== undefined) {
        if (!Array.isArray(c.userdata) || c.userdata.length > 0xffff) bad(c.cls, 'userdata', c.userdata, 'bytes');
        const data = Buffer.from(c.userdata.map((v) => uint(v, 8, c.cls, 'userdata')));
        w.zeros(4);
        w.dv.setUint16(w.p - 4, nx.NXAC2PT_USERDATA);
        w.dv.setUint16(w.p - 2, 4 + data.length);
        w.bytes(data);
        w.zeros((8 - ((4 + data.length) & 7)) & 7);
      }
      if (c.pause !== undefined) {
        if (c.pause !== true) bad(c.cls, 'pause', c.pause, 'true');
        w.zeros(8);
        w.dv.setUint16(w.p - 8, nx.NXAC2PT_PAUSE);
        w.dv.setUint16(w.p - 6, 4);
      }
      for (const n of CONTROLLER2_NUMBERS) if (n[0] === 'meter_id') number(n);
    },
    decode(r, p, end) {
      const c: Controller2 = { cls: 'NXActionController2' };
      let last = -1;
      for (let at = p + 6; at < end; ) {
        const n = end - at < 4 ? 0 : r.dv.getUint16(at + 2);
        if (n < 4 || n > end - at) fail(r, at, 'property of NXActionController2 cut short', ...BAD_LEN);
        const type = r.dv.getUint16(at);
        // What comes twice, out of order, or is not known would be lost.
        if (type <= last) return undefined;
        last = type;
        const number = CONTROLLER2_NUMBERS.find(([, t]) => t === type);
        if (number !== undefined) {
          const [name, , size] = number;
          if (n !== CONTROLLER2_LENGTHS[size] || end - at < 8) return undefined;
          c[name] = r.b.readUIntBE(at + 4 - r.base, size);
        } else if (type === nx.NXAC2PT_USERDATA) {
          c.userdata = [...r.b.subarray(at + 4 - r.base, at + n - r.base)];
        } else if (type === nx.NXAC2PT_PAUSE && n === 4) {
          c.pause = true;
        } else {
          return undefined;
        }
        at += (n + 7) & ~7;
        if (at > end) return undefined;
      }
      return c;
    },
    toJson(o) {
      const { cls: _, ...attributes } = o as Controller2;
      return attributes;
    },
    fromJson({ type: _t, len: _l, experimenter: _e, vendor: _v, subtype: _s, ...attributes }) {
      return attributes;
    },
    make(input) {
      const made: Record<string, unknown> = { cls: 'NXActionController2' };
      for (const name of ['max_len', 'controller_id', 'reason', 'userdata', 'pause', 'meter_id'] as const) {
        const v = (input as Controller2Input)[name];
        if (v !== undefined && v !== null) made[name] = Array.isArray(v) ? [...v] : v;
      }
      return made;
    },
  },
);
