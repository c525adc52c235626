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

/** Simple paths looked at when searching for longer ones. */
const MAX_LOOKED_AT = 2000;

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
  private readonly distances = new Map<number, Int32Array>();
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

  /** Switches with the links that leave them for other switches and those that arrive from them, and their hosts. */
  *racks(): Generator<{ name: string; hosts: string[]; out: number[]; in: number[] }> {
    for (let s = this.hostCount; s < this.names.length; s++) {
      const hosts: string[] = [];
      const out: number[] = [];
      const into: number[] = [];
      for (const e of this.edges[s] as Edge[]) {
        if (e.to < this.hostCount) {
          if ((this.edges[e.to] as Edge[]).length === 1) hosts.push(this.names[e.to] as string);
          continue;
        }
        out.push(e.link);
        into.push(this.linkByPair.get(`${e.to} ${s}`) as number);
      }
      if (hosts.length > 0) yield { name: this.names[s] as string, hosts, out, in: into };
    }
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
    // A host with one link is as far as its switch and one more: one search serves all hosts of that switch.
    const only = this.back[to] as number[];
    const via = only.length === 1 && only[0] !== from ? (only[0] as number) : to;
    const toVia = this.distancesTo(via);
    const distance = (node: number) => (node === to ? 0 : (toVia[node] as number) + (via === to ? 0 : 1));
    if ((toVia[from] as number) < 0) return [];

    const found: number[][] = [];
    let looked = 0;
    const walk = (path: number[], budget: number) => {
      const at = path[path.length - 1] as number;
      if (at === to) {
        if (budget === 0) found.push([...path]);
        return;
      }
      if (at < this.hostCount && at !== from) return;
      for (const e of this.edges[at] as Edge[]) {
        if (found.length >= 4 * most || looked >= MAX_LOOKED_AT) return;
        if (e.to !== to && ((toVia[e.to] as number) < 0 || e.to < this.hostCount)) continue;
        const left = budget - (distance(e.to) + 1 - distance(at));
        if (left < 0 || path.includes(e.to)) continue;
        looked++;
        path.push(e.to);
        walk(path, left);
        path.pop();
      }
    };

    let paths: number[][];
    if (this.countShortest(from, to, distance) > most) {
      paths = this.sampleShortest(from, to, most, distance);
    } else {
      walk([from], 0);
      paths = found.splice(0);
      // Longer ones only where they add something: more capacity than any shorter one, or links that none of them uses.
      for (let extra = 1; extra <= 4 && paths.length < most; extra++) {
        looked = 0;
        walk([from], extra);
        for (const p of found.splice(0)) {
          if (paths.length < most && this.addsTo(paths, p)) paths.push(p);
        }
      }
    }
    return paths.map((p) => {
      const nodes = p.map((n) => this.names[n] as string);
      return this.routeOf(nodes, this.linksOf(p));
    });
  }

  private linksOf(path: readonly number[]): number[] {
    const links: number[] = [];
    for (let i = 0; i + 1 < path.length; i++) links.push(this.linkByPair.get(`${path[i]} ${path[i + 1]}`) as number);
    return links;
  }

  private addsTo(paths: readonly (readonly number[])[], candidate: readonly number[]): boolean {
    const width = (p: readonly number[]) =>
      Math.min(...this.linksOf(p).map((l) => (this.links[l] as DirectedLink).capacityBps));
    const used = new Set(paths.flatMap((p) => this.linksOf(p)));
    return this.linksOf(candidate).some((l) => !used.has(l)) || paths.every((p) => width(p) < width(candidate));
  }

  /** Hops from every node to `to` without passing through hosts; -1 where there is no way. */
  private distancesTo(to: number): Int32Array {
    const known = this.distances.get(to);
    if (known !== undefined) return known;
    const d = new Int32Array(this.names.length).fill(-1);
    d[to] = 0;
    const queue = [to];
    for (let head = 0; head < queue.length; head++) {
      const at = queue[head] as number;
      if (at < this.hostCount && at !== to) continue;
      for (const n of this.back[at] as number[]) {
        if ((d[n] as number) >= 0) continue;
        d[n] = (d[at] as number) + 1;
        queue.push(n);
      }
    }
    this.distances.set(to, d);
    return d;
  }

  private countShortest(from: number, to: number, distance: (n: number) => number): number {
    const counts = new Map<number, number>([[to, 1]]);
    const count = (n: number): number => {
      const known = counts.get(n);
      if (known !== undefined) return known;
      let sum = 0;
      for (const e of this.closer(n, to, distance)) sum += count(e.to);
      counts.set(n, sum);
      return sum;
    };
    return count(from);
  }

  /** The edges of `n` that lead one hop closer to `to`. */
  private closer(n: number, to: number, distance: (n: number) => number): Edge[] {
    const d = distance(n);
    return (this.edges[n] as Edge[]).filter(
      (e) => e.to === to || (e.to >= this.hostCount && distance(e.to) === d - 1 && distance(e.to) >= 0),
    );
  }

  /** A spread selection of very many shortest paths: random walks that only go closer, seeded by the pair. */
  private sampleShortest(from: number, to: number, most: number, distance: (n: number) => number): number[][] {
    const random = randomFrom(from * 65_537 + to);
    const paths = new Map<string, number[]>();
    const choices = new Map<number, Edge[]>();
    const offset = Math.floor(random() * 1024);
    for (let i = 0; i < 2 * most && paths.size < most; i++) {
      const path = [from];
      for (let at = from, branch = 0; at !== to; ) {
        let closer = choices.get(at);
        if (closer === undefined) {
          closer = this.closer(at, to, distance);
          choices.set(at, closer);
        }
        const isFirstBranch = closer.length > 1 && branch++ === 0;
        // The first branching is gone through in turn, so that few paths already spread over all of the ways out.
        const pick = isFirstBranch ? (offset + i) % closer.length : Math.floor(random() * closer.length);
        at = (closer[pick] as Edge).to;
        path.push(at);
      }
      paths.set(path.join(' '), path);
    }
    return [...paths.values()];
  }
}
