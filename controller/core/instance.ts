/**
 * The network as the planner sees it: a `planning-instance/1` made from the controller's state. Switches are datapaths, the
 * links are those of the migrations' own paths (the network forwards each stream one way), and what the workload leaves to
 * each priority is what `policies/reservation.ts` would give a migration that has the link to itself. Pure. Neighbours:
 * `planning.ts` plans with it, `evacuate.ts` chooses destinations with it.
 */
import type { Priority } from '../../contracts/common.ts';
import type { PlanningInstance, PlanningMigration, PlanningVm } from '../../contracts/plan.ts';
import { linkId } from '../../topology/index.ts';
import { portByName } from './desired.ts';
import { usableBps } from './reserve.ts';
import type { ControllerState } from './state.ts';

const OFPP_LOCAL = 0xfffffffe;
/** A link inside a host limits nothing. */
const UNLIMITED_MBPS = 1e9;
const MBIT = 1e6;

/** What a directed edge of the instance stands for. */
interface Edge {
  a: string;
  b: string;
  /** Id of the directed link; null inside a host. */
  link: string | null;
  capacityMbps: number;
  /** By priority from high to low. */
  usableMbps: readonly number[];
}

/** A migration to be planned. */
export interface PlanItem {
  /** Of the job, or the guest's name where there is none yet. */
  id: string;
  from: string;
  to: string;
  priority: Priority;
  deadlineAtMs: number | null;
  links: readonly string[];
  dpids: readonly string[];
  memoryMiB: number;
  /** What is to be carried, MB, and what is written again within `hotS` seconds. */
  memoryMb: number;
  hotMb: number;
  hotS: number;
  /** It runs already, at this slice; 0 when it has not started. */
  runningBps: number;
}

/** Builds up an instance; `finish` gives the document. */
export class InstanceBuilder {
  readonly #state: ControllerState;
  readonly #nowMs: number;
  readonly #edges = new Map<string, Edge>();
  readonly #switches = new Set<string>();
  readonly #hosts = new Set<string>();
  readonly #vms: PlanningVm[] = [];
  readonly #migrations: PlanningMigration[] = [];
  /** By link id, bit/s by priority. */
  readonly usable = new Map<string, readonly number[]>();

  constructor(state: ControllerState, nowMs: number) {
    this.#state = state;
    this.#nowMs = nowMs;
  }

  host(name: string): void {
    this.#hosts.add(name);
  }

  vm(vm: PlanningVm): void {
    this.#hosts.add(vm.host);
    this.#vms.push(vm);
  }

  migration(item: PlanItem): void {
    this.#hosts.add(item.from).add(item.to);
    const isRunning = item.runningBps > 0;
    this.#vms.push({
      id: item.id,
      host: item.from,
      memory_mb: Math.max(0.001, item.memoryMb),
      size_units: item.memoryMiB,
      ...(item.hotMb > 0 && item.hotS > 0 ? { hot_dirty_mb: item.hotMb, hot_dirty_s: item.hotS } : {}),
      // Who runs has its slice already: reserved beside the floors only, whatever its priority.
      priority: isRunning ? 'high' : item.priority,
    });
    const path = this.path(item.from, item.to, item.links, item.dpids);
    const leftS = item.deadlineAtMs === null ? undefined : Math.max(0.001, (item.deadlineAtMs - this.#nowMs) / 1000);
    this.#migrations.push({
      vm: item.id,
      from: item.from,
      to: item.to,
      path,
      ...(leftS === undefined ? {} : { deadline_s: leftS }),
      ...(isRunning ? { running_mbps: item.runningBps / MBIT } : {}),
    });
  }

  /** The nodes of a path, whose edges become part of the instance. */
  path(from: string, to: string, links: readonly string[], dpids: readonly string[]): string[] {
    const first = dpids[0] as string;
    const last = dpids.at(-1) as string;
    this.#intoFabric(from, first);
    const nodes = [from, first];
    for (let i = 0; i + 1 < dpids.length; i++) {
      const [a, b, link] = [dpids[i] as string, dpids[i + 1] as string, links[i] as string];
      const known = this.#edges.get(`${a} ${b}`);
      if (known !== undefined && known.link !== link) {
        // A second cable between the same switches: a node of its own stands in the middle.
        this.#edge(a, link, link);
        this.#edge(link, b, null);
        this.#switches.add(link);
        nodes.push(link, b);
      } else {
        this.#edge(a, b, link);
        nodes.push(b);
      }
    }
    for (const d of dpids) this.#switches.add(d);
    this.#edge(last, to, links.length === dpids.length ? (links.at(-1) as string) : null);
    return [...nodes, to];
  }

  #intoFabric(host: string, dpid: string): void {
    if (this.#edges.has(`${host} ${dpid}`)) return;
    const agent = this.#state.agents.get(host);
    const at = agent?.migrationPort ? portByName(this.#state.topology, dpid, agent.migrationPort) : undefined;
    if (at === undefined || at.portNo === OFPP_LOCAL) {
      this.#edge(host, dpid, null);
      return;
    }
    // Towards a shared switch nobody reserves; what the host sends besides stays.
    const id = linkId(at);
    const capacityBps = this.#state.topology.capacityBps(id);
    const rate = this.#state.ports.get(id)?.rates.at(-1);
    const left = Math.max(0, capacityBps - (rate?.rxBps ?? 0)) / MBIT;
    const edge: Edge = {
      a: host,
      b: dpid,
      link: null,
      capacityMbps: capacityBps / MBIT,
      usableMbps: [left, left, left],
    };
    this.#edges.set(`${host} ${dpid}`, edge);
  }

  #edge(a: string, b: string, link: string | null): void {
    const key = `${a} ${b}`;
    if (this.#edges.has(key)) return;
    if (link === null) {
      this.#edges.set(key, {
        a,
        b,
        link,
        capacityMbps: UNLIMITED_MBPS,
        usableMbps: [UNLIMITED_MBPS, UNLIMITED_MBPS, UNLIMITED_MBPS],
      });
      return;
    }
    const known = this.usable.get(link) ?? usableBps(this.#state, link, this.#nowMs);
    this.usable.set(link, known);
    const capacityMbps = this.#state.topology.capacityBps(link) / MBIT;
    this.#edges.set(key, { a, b, link, capacityMbps, usableMbps: known.map((bps) => bps / MBIT) });
  }

  /** The link that a name of the plan (`a→b`) stands for. */
  linkNamed(name: string | undefined): string | undefined {
    if (name === undefined) return undefined;
    return this.#edges.get(name.split('→').join(' '))?.link ?? undefined;
  }

  finish(name: string): PlanningInstance {
    const { agents } = this.#state;
    const links: NonNullable<PlanningInstance['links']> = [];
    const workload: NonNullable<PlanningInstance['workload']> = [];
    const joined = new Set<string>();
    for (const e of this.#edges.values()) {
      const back = this.#edges.get(`${e.b} ${e.a}`);
      const mbps = Math.max(e.capacityMbps, back?.capacityMbps ?? 0, 0.001);
      if (!joined.has(`${e.b} ${e.a}`)) links.push({ a: e.a, b: e.b, mbps });
      joined.add(`${e.a} ${e.b}`);
      const [high = 0, medium = 0, low = 0] = e.usableMbps;
      const floor = Math.max(0, mbps - high);
      const most = Math.max(floor, mbps - low);
      if (most <= 0) continue;
      const ceiling = Math.min(most, Math.max(floor, mbps - medium));
      workload.push({ a: e.a, b: e.b, mbps: most, floor_mbps: floor, ceiling_mbps: ceiling });
    }
    return {
      format: 'planning-instance/1',
      name,
      memory_unit: 'MiB',
      hosts: [...this.#hosts].map((id) => {
        const a = agents.get(id);
        const room = a?.guestMemoryMiB ?? null;
        return {
          id,
          ...(room === null ? {} : { memory_units: room }),
          ...(a?.hostLabels === undefined ? {} : { labels: { ...a.hostLabels } }),
        };
      }),
      fabric: 'links',
      switches: [...this.#switches],
      links,
      vms: this.#vms,
      migrations: this.#migrations,
      workload,
    };
  }
}
