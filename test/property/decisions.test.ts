/**
 * A million decisions: admission and reservation over random networks and random orders of events, without switches and
 * agents around them (`controller.test.ts` has those). After every event, and on every link, it is checked that slices and
 * floor fit into the capacity, that no less urgent migration goes before a more urgent one, and that none starves; each run
 * ends with nothing reserved, and the same events give the same decisions in whatever order links and claims are listed.
 */
import { PRIORITIES, type Priority, type Strategy } from '../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../contracts/policy.ts';
import {
  type AdmissionItem,
  admit,
  applyPolicyPatch,
  type CompiledPolicy,
  chooseStrategy,
  compilePolicy,
  contentionOf,
  type LinkLoad,
  reserve,
  type SliceClaim,
} from '../../policies/index.ts';

const RUNS = 4_000;
const STEPS_PER_RUN = 500;
const STEPS = RUNS * STEPS_PER_RUN;
/** Rates are whole bits per second. */
const ROUNDING_BPS = 1;
const WINDOW = 5;
/** Readings that do not come for so many periods are taken for a full link. */
const FRESH_PERIODS = 3;
const MOST_JOBS = 14;

/** Small, fast, and the same everywhere (mulberry32). */
function randomOf(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** What an operator may have written; all keep a more urgent migration entitled to at least as much. */
const POLICIES: readonly CompiledPolicy[] = [
  {},
  { 'sla.default.floor': '30 %', 'sla.default.ceiling': '90 %' },
  { 'sla.default.floor': 0, 'sla.default.ceiling': 0 },
  { 'sla.default.floor': '100 %', 'sla.default.ceiling': '100 %' },
  { 'sla.links.l0:1.floor': '80 %', 'sla.links.l0:1.ceiling': '90 %', 'limits.perHostOut': 2, 'limits.perHostIn': 2 },
  { 'reservation.minSliceBps': 0, 'reservation.minStepShare': 0 },
  { 'reservation.minSliceBps': 40e6, 'reservation.weights.high': 8 },
].map((patch) => compilePolicy(applyPolicyPatch(DEFAULT_POLICY, patch)));

interface Job extends AdmissionItem {
  priority: Priority;
  strategy: Strategy;
  phase: SliceClaim['phase'];
  sliceBps: number | null;
}
interface Link {
  id: string;
  capacityBps: number;
  readings: number[];
  silentPeriods: number;
  isSilent: boolean;
  shareBps: number | null;
}

const rank = (p: Priority) => PRIORITIES.indexOf(p);

/** One network and its migrations, from one seed. */
class World {
  readonly #random: () => number;
  /** Turns lists of links and claims round before they are given to the policies. */
  readonly #isTurned: boolean;
  readonly links: Link[];
  readonly #byId: ReadonlyMap<string, Link>;
  policy = POLICIES[0] as CompiledPolicy;
  readonly waiting: Job[] = [];
  readonly running: Job[] = [];
  #next = 1;
  /** FNV-1a of every decision. */
  hash = 0x811c9dc5;

  constructor(seed: number, isTurned: boolean) {
    this.#random = randomOf(seed);
    this.#isTurned = isTurned;
    this.links = Array.from({ length: 3 + this.#below(6) }, (_, i) => ({
      id: `l${i}:1`,
      capacityBps: [100e6, 200e6, 1e9, 10e9][this.#below(4)] as number,
      readings: [],
      silentPeriods: 0,
      isSilent: false,
      shareBps: null,
    }));
    this.#byId = new Map(this.links.map((l) => [l.id, l]));
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n);
  }
  #ordered<T>(list: T[]): T[] {
    return this.#isTurned ? list.reverse() : list;
  }
  #note(n: number): void {
    this.hash = Math.imul(this.hash ^ (n | 0), 0x01000193) >>> 0;
  }

  /** The floor of a link under the policy in force. */
  #floorBps(l: Link): number {
    return this.policy.slaFor(l.id, l.capacityBps).floorBps;
  }

  /** One event, and all that follows from it. */
  step(): void {
    const r = this.#random();
    if (r < 0.18) this.#arrive();
    else if (r < 0.3) this.#end(this.running, this.#below(Math.max(1, this.running.length)));
    else if (r < 0.33) this.#end(this.waiting, this.#below(Math.max(1, this.waiting.length)));
    else if (r < 0.62) this.#period();
    else if (r < 0.66) this.#silence();
    else if (r < 0.68) this.policy = POLICIES[this.#below(POLICIES.length)] as CompiledPolicy;
    else if (r < 0.71) this.#changeCapacity();
    else if (r < 0.74) this.#reroute();
    else this.#changePhase();
    this.decide();
  }

  #path(): string[] {
    const first = this.#below(this.links.length);
    const length = 1 + this.#below(Math.min(4, this.links.length));
    return Array.from({ length }, (_, i) => (this.links[(first + i) % this.links.length] as Link).id);
  }

  #arrive(): void {
    if (this.waiting.length + this.running.length >= MOST_JOBS) return;
    const links = this.#path();
    const priority = PRIORITIES[this.#below(3)] as Priority;
    const used = links.map((id) => {
      const l = this.#link(id);
      const reserved = this.running.reduce((a, j) => a + (j.links.includes(id) ? (j.sliceBps ?? 0) : 0), 0);
      return { id, capacityBps: l.capacityBps, usedBps: this.#load(l).measuredBps + reserved };
    });
    const contention = contentionOf(used, this.policy).value;
    this.waiting.push({
      id: `m${this.#next++}`,
      group: null,
      priority,
      strategy: chooseStrategy({ priority, contention }, this.policy).value,
      fromHost: `h${this.#below(4)}`,
      toHost: `h${4 + this.#below(4)}`,
      links,
      phase: 'initial',
      sliceBps: null,
    });
  }

  #end(list: Job[], n: number): void {
    list.splice(n, 1);
  }

  /** A period passes: every switch that answers is read. */
  #period(): void {
    for (const l of this.links) {
      if (l.isSilent) {
        l.silentPeriods++;
        continue;
      }
      l.silentPeriods = 0;
      l.readings.push(this.#random() * this.#random() * l.capacityBps);
      if (l.readings.length > WINDOW) l.readings.shift();
    }
    for (const j of this.running) if (j.phase === 'initial') j.phase = 'running';
  }

  /** A switch falls silent or answers again. */
  #silence(): void {
    const l = this.links[this.#below(this.links.length)] as Link;
    l.isSilent = !l.isSilent;
  }

  #changeCapacity(): void {
    const l = this.links[this.#below(this.links.length)] as Link;
    l.capacityBps = [0, 100e6, 200e6, 1e9, 10e9][this.#below(5)] as number;
  }

  /** The path of a migration changes, as when a link of it is lost. */
  #reroute(): void {
    const j = this.running[this.#below(Math.max(1, this.running.length))];
    if (j) j.links = this.#path();
  }

  #changePhase(): void {
    const j = this.running[this.#below(Math.max(1, this.running.length))];
    if (j) j.phase = j.phase === 'switchover' ? 'running' : 'switchover';
  }

  #link(id: string): Link {
    return this.#byId.get(id) as Link;
  }

  /** As `controller/core/reserve.ts` has it: a link nobody has read lately is taken to be full of workload. */
  #load(l: Link): LinkLoad {
    const known = l.readings.length > 0 && l.silentPeriods <= FRESH_PERIODS;
    return {
      id: l.id,
      capacityBps: l.capacityBps,
      measuredBps: known ? (l.readings.at(-1) as number) : l.capacityBps,
      peakBps: l.readings.length > 0 ? Math.max(...l.readings) : l.capacityBps,
      shareBps: l.shareBps,
    };
  }

  decide(): void {
    const { start, wait } = admit({ waiting: this.waiting, running: this.running }, this.policy);
    this.#checkAdmission(start, wait);
    for (const id of start) {
      const n = this.waiting.findIndex((j) => j.id === id);
      this.running.push(...this.waiting.splice(n, 1));
    }
    const claims: SliceClaim[] = this.running.map((j) => ({
      migration: j.id,
      priority: j.priority,
      links: j.links,
      phase: j.phase,
      previousBps: j.sliceBps,
    }));
    const loads = this.links.map((l) => this.#load(l));
    const result = reserve({ links: this.#ordered(loads), claims: this.#ordered(claims) }, this.policy);
    for (const j of this.running) {
      j.sliceBps = result.slices.get(j.id)?.rateBps ?? Number.NaN;
      this.#note(j.sliceBps);
    }
    for (const l of this.links) {
      const share = result.links.get(l.id);
      l.shareBps = share !== undefined && share.byMigration.size > 0 ? share.workloadBps : null;
    }
    this.#checkLinks();
    this.#checkClaims();
  }

  #checkAdmission(start: readonly string[], wait: ReturnType<typeof admit>['wait']): void {
    if (start.length + wait.length !== this.waiting.length)
      throw new Error('a migration was neither started nor told why not');
    const byId = new Map([...this.waiting, ...this.running].map((j) => [j.id, j]));
    for (const { id, reason, behind } of wait) {
      const w = byId.get(id) as Job;
      this.#note(reason.rule.length + 1000 * behind.length);
      if (behind.length === 0) throw new Error(`${id} waits for nobody: ${reason.text}`);
      const isHost = reason.rule === 'admission.hostOut' || reason.rule === 'admission.hostIn';
      for (const b of behind.map((x) => byId.get(x) as Job)) {
        // Only a host's limit may make a migration wait for a less urgent one, and then for one that runs already.
        if (rank(b.priority) > rank(w.priority) && (!isHost || start.includes(b.id)))
          throw new Error(`inversion: ${w.priority} ${id} waits behind ${b.priority} ${b.id}: ${reason.text}`);
      }
    }
  }

  /** Slices and floor fit into every link's capacity. */
  #checkLinks(): void {
    for (const l of this.links) {
      const on = this.running.filter((j) => j.links.includes(l.id));
      const sum = on.reduce((a, j) => a + (j.sliceBps as number), 0);
      const floorBps = this.#floorBps(l);
      if (!(sum <= Math.max(0, l.capacityBps - floorBps) + ROUNDING_BPS))
        throw new Error(`${l.id}: slices of ${sum} and a floor of ${floorBps} in a capacity of ${l.capacityBps}`);
    }
  }

  #checkClaims(): void {
    const { minSliceBps, minStepShare } = this.policy.doc.reservation;
    for (const a of this.running) {
      const rate = a.sliceBps as number;
      // Where every claim's least fits on all of its links, it has at least that.
      const fits = a.links.every((id) => {
        const l = this.#link(id);
        const room = l.capacityBps - this.#floorBps(l);
        return this.running.filter((j) => j.links.includes(id)).length * minSliceBps <= room && l.capacityBps > 0;
      });
      if (fits && rate < minSliceBps) throw new Error(`${a.id} starves with ${rate}, the least is ${minSliceBps}`);
      // On the same or fewer links, the more urgent of two has at least as much, but for a step that is not made.
      if (a.phase === 'initial') continue;
      for (const b of this.running) {
        if (rank(a.priority) >= rank(b.priority) || b.phase !== a.phase) continue;
        if (!a.links.every((id) => b.links.includes(id))) continue;
        const step = 2 * minStepShare * Math.max(...b.links.map((id) => this.#link(id).capacityBps));
        if (rate + step + ROUNDING_BPS < (b.sliceBps as number))
          throw new Error(`inversion: ${a.priority} ${a.id} has ${rate}, ${b.priority} ${b.id} has ${b.sliceBps}`);
      }
    }
  }

  /** No more come; what runs ends one by one, until nothing is left. */
  drain(): void {
    const most = this.waiting.length + this.running.length;
    for (let n = 0; n <= most && this.running.length + this.waiting.length > 0; n++) {
      if (n > 0) this.#end(this.running, 0);
      this.decide();
      if (this.waiting.length > 0 && this.running.length === 0) throw new Error('all wait and none runs');
    }
    if (this.running.length + this.waiting.length > 0) throw new Error('a migration never had its turn');
    if (this.links.some((l) => l.shareBps !== null)) throw new Error('something is still reserved');
  }
}

function play(seed: number, isTurned = false): World {
  const w = new World(seed, isTurned);
  let step = 0;
  try {
    for (; step < STEPS_PER_RUN; step++) w.step();
    w.drain();
  } catch (error) {
    throw new Error(`seed ${seed}, step ${step}: ${error instanceof Error ? error.message : String(error)}`);
  }
  return w;
}

test(`${STEPS.toLocaleString('en')} steps over ${RUNS.toLocaleString('en')} random networks: floors kept on every link, no inversion, no starvation, nothing left`, () => {
  for (let seed = 1; seed <= RUNS; seed++) {
    const { waiting, running } = play(seed);
    expect([waiting, running]).toEqual([[], []]);
  }
}, 1_800_000);

test('the same events give the same decisions, in whatever order links and claims are listed', () => {
  const hashes = new Set<number>();
  for (let seed = 1; seed <= 20; seed++) {
    const { hash } = play(seed);
    expect([seed, play(seed, true).hash]).toEqual([seed, hash]);
    hashes.add(hash);
  }
  expect(hashes.size).toBe(20);
});
