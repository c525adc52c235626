/**
 * Switches and cables for the property of the whole core, without a packet in them: a switch keeps the flows, meters and groups
 * it was told, its ports count, and what happens at it waits in its channel until the world delivers it. Beside `hosts.ts`,
 * which has the agents; `world.ts` puts both together.
 */
import { matchKey, type OfMessage, ofproto_v1_3 as ofp } from 'node-openflow';
import { cookieFor, FEATURE, type Feature, parseCookie } from '../../../controller/core/cookies.ts';
import type { Event, PortDescription } from '../../../controller/core/events.ts';
import { type Flow, flow, type Group, groupFound } from '../../../controller/core/flows.ts';
import { TAG_BYTES } from '../../../controller/core/packets.ts';

const LOCAL = 0xfffffffe;
/** First number of the ports that tunnels get. */
const TUNNEL_PORTS = 200;
const MAX_METERS = 65_535;

type FlowMod = Extract<OfMessage<4>, { cls: 'OFPFlowMod' }>;
type GroupMod = Extract<OfMessage<4>, { cls: 'OFPGroupMod' }>;

export interface PortState {
  name: string;
  isUp: boolean;
  speedBps: number;
  /** Workload, bit/s. */
  txBps: number;
  rxBps: number;
  txBytes: number;
  rxBytes: number;
  /** Of migrations, by queue. */
  queued: Map<number, number>;
}

/** What becomes of the next write. */
export type WriteFate = 'applied' | 'refused' | 'full' | 'lost';

export interface SwitchModel {
  dpid: string;
  ports: Map<number, PortState>;
  hasMeters: boolean;
  hasGroups: boolean;
  /** Connections to the controller so far, and the latest that the core has been told of: between the two, writes are lost. */
  session: number;
  toldSession: number;
  isConnected: boolean;
  /** It does not answer requests for counters. */
  isSilent: boolean;
  fate: WriteFate;
  /** A write was lost: the connection is of no use any more. */
  isStuck: boolean;
  flows: Map<string, FlowMod>;
  meters: Set<number>;
  groups: Map<number, GroupMod>;
  /** Bytes and packets by cookie. */
  counted: Map<bigint, { bytes: number; packets: number }>;
  countedMs: number;
}

/** A seal that costs nothing; the same key for all, an instance of its own for each life of the controller. */
export function cheapSeal(life: number) {
  const instance = Buffer.alloc(8, life + 1);
  const sign = (data: Buffer) => {
    let h = 0x811c9dc5;
    for (let i = 0; i < data.length; i++) h = Math.imul(h ^ (data[i] as number), 0x01000193);
    const tag = Buffer.alloc(TAG_BYTES);
    tag.writeInt32BE(h | 0);
    return tag;
  };
  return { instance, sign, verify: (data: Buffer, tag: Buffer) => sign(data).equals(tag) };
}

export class Network {
  readonly switches = new Map<string, SwitchModel>();
  readonly cables = new Map<string, string>();
  /** Ends of cables that lose everything while their ports stay up. */
  readonly deaf = new Set<string>();
  /** Which connection an event announces. */
  readonly sessions = new WeakMap<Event, number>();
  readonly #push: (channel: string, e: Event) => void;
  readonly #now: () => number;

  constructor(push: (channel: string, e: Event) => void, now: () => number) {
    this.#push = push;
    this.#now = now;
  }

  add(dpid: string, ports: readonly (readonly [number, string, number])[], has: { meters: boolean; groups: boolean }) {
    const state = (name: string, speedBps: number): PortState => ({
      ...{ name, isUp: true, speedBps, txBps: 0, rxBps: 0, txBytes: 0, rxBytes: 0 },
      queued: new Map(),
    });
    this.switches.set(dpid, {
      dpid,
      ports: new Map(ports.map(([no, name, speed]) => [no, state(name, speed)])),
      hasMeters: has.meters,
      hasGroups: has.groups,
      session: 0,
      toldSession: -1,
      isConnected: false,
      isSilent: false,
      fate: 'applied',
      isStuck: false,
      flows: new Map(),
      meters: new Set(),
      groups: new Map(),
      counted: new Map(),
      countedMs: this.#now(),
    });
  }

  cable(a: string, b: string): void {
    this.cables.set(a, b);
    this.cables.set(b, a);
  }

  at(link: string): { s: SwitchModel; portNo: number; port: PortState } | undefined {
    const at = link.lastIndexOf(':');
    const s = this.switches.get(link.slice(0, at));
    const portNo = Number(link.slice(at + 1));
    const port = s?.ports.get(portNo);
    return s && port ? { s, portNo, port } : undefined;
  }

  describe(s: SwitchModel, portNo: number): PortDescription {
    const p = s.ports.get(portNo) as PortState;
    const hwAddr = `0e:00:00:00:${s.dpid.slice(-2)}:${(portNo & 0xff).toString(16).padStart(2, '0')}`;
    return { portNo, name: p.name, hwAddr, isUp: p.isUp, speedBps: p.speedBps };
  }

  connect(s: SwitchModel, isRestarted = false): void {
    if (s.isConnected) this.disconnect(s);
    s.session++;
    s.isConnected = true;
    s.fate = 'applied';
    s.isStuck = false;
    if (isRestarted) for (const table of [s.flows, s.meters, s.groups, s.counted]) table.clear();
    const up: Event = {
      kind: 'switchUp',
      dpid: s.dpid,
      ports: [...s.ports.keys()].map((no) => this.describe(s, no)),
      maxMeters: s.hasMeters ? MAX_METERS : 0,
      ...(s.hasGroups ? { groupAbility: { select: true, failover: true } } : {}),
      ...this.holds(s),
    };
    this.sessions.set(up, s.session);
    this.#push(s.dpid, up);
  }

  disconnect(s: SwitchModel): void {
    if (!s.isConnected) return;
    s.isConnected = false;
    this.#push(s.dpid, { kind: 'switchDown', dpid: s.dpid });
  }

  holds(s: SwitchModel): { flows: Flow[]; meterIds: number[]; groups: Group[] } {
    const found = (m: FlowMod) =>
      flow({
        ...{ table: m.table_id, priority: m.priority, match: m.match, instructions: m.instructions },
        cookie: m.cookie,
      });
    return {
      flows: [...s.flows.values()].map(found),
      meterIds: [...s.meters],
      groups: [...s.groups.values()].map(groupFound),
    };
  }

  /** Whether the core and the switch mean the same connection. */
  isInTouch = (s: SwitchModel): boolean => s.isConnected && s.toldSession === s.session;

  write(dpid: string, batch: number, messages: readonly OfMessage<4>[]): void {
    const s = this.switches.get(dpid) as SwitchModel;
    const done = { kind: 'written' as const, dpid, batch, errors: [] as string[] };
    if (!this.isInTouch(s)) {
      this.#push(dpid, { ...done, outcome: 'unknown' });
      return;
    }
    const { fate } = s;
    s.fate = 'applied';
    s.isStuck ||= fate === 'lost';
    if (s.isStuck) return;
    const count = fate === 'applied' ? messages.length : Math.floor(messages.length / 2);
    for (const m of messages.slice(0, count)) apply(s, m);
    if (fate === 'applied') this.#push(dpid, { ...done, outcome: 'applied' });
    else {
      const isTableFull = fate === 'full';
      const errors = [isTableFull ? '5/1' : '5/0'];
      this.#push(dpid, { ...done, errors, outcome: 'refused', isTableFull, holds: this.holds(s) });
    }
  }

  /** A frame that a switch was told to send goes over the cable, if there is anybody to report it. */
  packetOut(dpid: string, portNo: number, frame: Buffer): void {
    const from = `${dpid}:${portNo}`;
    const here = this.at(from);
    const to = this.cables.get(from);
    if (!here?.port.isUp || to === undefined || this.deaf.has(from) || !this.isInTouch(here.s)) return;
    const far = this.at(to);
    if (far?.port.isUp && far.s.isConnected)
      this.#push(far.s.dpid, { kind: 'packetIn', dpid: far.s.dpid, inPort: far.portNo, frame });
  }

  /** Both ports of a cable go down or come up. */
  setCable(end: string, isUp: boolean): void {
    for (const id of [end, this.cables.get(end) ?? end]) {
      const at = this.at(id);
      if (!at || at.port.isUp === isUp) continue;
      at.port.isUp = isUp;
      this.tellPort(at.s, at.portNo, 'modified');
    }
  }

  tellPort(s: SwitchModel, portNo: number, change: 'added' | 'modified' | 'removed'): void {
    if (s.isConnected)
      this.#push(s.dpid, { kind: 'portChanged', dpid: s.dpid, change, port: this.describe(s, portNo) });
  }

  setTunnel(dpid: string, name: string, isWanted: boolean): void {
    const s = this.switches.get(dpid) as SwitchModel;
    const had = [...s.ports].find(([, p]) => p.name === name)?.[0];
    if (isWanted && had === undefined) {
      let portNo = TUNNEL_PORTS;
      while (s.ports.has(portNo)) portNo++;
      s.ports.set(portNo, {
        ...{ name, isUp: true, speedBps: 0, txBps: 0, rxBps: 0, txBytes: 0, rxBytes: 0 },
        queued: new Map(),
      });
      const back = `fwt${dpid.slice(-12)}`;
      const far = [...this.switches.values()].find((x) => name === `fwt${x.dpid.slice(-12)}`);
      const there = [...(far?.ports ?? [])].find(([, p]) => p.name === back)?.[0];
      if (far && there !== undefined) this.cable(`${dpid}:${portNo}`, `${far.dpid}:${there}`);
      this.tellPort(s, portNo, 'added');
    } else if (!isWanted && had !== undefined) {
      this.tellPort(s, had, 'removed');
      s.ports.delete(had);
      const far = this.cables.get(`${dpid}:${had}`);
      this.cables.delete(`${dpid}:${had}`);
      if (far !== undefined) this.cables.delete(far);
    }
  }

  /** A migration's bytes pass by the links of its way, as far as there are cables. */
  carry(
    bytes: number,
    job: { number: number; links: readonly string[]; dpids: readonly string[] },
    queue: number,
  ): void {
    for (const link of job.links) {
      const at = this.at(link);
      if (!at) continue;
      at.port.txBytes += bytes;
      at.port.queued.set(queue, (at.port.queued.get(queue) ?? 0) + bytes);
      const far = this.at(this.cables.get(link) ?? '');
      if (far) far.port.rxBytes += bytes;
    }
    const cookie = cookieFor(FEATURE.stream, job.number);
    for (const dpid of job.dpids) {
      const counted = this.switches.get(dpid)?.counted;
      const c = counted?.get(cookie) ?? { bytes: 0, packets: 0 };
      counted?.set(cookie, { bytes: c.bytes + bytes, packets: c.packets + 1 });
    }
  }

  /** Workload of all ports from now on, as shares of their speed; `draw` gives numbers from 0 to 1. */
  setWorkload(draw: () => number, most: number): void {
    for (const s of this.switches.values()) {
      this.#count(s);
      for (const p of s.ports.values()) {
        p.txBps = draw() * draw() * most * p.speedBps;
        p.rxBps = draw() * draw() * most * p.speedBps;
      }
    }
  }

  #count(s: SwitchModel): void {
    const ms = this.#now() - s.countedMs;
    s.countedMs = this.#now();
    for (const p of s.ports.values()) {
      p.txBytes += (p.txBps * ms) / 8000;
      p.rxBytes += (p.rxBps * ms) / 8000;
    }
  }

  /** Counters of a switch as they are now, on their way to the controller. */
  read(s: SwitchModel): void {
    this.#count(s);
    if (!s.isConnected || s.isSilent) return;
    const held = new Set([...s.flows.values()].map((m) => m.cookie));
    this.#push(s.dpid, {
      kind: 'counters',
      dpid: s.dpid,
      ports: [...s.ports].map(([portNo, p]) => ({
        ...{ portNo, rxBytes: Math.round(p.rxBytes), txBytes: Math.round(p.txBytes) },
      })),
      queues: [...s.ports].flatMap(([portNo, p]) =>
        [...p.queued].map(([queueId, bytes]) => ({ portNo, queueId, txBytes: Math.round(bytes) })),
      ),
      flows: [...held].map((cookie) => {
        const c = s.counted.get(cookie) ?? { bytes: 0, packets: 0 };
        return { cookie, packets: c.packets, bytes: Math.round(c.bytes) };
      }),
    });
  }

  /** Whether a switch holds a flow of this feature and migration. */
  hasFlow(dpid: string, feature: Feature, number: number): boolean {
    const cookie = cookieFor(feature, number);
    return [...(this.switches.get(dpid)?.flows.values() ?? [])].some((m) => m.cookie === cookie);
  }

  /** Features of the flows a switch holds. */
  features(s: SwitchModel): Set<number | undefined> {
    return new Set([...s.flows.values()].map((m) => parseCookie(m.cookie)?.feature));
  }
}

export const LOCAL_PORT = LOCAL;

function apply(s: SwitchModel, m: OfMessage<4>): void {
  if (m.cls === 'OFPFlowMod') {
    const key = `${m.table_id}/${m.priority}/${matchKey(m.match)}`;
    if (m.command === ofp.OFPFC_ADD) s.flows.set(key, m);
    else if (m.command === ofp.OFPFC_DELETE_STRICT) {
      const had = s.flows.get(key);
      if (had && (had.cookie & m.cookie_mask) === (m.cookie & m.cookie_mask)) s.flows.delete(key);
    } else throw new Error(`no such flow-mod is expected: ${m.command}`);
  } else if (m.cls === 'OFPMeterMod') {
    if (m.command === ofp.OFPMC_DELETE) s.meters.delete(m.meter_id);
    else s.meters.add(m.meter_id);
  } else if (m.cls === 'OFPGroupMod') {
    if (m.command === ofp.OFPGC_DELETE) s.groups.delete(m.group_id);
    else s.groups.set(m.group_id, m);
  }
}
