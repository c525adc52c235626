/**
 * `fairway demo`, on the stage that `stage.ts` sets up: controller, data centre and agents in one process. A loaded host is emptied; what that cost the workload is measured in
 * the data centre, not asked of the controller. `demoScenario.ts` says what is played, `demoReport.ts` prints it.
 */
import type { FairwayClient } from '../cli/client.ts';
import { FairwayError, isFinal, PRIORITIES, type Priority } from '../contracts/common.ts';
import type { MigrationView } from '../contracts/feed.ts';
import { type Log, silentLog } from '../contracts/log.ts';
import type { StatusView } from '../contracts/rest.ts';
import type { DemoResult } from '../contracts/results.ts';
import { OURS } from '../controller/core/cookies.ts';
import type { DataCentre, LinkSecond } from './datacentre.ts';
import { describeScenario, ProgressReport, reportText } from './demoReport.ts';
import { type DemoScenario, demoScenario } from './demoScenario.ts';
import { sleepOn } from './elasticClock.ts';
import { openStage, type Stage } from './stage.ts';

export interface DemoOptions {
  /** True: nothing is written; the caller prints the result. */
  json: boolean;
  /** Seconds of the data centre's clock in one real second. */
  speed?: number;
  /** Varies rates and memories; the same seed plays the same demo. */
  seed?: number;
  /** Takes text with its line ends. */
  out: (text: string) => void;
  /** Called with every change of a migration. */
  progress?: (m: MigrationView) => void;
  signal?: AbortSignal;
  /** Width of the screen; absent when output is not a screen: then progress is a plain line now and then. */
  columns?: number;
  log?: Log;
  /** Called when everything is known and before anything moves, with the data centre: for those who want to break something. */
  ready?: (dc: DataCentre) => void;
  /** Instead of the demo's own scenario. */
  scenario?: DemoScenario;
  /** False: switches without queues; the controller then guards slices by meters. */
  hasQueues?: boolean;
  /** Real time after which it gives up, ms. Default 55 s. */
  limitMs?: number;
}

const DEFAULT_SPEED = 5;
const TIME_LIMIT_MS = 55_000;
/** Time of the data centre's clock in which rates and directions become known before anything moves. */
const WARM_UP_MS = 7000;
/** The part of it whose mean rate is called "before". */
const BEFORE_MS = 4000;

/**
 * Plays the demo. Throws FairwayError `demo.failed` when a migration did not end well or left something behind,
 * `demo.timeout` when it took too long, `demo.interrupted` after the signal.
 */
export async function runDemo(o: DemoOptions): Promise<DemoResult> {
  const log = o.log ?? silentLog;
  const scenario = o.scenario ?? demoScenario(o.seed ?? 1);
  const out = o.json ? () => {} : o.out;
  let stage: Stage | undefined;
  const limitMs = o.limitMs ?? TIME_LIMIT_MS;
  const deadline = AbortSignal.timeout(limitMs);
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, deadline, ...(o.signal === undefined ? [] : [o.signal])]);

  try {
    stage = await openStage(scenario, {
      speed: o.speed ?? DEFAULT_SPEED,
      log,
      signal,
      ...(o.hasQueues === undefined ? {} : { hasQueues: o.hasQueues }),
      onOpen: () => out(describeScenario(scenario)),
    });
    const { client, clock, dc } = stage;
    const warmFromMs = clock.now();
    await sleepOn(clock, WARM_UP_MS, signal);

    o.ready?.(dc);
    const startMs = clock.now();
    const progress = new ProgressReport({
      out,
      name: (text) => withLinkNames(text, dc),
      ...(o.columns === undefined ? {} : { columns: o.columns }),
    });
    const views = await migrateAll(client, scenario, signal, (m) => {
      o.progress?.(m);
      progress.show(m, (clock.now() - startMs) / 1000);
    });
    const endMs = clock.now();
    const status = await client.status();
    progress.end();

    await stage.closeController();
    const result: DemoResult = {
      format: 'demo-result/1',
      migrations: views.map((m) => migrationResult(m, dc)),
      links: linkResults(dc, status, Math.max(warmFromMs, startMs - BEFORE_MS), startMs, endMs),
      leftovers: dc.leftovers((cookie) => (cookie & OURS.mask) === OURS.cookie),
    };
    const decisions = new Map(views.map((m) => [m.guest, decisionsOf(m).map((text) => withLinkNames(text, dc))]));
    out(reportText(result, scenario, decisions));
    const failure = demoFailure(views, result.leftovers);
    if (failure !== undefined) throw failure;
    return result;
  } catch (error) {
    if (o.signal?.aborted === true) throw new FairwayError('demo.interrupted', 'the demo was interrupted', [], error);
    if (deadline.aborted) {
      const text = `the demo was not done after ${limitMs / 1000} s; try a greater --speed or a less busy machine`;
      throw new FairwayError('demo.timeout', text, [], error);
    }
    throw error;
  } finally {
    stop.abort();
    await stage?.close();
  }
}

/** Why a demo that ran to its end counts as failed: migrations that did not end well, or something left in the switches. */
export function demoFailure(
  views: readonly Pick<MigrationView, 'guest' | 'state' | 'note'>[],
  leftovers: readonly string[],
): FairwayError | undefined {
  const problems = [
    ...views.filter((m) => m.state !== 'done').map((m) => `${m.guest} ${m.state}: ${m.note ?? 'no reason given'}`),
    ...leftovers.map((l) => `left behind: ${l}`),
  ];
  return problems.length === 0 ? undefined : new FairwayError('demo.failed', problems.join('; '));
}

/** Asks for all moves, one request per priority, and follows them to their ends. Answers in the scenario's order. */
async function migrateAll(
  client: FairwayClient,
  scenario: DemoScenario,
  signal: AbortSignal,
  onChange: (m: MigrationView) => void,
): Promise<MigrationView[]> {
  const latest = new Map<string, MigrationView>();
  const done = new AbortController();
  const following = client.follow(
    ['migrations'],
    (e) => {
      if (!('topic' in e) || e.topic !== 'migrations') return;
      for (const m of e.data.migrations) {
        latest.set(m.guest, m);
        onChange(m);
      }
      if (scenario.guests.every((g) => isFinal(latest.get(g.spec.name)?.state ?? 'requested'))) done.abort();
    },
    AbortSignal.any([done.signal, signal]),
  );
  const asking = (async () => {
    for (const priority of PRIORITIES) {
      const moves = movesOf(scenario, priority);
      if (moves.length > 0) await client.migrate({ moves, priority });
    }
  })();
  await Promise.all([following, asking]);
  signal.throwIfAborted();
  return scenario.guests.map((g) => latest.get(g.spec.name) as MigrationView);
}

const movesOf = (scenario: DemoScenario, priority: Priority) =>
  scenario.guests
    .filter((g) => g.priority === priority)
    .map((g) => ({ guest: g.spec.name, destination: g.destination }));

function migrationResult(m: MigrationView, dc: DataCentre): DemoResult['migrations'][number] {
  return {
    vm: m.guest,
    priority: m.priority,
    // A migration that failed before it was decided upon has neither.
    technique: m.technique ?? 'pre-copy',
    strategy: m.strategy ?? 'serial',
    reasons: m.reasons.map((r) => withLinkNames(r.text, dc)),
    totalMs: Math.round(m.totalMs ?? 0),
    downtimeMs: Math.round(m.downtimeMs ?? 0),
    bytes: Math.round(m.transferredBytes),
    from: m.from,
    to: m.to,
    sliceMbps: mbps(meanSliceBps(m)),
    silenceMs: Math.round(dc.longestSilenceMs(m.guest)),
  };
}

/** The controller names links by datapath and port; people know them by their ends. */
function withLinkNames(text: string, dc: DataCentre): string {
  return dc.links.reduce((t, l) => t.replaceAll(l.id, `${l.from}->${l.to}`), text);
}

/** Why it was done this way, without the record of how it went. */
const decisionsOf = (m: MigrationView): string[] =>
  m.reasons.filter((r) => /^(direction|technique|strategy|reservation)\b/.test(r.rule)).map((r) => r.text);

/** Mean of the slice from the start of the copy to its end. */
function meanSliceBps(m: MigrationView): number {
  const from = m.startedAtMs ?? 0;
  const to = from + (m.totalMs ?? 0);
  let bits = 0;
  m.sliceSteps.forEach((s, i) => {
    const until = Math.min(to, m.sliceSteps[i + 1]?.atMs ?? to);
    bits += s.rateBps * Math.max(0, until - Math.max(from, s.atMs));
  });
  return to > from ? bits / (to - from) : 0;
}

const mbps = (bps: number): number => Math.round(bps / 1e5) / 10;

/** What the workload is owed: the floor of the link, or what it wants where that is less. */
const owedBps = (s: LinkSecond, floorBps: number): number => Math.min(floorBps, s.wantedBps);

/** Less than owed; a thousandth is lost to the steps in which the fluid is worked out. */
const isShort = (s: LinkSecond, floorBps: number): boolean => s.workloadBps < owedBps(s, floorBps) * 0.999;

/**
 * The second that tells most: the one that fell shortest of what was owed; when none did, the least of those in which the
 * workload wanted its floor at least; when it never did, the least.
 */
function worstSecond(seconds: readonly LinkSecond[], floorBps: number): LinkSecond {
  const share = (s: LinkSecond) => s.workloadBps / owedBps(s, floorBps);
  const least = (among: readonly LinkSecond[], of: (s: LinkSecond) => number) =>
    among.reduce((a, b) => (of(b) < of(a) ? b : a));
  const short = seconds.filter((s) => isShort(s, floorBps));
  if (short.length > 0) return least(short, share);
  const demanding = seconds.filter((s) => s.wantedBps >= floorBps);
  return least(demanding.length > 0 ? demanding : seconds, (s) => s.workloadBps);
}

/** What the workload got on each link that migrations used, against what it was owed. */
function linkResults(
  dc: DataCentre,
  status: StatusView,
  beforeMs: number,
  startMs: number,
  endMs: number,
): DemoResult['links'] {
  const out: DemoResult['links'] = [];
  for (const link of dc.links) {
    const seconds = dc.history(link.id).filter((s) => s.atMs > startMs && s.atMs <= endMs + 1000);
    if (!seconds.some((s) => s.migrationBps > 0)) continue;
    const slaFloorBps = status.rates.links.find((l) => l.id === link.id)?.floorBps ?? 0;
    const owed = (s: LinkSecond) => owedBps(s, slaFloorBps);
    const worst = worstSecond(seconds, slaFloorBps);
    const before = dc.history(link.id).filter((s) => s.atMs > beforeMs && s.atMs <= startMs);
    const mean = before.reduce((sum, s) => sum + s.workloadBps, 0) / Math.max(1, before.length);
    out.push({
      a: link.from,
      b: link.to,
      floorMbps: mbps(owed(worst)),
      worstWorkloadMbps: mbps(worst.workloadBps),
      capacityMbps: mbps(link.capacityBps),
      slaFloorMbps: mbps(slaFloorBps),
      wantedMbps: mbps(worst.wantedBps),
      beforeMbps: mbps(mean),
      secondsBelowFloor: seconds.filter((s) => isShort(s, slaFloorBps)).length,
    });
  }
  return out;
}
