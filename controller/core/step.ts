/**
 * The controller's one loop: (state, event, now) → { state, effects }. Pure. An event changes the state; then everything
 * that follows from the state is derived anew (slices, flows, meters, queues) and compared with what is installed, and
 * only the difference becomes effects. `controller/io/server.ts` feeds it and carries the effects out.
 */

import { PRIORITIES } from '../../contracts/common.ts';
import { onOvsPorts } from './capacities.ts';
import { desiredTables, linkRef, QUEUE, queuedLinks, queuesFor } from './desired.ts';
import { difference, EMPTY_TABLES, isDifferent, type SwitchTables } from './difference.ts';
import { discover } from './discovery.ts';
import type { Effect, Event, PortQos } from './events.ts';
import { watchHolds } from './hold.ts';
import { followLinks } from './jobPath.ts';
import {
  activeSlices,
  admitWaiting,
  advance,
  onAgentMessage,
  onAnnouncement,
  onCancel,
  onCommandDone,
  onMigrate,
  type Settled,
  settleIntoRunning,
} from './jobs.ts';
import { onForget } from './lost.ts';
import {
  linksAdded,
  onAgentDown,
  onAgentUp,
  onCounters,
  onGuests,
  onPacketIn,
  onPortChanged,
  onSwitchDown,
  onSwitchUp,
  tablesFound,
} from './network.ts';
import { onOrderDone, ordersOf, repeatOrders } from './orders.ts';
import { followOverlays, overlayEntry } from './overlays.ts';
import { advancePulls, onPull, onPullDone, pullAgain, watchPulls } from './pull.ts';
import { endQuenches, onPacketInsOver, quenchesCounted } from './quench.ts';
import { directionsNow } from './rates.ts';
import { advanceRecoveries, onRecoveryDone, onStreamEvent, recoverWith } from './recovery.ts';
import { reserveAll } from './reserve.ts';
import { isWorthKeeping } from './restore.ts';
import { nextTry, retryMs } from './retry.ts';
import { askAgain, giveUp, onLateEvent, onUnanswered, reconcile } from './returns.ts';
import { isSettling, settleDown, withoutForgetting } from './settle.ts';
import { type ControllerState, type QosState, type SwitchState, withEntry, withoutEntry } from './state.ts';
import { onTelemetry } from './telemetry.ts';
import { onTunnelDone, writeTunnels } from './tunnels.ts';
import { onOvsdb, probeTunnels, watchTunnels } from './tunnelWatch.ts';
import { Turn } from './turn.ts';
import { migrationViews, policyView, ratesView, slicesView, topologyView } from './views.ts';

export interface Step {
  state: ControllerState;
  effects: Effect[];
}

/** Enough for any chain of conditions that become true in one turn; a longer one goes on in the next. */
const MAX_ROUNDS = 4;

export function step(state: ControllerState, event: Event, nowMs: number): Step {
  return stepAll(state, [event], nowMs);
}

/**
 * Works on events that came together in one turn: each changes the state in its order, and what follows from the state is
 * derived once for all. On a network of a thousand switches the deriving is nearly all of the work.
 */
export function stepAll(state: ControllerState, events: readonly Event[], nowMs: number): Step {
  const t = new Turn(state, nowMs);
  for (const event of events) {
    if (event.kind !== 'packetIn') linksAdded(t);
    handle(t, event);
  }
  linksAdded(t);
  settle(t, events, state);
  publish(t, state, events);
  return { state: t.state, effects: t.effects };
}

function handle(t: Turn, e: Event): void {
  switch (e.kind) {
    case 'switchUp':
      onSwitchUp(t, e);
      break;
    case 'switchDown':
      onSwitchDown(t, e);
      break;
    case 'portChanged':
      onPortChanged(t, e);
      break;
    case 'ovsPorts':
      onOvsPorts(t, e);
      break;
    case 'packetIn':
      onAnnouncement(t, e);
      onPacketIn(t, e);
      break;
    case 'packetInsOver':
      onPacketInsOver(t, e);
      break;
    case 'counters':
      onCounters(t, e);
      quenchesCounted(t, e);
      break;
    case 'sampled':
      t.isSampled = true;
      watchHolds(t);
      t.set({ directions: directionsNow(t.state) });
      t.reserveNow ||= activeSlices(t.state);
      settleIntoRunning(t);
      watchPulls(t);
      break;
    case 'written':
      onWritten(t, e);
      break;
    case 'qosDone':
      onQosDone(t, e);
      break;
    case 'tunnelDone':
      onTunnelDone(t, e);
      probeTunnels(t);
      break;
    case 'ovsdb':
      onOvsdb(t, e);
      break;
    case 'agentUp':
      onAgentUp(t, e.host, e.hello);
      recoverWith(t, e.host);
      ordersOf(t, e.host);
      reconcile(t, e.host, e.hello);
      pullAgain(t, e.host);
      watchHolds(t);
      // Its sources can be told their pace again, also where no hold was begun, as between a start and the first tick.
      t.reserveNow = true;
      break;
    case 'agentDown':
      onAgentDown(t, e.host);
      watchHolds(t);
      break;
    case 'agentMessage':
      if (e.message.type === 'guests') onGuests(t, e.host, e.message.guests);
      else if (e.message.type === 'telemetry') onTelemetry(t, e.host, e.message);
      else {
        onAgentMessage(t, e.host, e.message, e.clock);
        onStreamEvent(t, e.host, e.message);
        onLateEvent(t, e.host, e.message);
      }
      break;
    case 'commandDone':
      onCommandDone(t, e);
      onUnanswered(t, e);
      onOrderDone(t, e);
      onRecoveryDone(t, e);
      onPullDone(t, e);
      break;
    case 'policyChanged':
      t.set({ policy: e.policy, policyStatus: e.status });
      t.reserveNow = true;
      t.decide('policy', null, [
        {
          rule: 'policy.accepted',
          text: `policy revision ${e.status.revision} is in force`,
          inputs: { revision: e.status.revision },
        },
      ]);
      break;
    case 'policyRefused':
      t.set({ policyStatus: e.status });
      t.decide('policy', null, [
        {
          rule: 'policy.refused',
          text: `an edit was refused and the last good policy stays in force: ${e.status.reason}`,
          inputs: {},
        },
      ]);
      break;
    case 'migrate':
      onMigrate(t, e);
      break;
    case 'cancel':
      onCancel(t, e.id);
      break;
    case 'forget':
      onForget(t, e.id);
      break;
    case 'pull':
      onPull(t, e);
      break;
    case 'tick':
      watchHolds(t);
      discover(t);
      probeTunnels(t);
      watchTunnels(t);
      giveUp(t);
      repeatOrders(t);
      endQuenches(t);
  }
}

/** Everything that follows from the state. */
function settle(t: Turn, events: readonly Event[], before: ControllerState): void {
  if (settleDown(t, () => queuesWanted(t.state))) {
    t.reserveNow = true;
    for (const host of t.state.agents.keys()) askAgain(t, host);
  }
  followLinks(t, before);
  admitWaiting(t);
  // Readings come in every period ('sampled'); where they do not, slices are still worked out, from old knowledge.
  const overdueMs = t.state.policy.doc.reservation.periodMs * 1.5;
  if (
    t.reserveNow ||
    isOtherCapacity(t.state, before) ||
    (events.some((e) => e.kind === 'tick') && activeSlices(t.state) && t.nowMs - t.state.lastReservationMs > overdueMs)
  )
    reserveAll(t);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    followOverlays(t);
    writeQueues(t);
    writeTunnels(t);
    const settled = writeTables(t);
    t.reserveNow = false;
    const isAdvanced = advance(t, settled);
    const isRecovered = advanceRecoveries(t, settled);
    if (!advancePulls(t, settled) && !isRecovered && !isAdvanced) return;
    if (t.reserveNow) reserveAll(t);
  }
}

/** Whether a link that is shared out has more or less to share than before. */
function isOtherCapacity({ topology, shares }: ControllerState, before: ControllerState): boolean {
  if (topology === before.topology) return false;
  return [...shares.keys()].some((l) => topology.capacityBps(l) !== before.topology.capacityBps(l));
}

/** Sends each switch its difference, one write at a time; answers which switches hold what they should. */
function writeTables(t: Turn): Settled {
  const desired = desiredTables(t.state);
  const settling = isSettling(t.state);
  const open = new Set<string>();
  /** Switches that refused something lately that is still wanted. */
  const waiting = new Set<string>();
  for (const [dpid, known] of t.state.switches) {
    if (!known.connected) continue;
    const derived = desired.get(dpid) ?? EMPTY_TABLES;
    const whole = settling ? withoutForgetting(t.state, derived, known.installed) : derived;
    const s = withoutOldRefusal(t, dpid, known, whole);
    if (t.nowMs < s.retryAtMs) waiting.add(dpid);
    const want = waiting.has(dpid) ? withoutRefused(whole, s) : whole;
    if (want !== whole && isDifferent(s.installed, whole)) open.add(dpid);
    if (s.inFlight) {
      if (isDifferent(s.inFlight.target, want) || isDifferent(s.installed, want)) open.add(dpid);
      continue;
    }
    const messages = difference(s.installed, want);
    if (messages.length === 0) continue;
    open.add(dpid);
    const batch = t.state.nextSerial;
    t.set({
      nextSerial: batch + 1,
      switches: withEntry(t.state.switches, dpid, { ...s, inFlight: { batch, target: want } }),
    });
    t.effects.push({ kind: 'write', dpid, batch, messages });
  }
  return {
    // A switch that is away cannot confirm; it is brought up to date when it returns, and does not hold up a guest meanwhile.
    // While the network is being found again, what is derived is not the whole way yet.
    flows: (dpids) => !settling && [...dpids].every((d) => !open.has(d)),
    refusedBy: (dpids) => [...dpids].find((d) => open.has(d) && waiting.has(d)),
    queues: (links) =>
      links.every(
        (l) => !isOpen(t.state.qos.get(l), queuesFor(t.state, l), t.state.settings.hasQueues(linkRef(l).dpid)),
      ),
  };
}

/**
 * Where nothing of what was refused is wanted any more, there is nothing to wait for: a later migration may want the same
 * flows, and the switch have room for them by then. How often its table was full in a row is remembered.
 */
function withoutOldRefusal(t: Turn, dpid: string, s: SwitchState, wanted: SwitchTables): SwitchState {
  if (s.refused.size === 0 || [...s.refused].some((key) => wanted.flows.has(key))) return s;
  const next = { ...s, refused: new Set<string>(), refusedWhy: '', retryAtMs: 0 };
  t.set({ switches: withEntry(t.state.switches, dpid, next) });
  return next;
}

/** Ports whose queues are wanted now. */
function queuesWanted(state: ControllerState): { dpid: string; portName: string }[] {
  return [...queuedLinks(state)].flatMap((link) => {
    const ref = linkRef(link);
    const port = state.topology.port(ref);
    return port ? [{ dpid: ref.dpid, portName: port.name }] : [];
  });
}

/** What to send while a refusal is recent: no refused flow, and no change of meters and groups. */
function withoutRefused(tables: SwitchTables, s: SwitchState): SwitchTables {
  return {
    meters: s.installed.meters,
    groups: s.installed.groups,
    flows: new Map([...tables.flows].filter(([key]) => !s.refused.has(key))),
  };
}

function onWritten(t: Turn, e: Extract<Event, { kind: 'written' }>): void {
  const s = t.state.switches.get(e.dpid);
  if (s?.inFlight?.batch !== e.batch) return;
  const { target } = s.inFlight;
  if (e.outcome === 'applied') {
    const isWhole = [...s.refused].every((key) => target.flows.has(key));
    const settled = isWhole ? { refused: new Set<string>(), refusedWhy: '', tableFullTimes: 0 } : {};
    t.set({ switches: withEntry(t.state.switches, e.dpid, { ...s, ...settled, installed: target, inFlight: null }) });
  } else if (e.outcome === 'refused') {
    // Part of the batch may be in force: what was read back says which.
    const installed = e.holds ? tablesFound(e.holds.flows, e.holds.meterIds, e.holds.groups) : s.installed;
    const missing = [...target.flows.values()].filter((f) => installed.flows.get(f.key)?.signature !== f.signature);
    // A table that is found full again is given twice as long as before.
    const tableFullTimes = e.isTableFull === true ? s.tableFullTimes + 1 : 0;
    const waitMs = retryMs(tableFullTimes);
    const refusedWhy = whyRefused(e);
    const isServedAnew = e.isGroupRefused === true && withoutGroups(t, e.dpid, refusedWhy);
    t.log('error', 'switch.refused', { dpid: e.dpid, why: refusedWhy, errors: e.errors, againInMs: waitMs });
    t.set({
      switches: withEntry(t.state.switches, e.dpid, {
        ...s,
        inFlight: null,
        installed,
        refused: new Set(missing.map((f) => f.key)),
        refusedWhy,
        tableFullTimes,
        // Without groups it is asked for something else, which need not wait.
        retryAtMs: t.nowMs + (isServedAnew ? 0 : waitMs),
      }),
    });
  } else t.set({ switches: withEntry(t.state.switches, e.dpid, { ...s, inFlight: null }) });
}

/** A switch that refused a group it should be able to have does without groups until it connects again. False when it did already. */
function withoutGroups(t: Turn, dpid: string, why: string): boolean {
  const { topology } = t.state;
  if (!topology.switches.get(dpid)?.groups) return false;
  t.set({ topology: topology.withGroups(dpid, null) });
  t.log('warn', 'switch.withoutGroups', { dpid, why });
  return true;
}

/** What a switch said when it refused, for the log and the records of the migrations it concerns. */
function whyRefused(e: Extract<Event, { kind: 'written' }>): string {
  const kinds = [...new Set(e.errors)].join(', ');
  return e.isTableFull === true
    ? `its flow table is full (${kinds}): remove other controllers' flows or raise its limit`
    : `it answered ${kinds}`;
}

function sameQos(a: PortQos | null, b: PortQos | null): boolean {
  if (a === b || a === null || b === null) return a === b;
  const isSame = (q: PortQos['queues'][number], o: PortQos['queues'][number] | undefined) =>
    q.id === o?.id && q.minBps === o.minBps && q.maxBps === o.maxBps && q.priority === o.priority;
  return (
    a.maxBps === b.maxBps && a.queues.length === b.queues.length && a.queues.every((q, i) => isSame(q, b.queues[i]))
  );
}

function isOpen(q: QosState | undefined, wanted: PortQos | null, mayHave: boolean): boolean {
  if (!mayHave) return false;
  if (!q) return wanted !== null;
  return q.inFlight !== null || q.stale || (q.note === '' && !sameQos(q.applied, wanted));
}

/** Brings the queues of every link to what its slices ask for, one change at a time. */
function writeQueues(t: Turn): void {
  const filters = PRIORITIES.map((p) => ({ dscp: t.state.policy.doc.marks[p], queue: QUEUE[p] }));
  for (const link of queuedLinks(t.state)) {
    const { dpid, portNo } = linkRef(link);
    const portName = t.state.topology.port({ dpid, portNo })?.name;
    const wanted = queuesFor(t.state, link);
    const before: QosState = t.state.qos.get(link) ?? {
      ...{ wanted: null, inFlight: null, applied: null, stale: false, enforcement: 'pace', note: '', failures: 0 },
      retryAtMs: 0,
    };
    // Of a change that could not be made it is not known what of it was: it is not done with before one has been confirmed.
    const holds = !before.stale && before.note === '' && sameQos(before.applied, wanted);
    if (before.inFlight || portName === undefined || holds) continue;
    // It is tried again when the next one is due, or after a while; at once where the switch came up while a try was under way.
    const waits = before.note !== '' && !before.stale && t.nowMs < before.retryAtMs;
    if (waits && sameQos(before.wanted, wanted)) continue;
    const serial = t.state.nextSerial;
    t.set({
      nextSerial: serial + 1,
      qos: withEntry(t.state.qos, link, { ...before, wanted, stale: false, inFlight: { serial, qos: wanted } }),
    });
    const used = filters.filter((f) => wanted?.queues.some((q) => q.id === f.queue));
    t.effects.push({
      kind: 'qos',
      link,
      isFresh: before.applied === null || before.stale,
      dpid,
      portName,
      serial,
      qos: wanted,
      filters: used,
    });
  }
}

function onQosDone(t: Turn, e: Extract<Event, { kind: 'qosDone' }>): void {
  const q = t.state.qos.get(e.link);
  if (q?.inFlight?.serial !== e.serial) return;
  const failed = e.note !== '';
  if (failed) t.log('warn', 'queues.notSet', { link: e.link, note: e.note });
  const applied = failed ? q.applied : q.inFlight.qos;
  if (applied === null && !failed) t.set({ qos: withoutEntry(t.state.qos, e.link) });
  else
    t.set({
      qos: withEntry(t.state.qos, e.link, {
        ...q,
        inFlight: null,
        applied,
        enforcement: e.enforcement,
        note: e.note,
        ...nextTry(t, q, failed),
      }),
    });
}

/** What changed in this turn, for the feed and the journal. */
function publish(t: Turn, before: ControllerState, events: readonly Event[]): void {
  const { state } = t;
  if (
    state.topology !== before.topology ||
    state.agents !== before.agents ||
    state.overlays !== before.overlays ||
    state.discovery.reportedMs !== before.discovery.reportedMs ||
    state.quenches !== before.quenches ||
    (state.switches !== before.switches && connected(state) !== connected(before))
  ) {
    t.effects.push({ kind: 'publish', topic: 'topology', data: topologyView(state) });
  }
  if (events.some((e) => e.kind === 'sampled'))
    t.effects.push({ kind: 'publish', topic: 'rates', data: ratesView(state, t.nowMs) });
  if (state.shares !== before.shares || state.qos !== before.qos)
    t.effects.push({ kind: 'publish', topic: 'slices', data: slicesView(state) });
  if (state.jobs !== before.jobs) {
    const changed = [...state.jobs.values()].filter((j) => before.jobs.get(j.id) !== j);
    for (const j of changed)
      if (isWorthKeeping(before.jobs.get(j.id), j))
        t.effects.push({ kind: 'journal', entry: { type: 'job', atMs: t.nowMs, job: j } });
    t.effects.push({
      kind: 'publish',
      topic: 'migrations',
      data: { migrations: migrationViews(state, changed, t.nowMs) },
    });
  }
  if (state.overlays !== before.overlays) {
    for (const guest of new Set([...state.overlays.keys(), ...before.overlays.keys()])) {
      const now = state.overlays.get(guest) ?? null;
      if (now !== (before.overlays.get(guest) ?? null))
        t.effects.push({ kind: 'journal', entry: overlayEntry(guest, now, t.nowMs) });
    }
  }
  if (t.newDecisions.length > 0)
    t.effects.push({ kind: 'publish', topic: 'decisions', data: { decisions: t.newDecisions } });
  if (state.policyStatus !== before.policyStatus || state.policy !== before.policy) {
    t.effects.push({ kind: 'publish', topic: 'policy', data: policyView(state) });
  }
}

function connected(state: ControllerState): string {
  return [...state.switches].map(([dpid, s]) => `${dpid}${s.connected}`).join();
}
