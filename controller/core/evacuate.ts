/**
 * Emptying a host: where its guests go, and when. `policies/planner/` chooses destinations on the network as it is now and
 * plans the moves beside all that is under way; nothing is changed here. `controller/io/server.ts` asks for it, and asks the
 * core for the moves when they are to be made. Pure.
 */
import { FairwayError, isFinal, type Priority, prioritySchema } from '../../contracts/common.ts';
import type { EvacuateRequest, Evacuation, MigrateRequest } from '../../contracts/rest.ts';
import { chooseDestinations, type PlacementRule } from '../../policies/planner/index.ts';
import { reportedGuest } from './guestHosts.ts';
import { modelOf } from './guestModel.ts';
import { InstanceBuilder } from './instance.ts';
import { choosePath } from './jobPath.ts';
import { newJob } from './newJob.ts';
import { planJobs, runsOf } from './planning.ts';
import { guestTraffic } from './rates.ts';
import type { AgentState, ControllerState, Job } from './state.ts';

const MB = 1e6;

/** Labels of guests that rules of placement are made of: guests of one value are kept apart, or together. */
const RULE_LABELS = ['apart', 'together', 'only-on', 'never-on'] as const;

/**
 * The moves that would empty a host now, planned. Guests that cannot be placed are listed with what stands against it.
 * @throws FairwayError HOST_UNKNOWN (notFound), AGENT_AWAY (conflict)
 */
export function planEvacuation(state: ControllerState, request: EvacuateRequest, nowMs: number): Evacuation {
  const agent = state.agents.get(request.host);
  if (!agent || agent.driver === 'none') throw unknownHost(state, request.host);
  if (!agent.connected) {
    const text = `the agent of ${request.host} is not connected, so that its guests cannot be moved; start it again`;
    throw new FairwayError('AGENT_AWAY', text, ['conflict']);
  }
  const wrong = [...Object.keys(request.priorities), ...Object.keys(request.deadlines)].find(
    (name) => !agent.guests.some((g) => g.spec.name === name),
  );
  if (wrong !== undefined)
    throw new FairwayError('GUEST_UNKNOWN', `no guest ${wrong} is on ${request.host}`, ['notFound']);

  const open = new Map([...state.jobs.values()].filter((j) => !isFinal(j.state)).map((j) => [j.guest, j]));
  const present = agent.guests.filter((g) => g.state === 'running' || g.state === 'paused' || g.state === 'incoming');
  const moving: Evacuation['moving'] = [];
  const refused: Evacuation['refused'] = [];
  for (const { spec } of present) {
    const job = open.get(spec.name);
    if (job === undefined) continue;
    if (job.from === request.host) moving.push({ guest: spec.name, migration: job.id, destination: job.to });
    else refused.push({ guest: spec.name, reason: `is on its way here (${job.id}); evacuate again once it has come` });
  }

  const chosen = destinations(state, agent, request, open, nowMs);
  for (const r of chosen.refused) refused.push({ guest: r.vm, reason: withNames(state, r.reason) });
  const asked: MigrateRequest = {
    priority: request.priority ?? 'medium',
    planned: true,
    moves: chosen.migrations.map((m) => {
      const deadlineMs = request.deadlines[m.vm] ?? request.deadlineMs;
      return {
        guest: m.vm,
        destination: m.to,
        priority: priorityOf(state, request, m.vm),
        ...(deadlineMs === undefined ? {} : { deadlineMs }),
      };
    }),
  };
  const reasons = new Map(chosen.migrations.map((m) => [m.vm, withNames(state, m.reason)]));
  const drafts: Job[] = [];
  for (const move of asked.moves) {
    const job = newJob(state, asked, move, { id: move.guest, group: null, nowMs });
    const way = job === undefined ? 'no agent reports it' : choosePath(state, job, nowMs);
    if (job === undefined || typeof way === 'string') refused.push({ guest: move.guest, reason: String(way) });
    else drafts.push({ ...job, ...way.path });
  }
  // Who is held ready for its turn has its place in the plan like who is not ready yet.
  const waiting = [...state.jobs.values()].filter(
    (j) => ((j.isPlanned && j.state === 'queued') || j.isHeld) && j.dpids.length > 0,
  );
  const made = planJobs(state, [...waiting, ...drafts], nowMs);
  const runs = runsOf(made, nowMs);
  const moves: Evacuation['moves'] = [];
  for (const job of drafts) {
    const plan = runs.get(job.id);
    if (plan === undefined) {
      const why = made.plan.refused?.find((r) => r.vm === job.id)?.reason ?? 'it has no place in the plan';
      refused.push({ guest: job.guest, reason: withNames(state, why) });
      continue;
    }
    moves.push({
      guest: job.guest,
      from: job.from,
      destination: job.to,
      priority: job.priority,
      deadlineMs: job.deadlineAtMs === null ? null : job.deadlineAtMs - nowMs,
      reason: reasons.get(job.guest) ?? '',
      migration: null,
      plan,
    });
  }
  moves.sort((a, b) => a.plan.startAtMs - b.plan.startAtMs || (a.guest < b.guest ? -1 : 1));
  return {
    host: request.host,
    atMs: nowMs,
    group: null,
    moves,
    refused,
    moving,
    endsAtMs: moves.reduce((most, m) => Math.max(most, m.plan.endAtMs), nowMs),
    boundAtMs: nowMs + Math.round(made.plan.lower_bound_s * 1000),
  };
}

/** The planner knows switches by datapath id; people know them by name. */
function withNames(state: ControllerState, text: string): string {
  return text.replace(/\b[0-9a-f]{16}\b/g, (dpid) => state.topology.switches.get(dpid)?.name || dpid);
}

/** The request that makes the moves of an evacuation. */
export function movesOf(e: Evacuation): MigrateRequest {
  return {
    priority: 'medium',
    planned: true,
    moves: e.moves.map(({ guest, destination, priority, deadlineMs }) => ({
      guest,
      destination,
      priority,
      ...(deadlineMs === null ? {} : { deadlineMs }),
    })),
  };
}

function unknownHost(state: ControllerState, host: string): FairwayError {
  const known = [...state.agents.values()].filter((a) => a.driver !== 'none').map((a) => a.host);
  const text = `no agent runs for host ${host}; known hosts: ${known.sort().join(', ') || 'none'}`;
  return new FairwayError('HOST_UNKNOWN', text, ['notFound']);
}

function priorityOf(state: ControllerState, request: EvacuateRequest, guest: string): Priority {
  const said = request.priorities[guest] ?? request.priority;
  if (said !== undefined) return said;
  const own = prioritySchema.safeParse(reportedGuest(state, guest)?.info.spec.labels?.priority);
  return own.success ? own.data : 'medium';
}

/** Guests may go to connected hosts of the same kind, over the ways that the network has from here. */
function destinations(
  state: ControllerState,
  from: AgentState,
  request: EvacuateRequest,
  open: ReadonlyMap<string, Job>,
  nowMs: number,
): ReturnType<typeof chooseDestinations> {
  const builder = new InstanceBuilder(state, nowMs);
  builder.host(from.host);
  const some = from.guests.find((g) => g.state === 'running' || g.state === 'paused')?.spec.name;
  if (some === undefined) return { migrations: [], refused: [] };
  const hosts = [...state.agents.values()].filter(
    (a) => a.connected && a.driver === from.driver && a.dpid !== null && a.host !== from.host,
  );
  const rules = new Map<string, PlacementRule>();
  for (const a of [from, ...hosts]) {
    builder.host(a.host);
    if (a !== from) {
      // Any guest's way is every guest's way.
      const ask = { moves: [], priority: 'medium' as const };
      const job = newJob(state, ask, { guest: some, destination: a.host }, { id: some, group: null, nowMs });
      const way = job === undefined ? '' : choosePath(state, job, nowMs);
      if (typeof way !== 'string') builder.path(from.host, a.host, way.path.links, way.path.dpids);
    }
    for (const { spec, state: is } of a.guests) {
      for (const rule of rulesOf(spec.labels ?? {})) rules.set(JSON.stringify(rule), rule);
      if (is === 'stopped') continue;
      const job = open.get(spec.name);
      const size = { memory_mb: (spec.memoryMiB * 2 ** 20) / MB, size_units: spec.memoryMiB };
      const labels = { ...(spec.labels ?? {}) };
      if (job !== undefined || is === 'incoming') {
        // Who is on the way takes room where it is and where it goes; it is not moved by anybody else.
        const at = job?.to ?? a.host;
        if (a.host !== at && state.agents.has(at))
          builder.vm({ id: `${spec.name} at ${at}`, host: at, ...size, labels, pinned: true });
        if (a !== from) builder.vm({ id: `${spec.name} on ${a.host}`, host: a.host, ...size, pinned: true });
        continue;
      }
      const traffic = a === from ? guestTraffic(state, spec.name) : undefined;
      builder.vm({
        id: spec.name,
        host: a.host,
        ...size,
        labels,
        priority: priorityOf(state, request, spec.name),
        ...(traffic === undefined ? {} : { out_mbps: traffic.outBps / MB, in_mbps: traffic.inBps / MB }),
        ...dirtyOf(state, spec.name, a),
      });
    }
  }
  return chooseDestinations({
    instance: builder.finish(`evacuation of ${from.host}`),
    host: from.host,
    rules: [...rules.values()],
    excluded: request.exclude,
  });
}

function dirtyOf(
  state: ControllerState,
  guest: string,
  a: AgentState,
): { hot_dirty_mb?: number; hot_dirty_s?: number } {
  const spec = a.guests.find((g) => g.spec.name === guest)?.spec;
  if (spec === undefined) return {};
  const model = modelOf(state, { spec, guest, dirtyBytesPerS: null, workingSetBytes: null });
  if (model.dirtyBytesPerS <= 0 || model.workingSetBytes >= model.memoryBytes) return {};
  return { hot_dirty_mb: model.workingSetBytes / MB, hot_dirty_s: model.workingSetBytes / model.dirtyBytesPerS };
}

/** `apart=db`: no two guests labelled so on one host; `together=shop`: all on one; `only-on=ssd`: on hosts labelled `ssd` only. */
function rulesOf(labels: Readonly<Record<string, string>>): PlacementRule[] {
  return RULE_LABELS.flatMap((kind): PlacementRule[] => {
    const value = labels[kind];
    if (value === undefined) return [];
    const label = `${kind}=${value}`;
    return kind === 'apart' || kind === 'together' ? [{ kind, label }] : [{ kind, label, hostLabel: value }];
  });
}
