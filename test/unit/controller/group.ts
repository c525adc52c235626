/**
 * A star of hypervisors around one switch, in memory, whose copies advance with the slices that the core gives them: for
 * tests of plans that are carried out. Beside `fabric.ts`, which has the switches.
 */
import type { GuestInfo } from '../../../contracts/agent.ts';
import { DEFAULT_POLICY, type PolicyDocument } from '../../../contracts/policy.ts';
import type { MigrateRequest } from '../../../contracts/rest.ts';
import type { Job } from '../../../controller/core/state.ts';
import { CORE, Fabric, LOCAL, UPLINK } from './fabric.ts';

export interface StarGuest {
  name: string;
  host: number;
  memoryMiB: number;
  labels?: Record<string, string>;
}

const dpidOf = (host: number) => host.toString(16).padStart(16, '0');
const ipOf = (host: number) => `10.0.0.${host}`;
const STEP_MS = 500;

interface Copy {
  id: string;
  guest: string;
  from: number;
  to: number;
  leftBytes: number;
  sentBytes: number;
  rateBps: number;
}

export class Star {
  readonly fabric: Fabric;
  readonly guests = new Map<string, GuestInfo & { host: number }>();
  /** Workload leaving each host's uplink, Mbit/s. */
  readonly workload = new Map<number, number>();
  readonly copies = new Map<string, Copy>();
  /** Ids of copies in the order in which they began and ended. */
  readonly began: string[] = [];
  readonly ended: string[] = [];
  capacityBps: number;
  readonly hosts: number;

  constructor(
    hosts: number,
    guests: readonly StarGuest[],
    o: { capacityMbps?: number; memoryMiB?: number; policy?: PolicyDocument } = {},
  ) {
    this.hosts = hosts;
    this.capacityBps = (o.capacityMbps ?? 1000) * 1e6;
    this.fabric = new Fabric({ policy: o.policy ?? DEFAULT_POLICY, capacityBps: this.capacityBps });
    const f = this.fabric;
    for (let h = 1; h <= hosts; h++) {
      const taps = Object.fromEntries(guests.map((_g, i) => [10 + i, `tap${i}`]));
      f.addSwitch(dpidOf(h), { [UPLINK]: 'up', ...taps, [LOCAL]: 'br0' });
    }
    f.addSwitch(CORE, Object.fromEntries(Array.from({ length: hosts }, (_x, i) => [i + 1, `to-hv${i + 1}`])));
    for (let h = 1; h <= hosts; h++) f.cable(dpidOf(h), UPLINK, CORE, h);
    for (const [i, g] of guests.entries()) {
      const mac = `52:54:00:00:00:${(i + 1).toString(16).padStart(2, '0')}`;
      this.guests.set(g.name, {
        host: g.host,
        state: 'running',
        portName: `tap${i}`,
        spec: {
          name: g.name,
          mac,
          memoryMiB: g.memoryMiB,
          vcpus: 1,
          machine: 'pc',
          accel: 'emulated',
          ...(g.labels === undefined ? {} : { labels: g.labels }),
        },
      });
    }
    for (let h = 1; h <= hosts; h++) f.connect(dpidOf(h));
    f.connect(CORE);
    f.pass(2500);
    f.answer = (_host, c) => {
      if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 0 } };
      if (c.do === 'prepare') {
        const job = f.state.jobs.get(c.migration) as Job;
        const number = 49152 + job.number;
        const host = Number(job.to.slice(2));
        return { value: { address: ipOf(host), port: number, portName: this.guests.get(job.guest)?.portName } };
      }
      if (c.do === 'start') this.#begin(c.migration, c.bandwidthBps);
      if (c.do === 'setBandwidth') {
        const copy = this.copies.get(c.migration);
        if (copy) copy.rateBps = c.bandwidthBps;
      }
      return { value: {} };
    };
    for (let h = 1; h <= hosts; h++) {
      f.send({
        kind: 'agentUp',
        host: `hv${h}`,
        hello: {
          type: 'hello',
          protocol: 'fairway-agent/1',
          host: `hv${h}`,
          dpid: dpidOf(h),
          migrationIp: ipOf(h),
          migrationPort: 'br0',
          driver: 'emulated',
          techniques: ['pre-copy', 'post-copy', 'hybrid'],
          guests: this.#at(h),
          migrations: [],
          ...(o.memoryMiB === undefined ? {} : { guestMemoryMiB: o.memoryMiB }),
        },
      });
    }
    for (let i = 0; i < 3; i++) this.pass();
  }

  #at(host: number): GuestInfo[] {
    return [...this.guests.values()]
      .filter((g) => g.host === host)
      .map(({ spec, state, portName }) => ({ spec, state, portName }));
  }

  #begin(id: string, rateBps: number): void {
    const job = this.fabric.state.jobs.get(id) as Job;
    const [from, to] = [Number(job.from.slice(2)), Number(job.to.slice(2))];
    this.began.push(id);
    this.copies.set(id, {
      id,
      guest: job.guest,
      from,
      to,
      rateBps,
      leftBytes: job.spec.memoryMiB * 2 ** 20,
      sentBytes: 0,
    });
  }

  ask(request: Omit<MigrateRequest, 'priority'> & Partial<MigrateRequest>): string[] {
    const ids = request.moves.map((m) => `m-${m.guest}`);
    this.fabric.send({
      kind: 'migrate',
      request: { priority: 'medium', ...request },
      ids,
      group: ids.length > 1 ? 'g' : null,
    });
    return ids;
  }

  job(id: string): Job {
    const job = this.fabric.state.jobs.get(id);
    if (!job) throw new Error(`no job ${id}`);
    return job;
  }

  /** All links have another capacity from now on, as when switches are told so. */
  setCapacity(mbps: number): void {
    this.capacityBps = mbps * 1e6;
    const f = this.fabric;
    const { settings } = f.state;
    f.state = { ...f.state, settings: { ...settings, capacityOf: () => this.capacityBps } };
    for (const dpid of f.switches.keys()) {
      f.disconnect(dpid);
      f.connect(dpid);
    }
    f.pass(50);
  }

  /** Half a second passes: copies advance, counters are read. */
  pass(): void {
    const f = this.fabric;
    const rates: Record<string, { tx: number; sliced: number }> = {};
    const load = (link: string, mbps: number, isSlice: boolean) => {
      const r = rates[link] ?? { tx: 0, sliced: 0 };
      rates[link] = { tx: r.tx + mbps, sliced: r.sliced + (isSlice ? mbps : 0) };
    };
    for (const [h, mbps] of this.workload) load(`${dpidOf(h)}:${UPLINK}`, mbps, false);
    for (const c of this.copies.values()) {
      load(`${dpidOf(c.from)}:${UPLINK}`, c.rateBps / 1e6, true);
      load(`${CORE}:${c.to}`, c.rateBps / 1e6, true);
      const bytes = Math.min(c.leftBytes, (c.rateBps / 8000) * STEP_MS);
      c.leftBytes -= bytes;
      c.sentBytes += bytes;
    }
    f.pass(STEP_MS, rates);
    for (const c of [...this.copies.values()]) {
      const event = (host: number, event: 'preSwitchover' | 'resumed' | 'completed') =>
        f.send({ kind: 'agentMessage', host: `hv${host}`, message: { type: 'event', migration: c.id, event } });
      if (c.leftBytes > 0) {
        f.send({
          kind: 'agentMessage',
          host: `hv${c.from}`,
          message: {
            type: 'progress',
            migration: c.id,
            progress: {
              phase: 'pre-copy',
              elapsedMs: 1,
              transferredBytes: c.sentBytes,
              remainingBytes: c.leftBytes,
              totalBytes: c.sentBytes + c.leftBytes,
              passes: 1,
              rateBps: c.rateBps,
              dirtyBytesPerS: 0,
            },
          },
        });
        continue;
      }
      this.copies.delete(c.id);
      event(c.from, 'preSwitchover');
      const g = this.guests.get(c.guest);
      if (g) g.host = c.to;
      event(c.to, 'resumed');
      event(c.from, 'completed');
      this.ended.push(c.id);
      for (const h of [c.from, c.to])
        f.send({ kind: 'agentMessage', host: `hv${h}`, message: { type: 'guests', guests: this.#at(h) } });
    }
  }

  /** Lets time pass until all jobs have ended, or for so long. */
  run(seconds: number, each: () => void = () => {}): void {
    for (let i = 0; i < seconds * 2; i++) {
      this.pass();
      each();
      if ([...this.fabric.state.jobs.values()].every((j) => ['done', 'failed', 'cancelled'].includes(j.state))) return;
    }
  }
}
