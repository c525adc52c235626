/** The state as the feed, the HTTP interface and the CLI show it. Pure; shapes are those of contracts/feed.ts. */

import { isFinal } from '../../contracts/common.ts';
import type {
  MigrationView,
  PolicyView,
  RatesView,
  SlicesView,
  Topic,
  TopicData,
  TopologyView,
} from '../../contracts/feed.ts';
import type { StatusView } from '../../contracts/rest.ts';
import { linkId, type PortRef, type Topology } from '../../topology/index.ts';
import { explainJob } from './explain.ts';
import type { Overlay } from './overlays.ts';
import { guestTraffic, hostTraffic, migrationBps, workloadBps } from './rates.ts';
import { type ControllerState, type Job, type Pull, pullsNow, slicePriority } from './state.ts';
import { downtimeBetween, guestTelemetry } from './telemetry.ts';

/** Rates older than this are shown as zero: nobody is reading that switch. */
const STALE_MS = 10_000;

/** Quenches by port (`dpid:port`); empty nearly always. */
function quenchesByPort(state: ControllerState) {
  const found = new Map<string, NonNullable<TopologyView['switches'][number]['ports'][number]['quenched']>>();
  for (const { at, what, sinceMs, untilMs, times, overPerS } of state.quenches.values()) {
    const id = linkId(at);
    found.set(id, [...(found.get(id) ?? []), { what, sinceMs, untilMs, times, overPerS }]);
  }
  return found;
}

export function topologyView(state: ControllerState): TopologyView {
  const { topology } = state;
  const quenches = quenchesByPort(state);
  const quenchedAt = (at: PortRef) => {
    const quenched = quenches.size === 0 ? undefined : quenches.get(linkId(at));
    return quenched === undefined ? {} : { quenched };
  };
  return {
    switches: [...topology.switches.values()].map((s) => ({
      dpid: s.dpid,
      name: s.name,
      connected: state.switches.get(s.dpid)?.connected ?? false,
      ports: [...s.ports.values()].map((p) => ({
        portNo: p.portNo,
        name: p.name,
        isUp: p.isUp,
        capacityBps: p.capacityBps,
        ...(p.capacityFrom === undefined ? {} : { capacityFrom: p.capacityFrom }),
        ...(p.maxOutBps === undefined ? {} : { maxOutBps: p.maxOutBps }),
        ...(p.maxInBps === undefined ? {} : { maxInBps: p.maxInBps }),
        ...quenchedAt({ dpid: s.dpid, portNo: p.portNo }),
      })),
    })),
    links: [...topology.links.entries()].map(([id, l]) => ({
      id,
      from: l.from,
      to: l.to,
      capacityBps: topology.capacityBps(id),
      ...linkReason(topology, id),
    })),
    locations: [...topology.locations.values()].map((l) => ({
      mac: l.mac,
      ip: l.ip,
      name: l.name,
      kind: l.kind,
      at: l.at,
    })),
    guests: [...state.agents.values()].flatMap((a) =>
      a.guests
        .filter((g) => g.state === 'running' || g.state === 'paused')
        .map((g) => ({ name: g.spec.name, host: a.host, labels: g.spec.labels ?? {} })),
    ),
    refusedProbes: [...state.discovery.refused.values()].map(({ at, counts }) => ({ at, ...counts })),
    hostMoves: [...state.discovery.hostMoves].map(([mac, { from, to, moves, refused, heldUntilMs }]) => {
      return { mac, from, to, moves, refused, heldUntilMs };
    }),
    ...(state.overlays.size === 0
      ? {}
      : {
          away: [...state.overlays.values()].map((o) => ({
            ...{ guest: o.guest, home: o.anchor, host: o.host, at: o.at, isAway: o.isAway, sinceMs: o.sinceMs },
            ...(o.isAway ? { tunnel: awayTunnel(o) } : {}),
          })),
        }),
    agents: [...state.agents.values()].map((a) => ({
      host: a.host,
      connected: a.connected,
      dpid: a.dpid,
      driver: a.driver,
    })),
  };
}

const awayTunnel = ({ tunnel: { state, sinceMs, why }, search }: Overlay) => ({
  ...{ state, sinceMs, why },
  ...(search === null ? {} : { instead: search.trying }),
});

function linkReason(
  topology: Topology,
  id: string,
): Pick<TopologyView['links'][number], 'capacityFrom' | 'capacityAt'> {
  const reason = topology.capacityReason(id);
  return reason === undefined ? {} : { capacityFrom: reason.from, capacityAt: linkId(reason.at) };
}

export function ratesView(state: ControllerState, nowMs: number): RatesView {
  const guests = [...state.agents.values()].flatMap((a) => a.guests.map((g) => g.spec.name));
  return {
    links: [...state.topology.links.keys()].map((id) => {
      const capacityBps = state.topology.capacityBps(id);
      const { floorBps, ceilingBps } = state.policy.slaFor(id, capacityBps);
      const workload = Math.round(workloadBps(state, id, nowMs, STALE_MS) ?? 0);
      return {
        id,
        capacityBps,
        workloadBps: workload,
        migrationBps: Math.round(migrationBps(state, id)),
        floorBps,
        ceilingBps,
      };
    }),
    guests: [...new Set(guests)].map((guest) => {
      const t = guestTraffic(state, guest);
      const { guest: _, ...telemetry } = guestTelemetry(state, guest) ?? { guest };
      return {
        guest,
        inBps: Math.round(t.inBps),
        outBps: Math.round(t.outBps),
        direction: t.direction,
        ...(Object.keys(telemetry).length === 0 ? {} : { telemetry }),
      };
    }),
    hosts: [...state.agents.values()]
      .filter((a) => a.driver !== 'none')
      .map((a) => {
        const t = hostTraffic(state, a.host);
        const telemetry = state.telemetry.get(a.host)?.host;
        return {
          host: a.host,
          inBps: Math.round(t.inBps),
          outBps: Math.round(t.outBps),
          direction: t.direction,
          ...(telemetry === undefined ? {} : { telemetry }),
        };
      }),
  };
}

export function slicesView(state: ControllerState): SlicesView {
  return {
    links: [...state.shares.entries()]
      .filter(([, s]) => s.byMigration.size > 0)
      .map(([id, s]) => ({
        id,
        capacityBps: state.topology.capacityBps(id),
        workloadBps: s.workloadBps,
        enforcement: state.qos.get(id)?.enforcement ?? 'pace',
        slices: [...s.byMigration].map(([migration, rateBps]) => {
          const job = state.jobs.get(migration);
          const isPull = job !== undefined && pullsNow(job);
          return { migration, priority: job ? slicePriority(job) : 'low', rateBps, ...(isPull ? { isPull } : {}) };
        }),
      })),
  };
}

function pullView(j: Job, p: Pull): NonNullable<MigrationView['pull']> {
  const { state, rateBps, sliceBps, pacedBps, doneBytes, totalBytes, fetchedBytes, note, askedAtMs, endedAtMs } = p;
  const isOn = state === 'running';
  const figures = { doneBytes, totalBytes, fetchedBytes };
  return {
    state,
    rateBps,
    sliceBps,
    pacedBps: isOn ? pacedBps : null,
    ...figures,
    askedAtMs,
    endedAtMs,
    note: note ?? (state === 'waiting' && !j.copyEnded ? 'it begins when the copy has ended' : null),
    reason: pullsNow(j) ? p.reason : null,
  };
}

export function migrationView(j: Job): MigrationView {
  const seenDowntime = downtimeBetween(j.stoppedAt ?? null, j.resumedAt ?? null);
  return {
    id: j.id,
    guest: j.guest,
    priority: j.priority,
    group: j.group,
    from: j.from,
    to: j.to,
    state: j.state,
    technique: j.technique,
    ...(j.asked.options ? { options: j.asked.options } : {}),
    strategy: j.strategy,
    contention: j.contention,
    enforcement: j.enforcement,
    path: [...j.links],
    sliceBps: j.sliceBps,
    progressShare: j.copyEnded && j.resumed ? 1 : j.progressShare,
    transferredBytes: j.progress?.transferredBytes ?? 0,
    remainingBytes: j.progress?.remainingBytes ?? 0,
    passes: j.progress?.passes ?? 0,
    ...(j.progress?.disk === undefined ? {} : { disk: j.progress.disk }),
    ...(j.pull ? { pull: pullView(j, j.pull) } : {}),
    downtimeMs: j.progress?.downtimeMs ?? null,
    ...(seenDowntime === undefined ? {} : { seenDowntime }),
    requestedAtMs: j.requestedAtMs,
    startedAtMs: j.startedAtMs,
    endedAtMs: j.endedAtMs,
    totalMs: j.totalMs,
    note: j.note,
    deadlineAtMs: j.deadlineAtMs,
    plan: j.planned,
    reasons: [...j.reasons],
    sliceSteps: [...j.sliceSteps],
    transitions: [...j.transitions],
  };
}

/** Explaining is more work than showing: above so many at a time it is left to those who ask for one. */
const MOST_EXPLAINED = 50;

/** Migrations as they are now, each with why; of those that have ended only what became of them. */
export function migrationViews(state: ControllerState, jobs: readonly Job[], nowMs: number): MigrationView[] {
  const open = jobs.filter((j) => !isFinal(j.state)).length;
  return jobs.map((j) =>
    open <= MOST_EXPLAINED && !isFinal(j.state) ? explainedView(state, j, nowMs) : migrationView(j),
  );
}

export const explainedView = (state: ControllerState, j: Job, nowMs: number): MigrationView => ({
  ...migrationView(j),
  explanation: explainJob(state, j, nowMs),
});

export const policyView = (state: ControllerState): PolicyView => ({
  policy: state.policy.doc,
  status: state.policyStatus,
  store: state.settings.policyStore,
});

/** Whole content of a topic, for a reader that just came. */
export function snapshot<T extends Topic>(state: ControllerState, topic: T, nowMs: number): TopicData[T] {
  const views: { [K in Topic]: () => TopicData[K] } = {
    topology: () => topologyView(state),
    rates: () => ratesView(state, nowMs),
    slices: () => slicesView(state),
    migrations: () => ({ migrations: migrationViews(state, [...state.jobs.values()], nowMs) }),
    decisions: () => ({ decisions: [...state.decisions] }),
    policy: () => policyView(state),
  };
  return views[topic]();
}

export function statusView(state: ControllerState, nowMs: number): StatusView {
  return {
    version: state.settings.version,
    upSinceMs: state.startedAtMs,
    topology: topologyView(state),
    rates: ratesView(state, nowMs),
    slices: slicesView(state),
    migrations: migrationViews(state, [...state.jobs.values()], nowMs),
    policy: policyView(state),
  };
}
