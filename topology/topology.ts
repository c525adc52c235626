/**
 * The network as an immutable graph: switches with their ports, directed links, and where hosts and guests are attached.
 * Every `with…`/`without…` returns a new Topology that shares what did not change, or `this` when nothing changed, so
 * that a reader may keep a snapshot and compare snapshots by identity. Neighbour: `paths.ts` (shortest paths, next
 * hops, flood trees over a snapshot). Pure; imports nothing of ours.
 *
 * Invariants kept here: both ends of every link are known ports that are up, and trunks; nobody is located at a trunk.
 */

/** A port of a switch. `dpid` is 16 lower-case hexadecimal digits. */
export interface PortRef {
  dpid: string;
  portNo: number;
}

/** OpenFlow's number of a switch's own port (OFPP_LOCAL, OpenFlow 1.3.5 §7.2.1). */
export const LOCAL_PORT = 0xfffffffe;
/** Greatest number of a port that stands for a cable (OFPP_MAX); above are reserved ones. */
const MAX_PORT = 0xffffff00;

/** A directed link is named by its egress port: `dpid:port`. So is any egress port, also one towards a host. */
export function linkId(ref: PortRef): string {
  return `${ref.dpid}:${ref.portNo}`;
}

/** The port that a link id names, or undefined when the text is not one. */
export function parseLinkId(id: string): PortRef | undefined {
  const m = /^([^:]+):([0-9]{1,10})$/.exec(id);
  return m ? { dpid: m[1] as string, portNo: Number(m[2]) } : undefined;
}

/**
 * What says how much a port or a link can carry: the operator in the configuration or in the switch's database
 * (`external-ids`); there the speed of the link (`link-speed`) or somebody's limit on what leaves (`qos`) or enters
 * (`policing`); the switch's description of the port; or nothing, so that a default is taken.
 */
export type CapacitySource =
  | 'configuration'
  | 'external-ids'
  | 'link-speed'
  | 'port-description'
  | 'default'
  | 'qos'
  | 'policing';

export interface Port {
  portNo: number;
  name: string;
  hwAddr: string;
  isUp: boolean;
  /** Each way, bit/s; 0 when unknown. */
  capacityBps: number;
  /** What says so. */
  capacityFrom?: CapacitySource;
  /** Speed as the switch describes it, bit/s; absent when it says none. */
  speedBps?: number;
  /** What is let out (`qos`) and in (`policing`), where that is limited to less than the capacity, bit/s. */
  maxOutBps?: number;
  maxInBps?: number;
}

export interface SwitchNode {
  dpid: string;
  name: string;
  ports: ReadonlyMap<number, Port>;
  /** What it can do with groups that watch ports; none when absent or null. */
  groups?: { select: boolean; failover: boolean } | null;
}

/** One direction of a cable between two switches. */
export interface Link {
  from: PortRef;
  to: PortRef;
}

/** Where an Ethernet address is attached. */
export interface Location {
  mac: string;
  ip: string | null;
  name: string | null;
  kind: 'guest' | 'host' | 'unknown';
  at: PortRef;
}

const sameRef = (a: PortRef, b: PortRef) => a.dpid === b.dpid && a.portNo === b.portNo;
const samePort = (a: Port, b: Port) =>
  a.portNo === b.portNo &&
  a.name === b.name &&
  a.hwAddr === b.hwAddr &&
  a.isUp === b.isUp &&
  a.capacityBps === b.capacityBps &&
  a.capacityFrom === b.capacityFrom &&
  a.speedBps === b.speedBps &&
  a.maxOutBps === b.maxOutBps &&
  a.maxInBps === b.maxInBps;
/** What leaves and what enters by a port at most, bit/s; 0 when unknown. */
const outBps = (p: Port | undefined) => limited(p?.capacityBps ?? 0, p?.maxOutBps);
const inBps = (p: Port | undefined) => limited(p?.capacityBps ?? 0, p?.maxInBps);
const limited = (capacityBps: number, mostBps: number | undefined) =>
  mostBps === undefined || (capacityBps > 0 && capacityBps <= mostBps) ? capacityBps : mostBps;
const sameLocation = (a: Location, b: Location) =>
  a.mac === b.mac && a.ip === b.ip && a.name === b.name && a.kind === b.kind && sameRef(a.at, b.at);

/** `map` with `key` set; always a new map. */
function plus<K, V>(map: ReadonlyMap<K, V>, key: K, value: V): Map<K, V> {
  return new Map(map).set(key, value);
}

/** `map` without the entries `drop` picks; the same map when it picks none. */
function without<K, V>(map: ReadonlyMap<K, V>, drop: (value: V, key: K) => boolean): ReadonlyMap<K, V> {
  let kept: Map<K, V> | undefined;
  for (const [k, v] of map) {
    if (drop(v, k)) {
      kept ??= new Map(map);
      kept.delete(k);
    }
  }
  return kept ?? map;
}

export class Topology {
  readonly switches: ReadonlyMap<string, SwitchNode>;
  /** By `linkId(link.from)`. */
  readonly links: ReadonlyMap<string, Link>;
  /** By Ethernet address, lower case. */
  readonly locations: ReadonlyMap<string, Location>;
  /**
   * Ports that have been an end of a link since they came up, by id: no host is attached there, even if the link is not
   * seen at the moment. To take such a port for an edge would close a loop for broadcasts when only probes were lost.
   */
  readonly trunks: ReadonlySet<string>;
  /** Ports that came up lately, by datapath: whether they lead to a switch is not known yet, and broadcasts do not leave by them. */
  readonly listening: ReadonlyMap<string, ReadonlySet<number>>;

  // Indexes over an immutable snapshot, made when first asked for.
  #guestPorts: ReadonlySet<string> | undefined;
  #hostsAt: ReadonlyMap<string, number> | undefined;
  #byName: ReadonlyMap<string, Location> | undefined;
  #byIp: ReadonlyMap<string, Location> | undefined;

  static #empty: Topology | undefined;

  /** The network before anything is known of it. (Made on demand: TypeScript 7.0 miscompiles a static field that constructs its own class when the class has private methods.) */
  static get empty(): Topology {
    Topology.#empty ??= new Topology(new Map(), new Map(), new Map(), new Set(), new Map());
    return Topology.#empty;
  }

  private constructor(
    switches: ReadonlyMap<string, SwitchNode>,
    links: ReadonlyMap<string, Link>,
    locations: ReadonlyMap<string, Location>,
    trunks: ReadonlySet<string>,
    listening: ReadonlyMap<string, ReadonlySet<number>>,
  ) {
    this.switches = switches;
    this.links = links;
    this.locations = locations;
    this.trunks = trunks;
    this.listening = listening;
  }

  #with(change: {
    switches?: ReadonlyMap<string, SwitchNode>;
    links?: ReadonlyMap<string, Link>;
    locations?: ReadonlyMap<string, Location>;
    trunks?: ReadonlySet<string>;
    listening?: ReadonlyMap<string, ReadonlySet<number>>;
  }): Topology {
    const switches = change.switches ?? this.switches;
    const links = change.links ?? this.links;
    const locations = change.locations ?? this.locations;
    const trunks = change.trunks ?? this.trunks;
    const listening = change.listening ?? this.listening;
    const isSame =
      switches === this.switches &&
      links === this.links &&
      locations === this.locations &&
      trunks === this.trunks &&
      listening === this.listening;
    return isSame ? this : new Topology(switches, links, locations, trunks, listening);
  }

  /** Adds or replaces a switch. Links at ports that it no longer has, or that are down, go; so do locations at ports that are gone. */
  withSwitch(node: SwitchNode): Topology {
    const old = this.switches.get(node.dpid);
    if (
      old !== undefined &&
      old.name === node.name &&
      old.ports.size === node.ports.size &&
      old.groups?.select === node.groups?.select &&
      old.groups?.failover === node.groups?.failover &&
      [...node.ports].every(([no, p]) => {
        const o = old.ports.get(no);
        return o !== undefined && samePort(o, p);
      })
    ) {
      return this;
    }
    const broken = (ref: PortRef) => ref.dpid === node.dpid && node.ports.get(ref.portNo)?.isUp !== true;
    return this.#with({
      switches: plus(this.switches, node.dpid, node),
      // What is plugged into a port that was down may be something else when it comes back.
      trunks: this.#trunksWithout(old, (portNo) => broken({ dpid: node.dpid, portNo })),
      links: without(this.links, (l) => broken(l.from) || broken(l.to)),
      locations:
        old === undefined
          ? this.locations
          : without(
              this.locations,
              (l) => l.at.dpid === node.dpid && old.ports.has(l.at.portNo) && !node.ports.has(l.at.portNo),
            ),
    });
  }

  /** Removes a switch, the links from and to it, and the locations at it. */
  withoutSwitch(dpid: string): Topology {
    return this.#with({
      switches: without(this.switches, (_, d) => d === dpid),
      links: without(this.links, (l) => l.from.dpid === dpid || l.to.dpid === dpid),
      locations: without(this.locations, (l) => l.at.dpid === dpid),
      trunks: this.#trunksWithout(this.switches.get(dpid), () => true),
    });
  }

  /** Adds or replaces a port of a known switch; a port that is down loses its links. Unknown switch: nothing changes. */
  withPort(dpid: string, port: Port): Topology {
    const node = this.switches.get(dpid);
    if (node === undefined) return this;
    return this.withSwitch({ ...node, ports: plus(node.ports, port.portNo, port) });
  }

  /** Says what a known switch can do with groups. */
  withGroups(dpid: string, groups: NonNullable<SwitchNode['groups']> | null): Topology {
    const node = this.switches.get(dpid);
    return node === undefined ? this : this.withSwitch({ ...node, groups });
  }

  /** Marks ports as listening; see there. */
  withListening(refs: readonly PortRef[]): Topology {
    return this.#listeningWith(refs, (ports, portNo) => ports.add(portNo));
  }

  withoutListening(refs: readonly PortRef[]): Topology {
    return this.#listeningWith(refs, (ports, portNo) => ports.delete(portNo));
  }

  #listeningWith(refs: readonly PortRef[], change: (ports: Set<number>, portNo: number) => void): Topology {
    if (refs.length === 0) return this;
    const listening = new Map(this.listening);
    const own = new Map<string, Set<number>>();
    for (const { dpid, portNo } of refs) {
      const ports = own.get(dpid) ?? new Set(listening.get(dpid));
      change(ports, portNo);
      own.set(dpid, ports);
    }
    for (const [dpid, ports] of own) {
      if (ports.size > 0) listening.set(dpid, ports);
      else listening.delete(dpid);
    }
    return this.#with({ listening });
  }

  isListening(ref: PortRef): boolean {
    return this.listening.get(ref.dpid)?.has(ref.portNo) ?? false;
  }

  /** Removes a port with its links and locations. */
  withoutPort(ref: PortRef): Topology {
    const node = this.switches.get(ref.dpid);
    if (node === undefined) return this;
    const ports = without(node.ports, (_, no) => no === ref.portNo);
    return ports === node.ports ? this : this.withSwitch({ ...node, ports });
  }

  /**
   * Adds a directed link (or moves it, when its egress port led elsewhere). What was located at either end was only
   * passing through and is dropped. Ignored unless both ends are known ports that are up.
   */
  withLink(link: Link): Topology {
    return this.withLinks([link]);
  }

  /** As `withLink` for each in order, in one new snapshot. */
  withLinks(found: readonly Link[]): Topology {
    const added = new Map<string, Link>();
    const ends = new Set<string>();
    for (const link of found) {
      if (this.port(link.from)?.isUp !== true || this.port(link.to)?.isUp !== true) continue;
      const id = linkId(link.from);
      ends.add(id).add(linkId(link.to));
      const old = added.get(id) ?? this.links.get(id);
      if (old === undefined || !sameRef(old.to, link.to)) added.set(id, link);
    }
    const isNews = [...ends].some((id) => !this.trunks.has(id));
    return this.#with({
      links: added.size === 0 ? this.links : new Map([...this.links, ...added]),
      trunks: isNews ? new Set([...this.trunks, ...ends]) : this.trunks,
      locations: without(this.locations, (l) => ends.has(linkId(l.at))),
    });
  }

  /** Removes one direction of a cable. Its ports are still trunks. */
  withoutLink(id: string): Topology {
    return this.withoutLinks(new Set([id]));
  }

  /** As `withoutLink` for each, in one new snapshot. */
  withoutLinks(ids: ReadonlySet<string>): Topology {
    return this.#with({ links: without(this.links, (_, k) => ids.has(k)) });
  }

  /**
   * Adds or moves a host or guest. Ignored at a trunk, where its packets are only passing through. A switch
   * that is not known yet is no obstacle: agents may report a guest before its switch connects.
   */
  withLocation(l: Location): Topology {
    if (this.isTrunk(l.at)) return this;
    const old = this.locations.get(l.mac);
    return old !== undefined && sameLocation(old, l) ? this : this.#with({ locations: plus(this.locations, l.mac, l) });
  }

  withoutLocation(mac: string): Topology {
    return this.#with({ locations: without(this.locations, (_, m) => m === mac) });
  }

  /** The trunks without the ports of a switch that `drop` picks; the same set when it picks none. */
  #trunksWithout(node: SwitchNode | undefined, drop: (portNo: number) => boolean): ReadonlySet<string> {
    let kept: Set<string> | undefined;
    for (const portNo of node?.ports.keys() ?? []) {
      const id = linkId({ dpid: node?.dpid as string, portNo });
      if (!this.trunks.has(id) || !drop(portNo)) continue;
      kept ??= new Set(this.trunks);
      kept.delete(id);
    }
    return kept ?? this.trunks;
  }

  /** Whether the port is either end of a link, or was since it came up. */
  isTrunk(ref: PortRef): boolean {
    return this.trunks.has(linkId(ref));
  }

  /** How many hosts other than guests are located at the port. */
  hostsAt(ref: PortRef): number {
    if (!this.#hostsAt) {
      const counts = new Map<string, number>();
      for (const { at, kind } of this.locations.values())
        if (kind !== 'guest') counts.set(linkId(at), (counts.get(linkId(at)) ?? 0) + 1);
      this.#hostsAt = counts;
    }
    return this.#hostsAt.get(linkId(ref)) ?? 0;
  }

  /** Whether a guest is attached at the port. */
  isGuestPort(ref: PortRef): boolean {
    if (this.#guestPorts === undefined) {
      const ports = new Set<string>();
      for (const l of this.locations.values()) if (l.kind === 'guest') ports.add(linkId(l.at));
      this.#guestPorts = ports;
    }
    return this.#guestPorts.has(linkId(ref));
  }

  port(ref: PortRef): Port | undefined {
    return this.switches.get(ref.dpid)?.ports.get(ref.portNo);
  }

  /**
   * Capacity of a directed link or egress port, bit/s: what the slower of its two ends can do, or the one end that
   * is known; 0 when neither is.
   */
  capacityBps(id: string): number {
    const ref = parseLinkId(id);
    if (ref === undefined) return 0;
    const near = outBps(this.port(ref));
    const link = this.links.get(id);
    const far = link === undefined ? 0 : inBps(this.port(link.to));
    return near > 0 && far > 0 ? Math.min(near, far) : Math.max(near, far);
  }

  /** What says that a link's capacity is what it is, and at which of its ports; undefined when its capacity is unknown. */
  capacityReason(id: string): { from: CapacitySource; at: PortRef } | undefined {
    const at = parseLinkId(id);
    const near = at && this.port(at);
    const bps = this.capacityBps(id);
    if (at === undefined || bps <= 0) return undefined;
    if (near && outBps(near) === bps) {
      const from = near.capacityBps === bps ? near.capacityFrom : 'qos';
      return from && { from, at };
    }
    const to = this.links.get(id)?.to;
    const far = to && this.port(to);
    if (to === undefined || far === undefined) return undefined;
    const from = far.capacityBps === bps ? far.capacityFrom : 'policing';
    return from && { from, at: to };
  }

  /** The host or guest of that name. Where several addresses have it, the smallest address. */
  locationByName(name: string): Location | undefined {
    this.#byName ??= index(this.locations, (l) => l.name);
    return this.#byName.get(name);
  }

  /** The host or guest with that IP address. Where several claim it, the smallest Ethernet address. */
  locationByIp(ip: string): Location | undefined {
    this.#byIp ??= index(this.locations, (l) => l.ip);
    return this.#byIp.get(ip);
  }
}

function index(
  locations: ReadonlyMap<string, Location>,
  key: (l: Location) => string | null,
): ReadonlyMap<string, Location> {
  const found = new Map<string, Location>();
  for (const l of locations.values()) {
    const k = key(l);
    if (k === null) continue;
    const other = found.get(k);
    if (other === undefined || l.mac < other.mac) found.set(k, l);
  }
  return found;
}

/** Whether packets can be sent out of a port of that number: cables and LOCAL, not the other reserved numbers. */
export function isUsablePort(portNo: number): boolean {
  return portNo === LOCAL_PORT || (portNo > 0 && portNo <= MAX_PORT);
}
