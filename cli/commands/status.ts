/** `fairway status`: the controller's view in tables, or whole as JSON. */
import { isFinal } from '../../contracts/common.ts';
import type { TopologyView } from '../../contracts/feed.ts';
import type { SessionView, StatusView } from '../../contracts/rest.ts';
import { formatBytes, formatRate } from '../../contracts/units.ts';
import { type ConnectOptions, connect } from '../connect.ts';
import { withLinkNames } from '../linkNames.ts';
import { barLine, isPullOpen, pullLine } from '../progress.ts';
import { type Terminal, table } from '../terminal.ts';

export async function status(terminal: Terminal, o: ConnectOptions & { json?: true }): Promise<undefined> {
  const view = await connect(terminal, o).status();
  terminal.out(o.json ? `${JSON.stringify(view)}\n` : statusText(view, terminal.columns() ?? 200));
}

/** A section for each thing there is; `columns` is the width of the screen. */
export function statusText(s: StatusView, columns: number): string {
  const { topology, rates, slices, policy } = s;
  const rateOf = new Map(rates.links.map((l) => [l.id, l]));
  const sliceOf = new Map(slices.links.map((l) => [l.id, l]));
  const nameOf = new Map(topology.switches.map((w) => [w.dpid, w.name]));
  const end = (ref: { dpid: string; portNo: number }) => `${nameOf.get(ref.dpid) ?? ref.dpid}:${ref.portNo}`;
  const sessionOf = new Map((s.sessions ?? []).map((x) => [x.dpid, x]));
  const isConnected = (connected: boolean) => (connected ? 'connected' : 'away');
  const section = (title: string, heading: string[], rows: string[][]) =>
    rows.length === 0 ? `${title}: none\n` : `${title}\n${table([heading, ...rows].map((r) => ['', ...r]))}`;

  const links = topology.links.map((l) => {
    const rate = rateOf.get(l.id);
    const slice = sliceOf.get(l.id);
    const reserved = slice?.slices.reduce((sum, x) => sum + x.rateBps, 0) ?? 0;
    return [
      `${end(l.from)} -> ${end(l.to)}`,
      l.capacityFrom === undefined ? formatRate(l.capacityBps) : `${formatRate(l.capacityBps)} (${l.capacityFrom})`,
      rate ? formatRate(rate.workloadBps) : '-',
      rate ? formatRate(rate.migrationBps) : '-',
      reserved > 0 && slice ? `${formatRate(reserved)} (${slice.enforcement})` : '-',
    ];
  });
  const hostOf = new Map(rates.hosts.map((h) => [h.host, h]));
  const percent = (share: number | undefined) => (share === undefined ? '-' : `${Math.round(share * 100)} %`);
  const trafficOf = new Map(rates.guests.map((g) => [g.guest, g]));
  const guests = topology.locations.flatMap((l) => {
    if (l.kind !== 'guest') return [];
    const name = l.name ?? l.mac;
    const traffic = trafficOf.get(name);
    const seen = traffic ? [formatRate(traffic.inBps), formatRate(traffic.outBps), traffic.direction] : ['-', '-', '-'];
    const { cpuShare, dirtyBytesPerS, workingSetBytes } = traffic?.telemetry ?? {};
    const writes = dirtyBytesPerS === undefined ? '-' : `${formatBytes(dirtyBytesPerS)}/s`;
    const within = typeof workingSetBytes === 'number' ? formatBytes(workingSetBytes) : '-';
    return [[name, l.ip ?? l.mac, end(l.at), ...seen, percent(cpuShare), writes, within]];
  });
  const quenched = topology.switches.flatMap((w) =>
    w.ports.flatMap((p) =>
      (p.quenched ?? []).map((q) => [
        end({ dpid: w.dpid, portNo: p.portNo }),
        p.name,
        q.what === 'lldp' ? 'LLDP' : 'new senders',
        `${q.overPerS}/s over its limit`,
        q.times === 1 ? 'once' : `${q.times} times in a row`,
      ]),
    ),
  );
  const nameOrId = (dpid: string) => nameOf.get(dpid) ?? dpid;
  const away = (topology.away ?? []).map(
    (g) => `Guest ${g.guest} is ${withLinkNames(awayText(g, nameOrId), topology)}\n`,
  );
  const refused = (s.refusedSwitches ?? []).map((r) => [r.from, r.dpid ?? '-', String(r.times), r.why]);
  const running = s.migrations.filter((m) => !isFinal(m.state));
  const pulls = s.migrations.flatMap((m) => (m.pull && isPullOpen(m.pull) ? [pullLine(m, m.pull, columns - 2)] : []));
  return [
    `Fairway ${s.version}, policy revision ${policy.status.revision} (${policy.store})`,
    policy.status.state === 'refused' ? `, last edit refused: ${policy.status.reason}\n` : '\n',
    s.pair === undefined
      ? ''
      : `${s.pair.role === 'primary' ? 'In charge' : 'Stands by'} in term ${s.pair.term}; the other controller is ${s.pair.peer}\n`,
    ...away,
    section(
      'Switches',
      ['NAME', 'DATAPATH', 'STATE', 'PORTS UP', 'OPENFLOW', 'ROUND TRIP', 'PACKET-INS DROPPED', 'BUNDLES'],
      topology.switches.map((w) => [
        w.name,
        w.dpid,
        isConnected(w.connected),
        `${w.ports.filter((p) => p.isUp).length} of ${w.ports.length}`,
        ...sessionCells(sessionOf.get(w.dpid)),
      ]),
    ),
    quenched.length === 0 ? '' : section('Quenched ports', ['PORT', 'NAME', 'OF', 'PACKET-INS', 'TIMES'], quenched),
    refused.length === 0 ? '' : section('Refused as switches', ['FROM', 'DATAPATH', 'TIMES', 'WHY'], refused),
    section(
      'Hosts',
      ['NAME', 'STATE', 'DRIVER', 'DATAPATH', 'CPU', 'MEMORY'],
      topology.agents.map((a) => {
        const { cpuShare, memoryUsedBytes, memoryTotalBytes } = hostOf.get(a.host)?.telemetry ?? {};
        const memory =
          memoryUsedBytes === undefined || memoryTotalBytes === undefined
            ? '-'
            : `${formatBytes(memoryUsedBytes)} of ${formatBytes(memoryTotalBytes)}`;
        return [a.host, isConnected(a.connected), a.driver, a.dpid ?? '-', percent(cpuShare), memory];
      }),
    ),
    section('Guests', ['NAME', 'ADDRESS', 'AT', 'IN', 'OUT', 'DIRECTION', 'CPU', 'DIRTIES', 'WITHIN'], guests),
    section('Links', ['FROM -> TO', 'CAPACITY', 'WORKLOAD', 'MIGRATIONS', 'RESERVED'], links),
    running.length === 0
      ? `Migrations: none running, ${s.migrations.length} ended\n`
      : `Migrations\n${running.map((m) => `  ${barLine(m, columns - 2, (text) => withLinkNames(text, topology))}\n`).join('')}`,
    pulls.length === 0 ? '' : `Pulls of disks left behind\n${pulls.map((line) => `  ${line}\n`).join('')}`,
  ].join('');
}

/** Where a guest away from home is, and how it is joined with its network; `nameOf` a datapath. */
export function awayText(g: NonNullable<TopologyView['away']>[number], nameOf: (dpid: string) => string): string {
  if (!g.isAway) return 'on its way home';
  const home = nameOf(g.home);
  const { state, why = null, instead } = g.tunnel ?? {};
  const because = why === null ? '' : ` (${why})`;
  const joins = {
    works: `a tunnel joins it with ${home}${because}`,
    broken: `its tunnel to ${home} does NOT carry${because}`,
    unknown: `its tunnel to ${home} may not carry${because}`,
  }[state ?? 'works'];
  const tried =
    instead === undefined
      ? ''
      : instead === null
        ? `; no other switch of its network can take the place of ${home} now`
        : `; ${nameOf(instead)} is tried in its place`;
  return `at ${g.host}, in another network than its own: ${joins}${tried}`;
}

function sessionCells(s: SessionView | undefined): string[] {
  if (s === undefined) return ['-', '-', '-', '-'];
  const roundTrip = s.roundTripMs === null ? '-' : `${s.roundTripMs.toFixed(1)} ms`;
  const bundles = s.bundles === undefined ? '-' : s.bundles.used ? 'yes' : `no: ${s.bundles.why}`;
  return [s.tls ? `${s.openflow} (TLS)` : s.openflow, roundTrip, String(s.packetIns.dropped), bundles];
}
