/**
 * The fabric of an instance as directed resources, and the paths a migration may take over it. Every host has two
 * resources, its NIC out and in; a `links` fabric adds one per link and direction. Between two hosts the candidates are
 * the shortest paths (a spread selection where there are very many, as in a fat-tree), then longer ones that are wider
 * or that avoid links of the shortest. Hosts do not pass traffic on.
 *
 * Next to it: `topology/paths.ts` finds the one path of a stream over the network as it was discovered; here there are
 * names of an instance, and several paths to choose from.
 */
import type { PlanningInstance } from '../../contracts/plan.ts';
import { randomFrom } from '../../contracts/random.ts';

/** A directed resource that migrations share. Capacities in whole bit/s. */
export interface DirectedLink {
  /** `a→b`, or `host out` and `host in` for a NIC. */
  readonly name: string;
  readonly capacityBps: number;
}

export interface Route {
  /** Host, switches in between, host. */
  readonly nodes: readonly string[];
  /** Indices of the directed links, the NICs of both ends among them. */
  readonly links: readonly number[];
}

interface Edge {
  readonly to: number;
  readonly link: number;
}

/** Steps of the search for paths of one length … */
const MAX_LOOKED_AT = 2000;
/** … which are at most so many hops longer than the shortest. */
const MAX_EXTRA_HOPS = 4;

export class Graph {
  readonly links: DirectedLink[] = [];
  /** By host: index of its NIC, out and in. */
  readonly nicOut = new Map<string, number>();
  readonly nicIn = new Map<string, number>();
  private readonly isLinks: boolean;
  private readonly names: string[] = [];
  private readonly indexOf = new Map<string, number>();
  private readonly hostCount: number;
  private readonly edges: Edge[][] = [];
  private readonly back: number[][] = [];
  private readonly linkByPair = new Map<string, number>();
  private readonly goals = new Map<number, Towards>();
  private readonly known = new Map<string, Route[]>();

  constructor(p: PlanningInstance) {
    this.isLinks = p.fabric === 'links';
    for (const h of p.hosts) {
      const capacityBps = h.nic_mbps === undefined ? Number.POSITIVE_INFINITY : Math.floor(h.nic_mbps * 1e6);
      this.nicOut.set(h.id, this.links.push({ name: `${h.id} out`, capacityBps }) - 1);
      this.nicIn.set(h.id, this.links.push({ name: `${h.id} in`, capacityBps }) - 1);
      this.addNode(h.id);
    }
    this.hostCount = p.hosts.length;
    for (const s of p.switches ?? []) this.addNode(s);
    if (!this.isLinks) return;
    for (const l of p.links ?? []) {
      this.addEdge(l.a, l.b, Math.floor(l.mbps * 1e6));
      this.addEdge(l.b, l.a, Math.floor(l.mbps * 1e6));
    }
  }

  private addNode(name: string): void {
    this.indexOf.set(name, this.names.push(name) - 1);
    this.edges.push([]);
    this.back.push([]);
  }

  private addEdge(a: string, b: string, capacityBps: number): void {
    const from = this.indexOf.get(a) as number;
    const to = this.indexOf.get(b) as number;
    const link = this.links.push({ name: `${a}→${b}`, capacityBps }) - 1;
    this.linkByPair.set(`${from} ${to}`, link);
    (this.edges[from] as Edge[]).push({ to, link });
    (this.back[to] as number[]).push(from);
  }

  /** Directed links that traffic from a to b occupies, a and b being neighbours, or any two hosts without a `links` fabric. */
  between(a: string, b: string): number[] {
    const own = this.linkByPair.get(`${this.indexOf.get(a)} ${this.indexOf.get(b)}`);
    const ends = [this.nicOut.get(a), this.nicIn.get(b)];
    return [own, ...ends].filter((l) => l !== undefined);
  }

  /** Links that every path from host to host uses: the NICs, and the link of a host that has only one. */
  inevitable(from: string, to: string): number[] {
    const links = [this.nicOut.get(from) as number, this.nicIn.get(to) as number];
    if (!this.isLinks) return links;
    const out = this.edges[this.indexOf.get(from) as number] as Edge[];
    const into = this.back[this.indexOf.get(to) as number] as number[];
    if (out.length === 1) links.push((out[0] as Edge).link);
    if (into.length === 1) links.push(this.linkByPair.get(`${into[0]} ${this.indexOf.get(to)}`) as number);
    return [...new Set(links)];
  }

  /** Switches with the hosts that only they lead to, and all their other links, out and in. */
  *racks(): Generator<{ name: string; hosts: string[]; out: number[]; in: number[] }> {
    for (let s = this.hostCount; s < this.names.length; s++) {
      const hosts: string[] = [];
      const out: number[] = [];
      const into: number[] = [];
      for (const e of this.edges[s] as Edge[]) {
        if (e.to < this.hostCount && (this.edges[e.to] as Edge[]).length === 1) {
          hosts.push(this.names[e.to] as string);
          continue;
        }
        out.push(e.link);
        into.push(this.linkByPair.get(`${e.to} ${s}`) as number);
      }
      if (hosts.length > 0) yield { name: this.names[s] as string, hosts, out, in: into };
    }
  }

  /** The path over these nodes, which are neighbours. */
  routeAlong(nodes: readonly string[]): Route {
    const links: number[] = [];
    for (let i = 1; this.isLinks && i < nodes.length; i++) {
      const pair = `${this.indexOf.get(nodes[i - 1] as string)} ${this.indexOf.get(nodes[i] as string)}`;
      links.push(this.linkByPair.get(pair) as number);
    }
    return this.routeOf(nodes, links);
  }

  /** At most `most` paths from host to host, shortest first; the same for the same instance. */
  routes(from: string, to: string, most: number): readonly Route[] {
    const key = JSON.stringify([from, to]);
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const routes = this.isLinks ? this.findRoutes(from, to, most) : [this.routeOf([from, to], [])];
    this.known.set(key, routes);
    return routes;
  }

  private routeOf(nodes: readonly string[], links: readonly number[]): Route {
    const first = this.nicOut.get(nodes[0] as string) as number;
    const last = this.nicIn.get(nodes[nodes.length - 1] as string) as number;
    return { nodes, links: [first, ...links, last] };
  }

  private findRoutes(fromHost: string, toHost: string, most: number): Route[] {
    const from = this.indexOf.get(fromHost) as number;
    const to = this.indexOf.get(toHost) as number;
    // A host with one link is one hop behind its switch: one search serves all hosts of that switch.
    const only = this.back[to] as number[];
    const goal = only.length === 1 && (only[0] as number) >= this.hostCount ? (only[0] as number) : to;
    const towards = this.towards(goal);
    if ((towards.distance[from] as number) < 0) return [];
    const paths =
      towards.count(from) > most
        ? this.sampleShortest(from, to, most, towards)
        : this.shortAndLonger(from, most, towards);
    const last = goal === to ? undefined : (this.edges[goal] as Edge[]).find((e) => e.to === to);
    return paths.map((path) => {
      const edges = last === undefined ? path : [...path, last];
      const nodes = [fromHost, ...edges.map((e) => this.names[e.to] as string)];
      return this.routeOf(
        nodes,
        edges.map((e) => e.link),
      );
    });
  }

  /** All shortest paths, then longer ones where they add something: more capacity, or links that none so far uses. */
  private shortAndLonger(from: number, most: number, towards: Towards): Edge[][] {
    const { distance, goal } = towards;
    const paths: Edge[][] = [];
    const width = (p: readonly Edge[]) => Math.min(...p.map((e) => (this.links[e.link] as DirectedLink).capacityBps));
    const addsSomething = (candidate: readonly Edge[]) => {
      const used = new Set(paths.flatMap((p) => p.map((e) => e.link)));
      return candidate.some((e) => !used.has(e.link)) || paths.every((p) => width(p) < width(candidate));
    };
    for (let extra = 0; extra <= MAX_EXTRA_HOPS; extra++) {
      let looked = 0;
      const path: Edge[] = [];
      const visited = new Set([from]);
      const walk = (at: number, budget: number) => {
        if (at === goal) {
          if (budget === 0 && (extra === 0 || addsSomething(path))) paths.push([...path]);
          return;
        }
        for (const e of this.edges[at] as Edge[]) {
          if (paths.length >= most || looked >= MAX_LOOKED_AT) return;
          const isDeadEnd = (distance[e.to] as number) < 0 || (e.to < this.hostCount && e.to !== goal);
          const left = budget - ((distance[e.to] as number) + 1 - (distance[at] as number));
          if (isDeadEnd || left < 0 || visited.has(e.to)) continue;
          looked++;
          path.push(e);
          visited.add(e.to);
          walk(e.to, left);
          visited.delete(e.to);
          path.pop();
        }
      };
      walk(from, extra);
    }
    return paths;
  }

  /** A spread selection of very many shortest paths: random walks that only go closer, seeded by the pair. */
  private sampleShortest(from: number, to: number, most: number, towards: Towards): Edge[][] {
    const random = randomFrom(from * 65_537 + to);
    const paths = new Map<string, Edge[]>();
    const offset = Math.floor(random() * 1024);
    for (let i = 0; i < 2 * most && paths.size < most; i++) {
      const path: Edge[] = [];
      let key = '';
      let hasBranched = false;
      for (let at = from; at !== towards.goal; ) {
        const closer = towards.closer(at);
        // The first branching is gone through in turn, so that few paths already spread over all of the ways out.
        const inTurn = closer.length > 1 && !hasBranched;
        if (inTurn) hasBranched = true;
        const pick = inTurn ? (offset + i) % closer.length : Math.floor(random() * closer.length);
        const edge = closer[pick] as Edge;
        path.push(edge);
        key += ` ${edge.link}`;
        at = edge.to;
      }
      paths.set(key, path);
    }
    return [...paths.values()];
  }

  private towards(goal: number): Towards {
    const known = this.goals.get(goal);
    if (known !== undefined) return known;
    const towards = new Towards(goal, this.edges, this.back, this.hostCount);
    this.goals.set(goal, towards);
    return towards;
  }
}

/** How far every node is from one goal, and the ways that lead closer. Hosts are ends, never in between. */
class Towards {
  readonly goal: number;
  /** Hops; -1 where there is no way. */
  readonly distance: Int32Array;
  private readonly edges: readonly (readonly Edge[])[];
  private readonly hostCount: number;
  private readonly closerBy: (readonly Edge[] | undefined)[];
  /** By node, -1 while not known. */
  private readonly counts: Float64Array;

  constructor(
    goal: number,
    edges: readonly (readonly Edge[])[],
    back: readonly (readonly number[])[],
    hostCount: number,
  ) {
    this.goal = goal;
    this.edges = edges;
    this.hostCount = hostCount;
    this.closerBy = new Array(edges.length);
    this.counts = new Float64Array(edges.length).fill(-1);
    this.distance = new Int32Array(edges.length).fill(-1);
    this.distance[goal] = 0;
    const queue = [goal];
    for (let head = 0; head < queue.length; head++) {
      const at = queue[head] as number;
      if (at < hostCount && at !== goal) continue;
      for (const n of back[at] as number[]) {
        if ((this.distance[n] as number) >= 0) continue;
        this.distance[n] = (this.distance[at] as number) + 1;
        queue.push(n);
      }
    }
  }

  /** The edges of `node` that lead one hop closer. */
  closer(node: number): readonly Edge[] {
    const known = this.closerBy[node];
    if (known !== undefined) return known;
    const next = (this.distance[node] as number) - 1;
    const isOnWay = (e: Edge) => this.distance[e.to] === next && (e.to === this.goal || e.to >= this.hostCount);
    const list = (this.edges[node] as readonly Edge[]).filter(isOnWay);
    this.closerBy[node] = list;
    return list;
  }

  /** How many shortest paths lead from `node` to the goal. */
  count(node: number): number {
    if (node === this.goal) return 1;
    const known = this.counts[node] as number;
    if (known >= 0) return known;
    let sum = 0;
    for (const e of this.closer(node)) sum += this.count(e.to);
    this.counts[node] = sum;
    return sum;
  }
}
