/**
 * `policy-edit`: the policy lives in a real Redis; while a medium-priority migration runs, an operator edits it with
 * `redis-cli HSET`. A good edit changes the slice; a broken one changes nothing, and its reason can be read in Redis.
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import type { LabRun } from '../../../contracts/results.ts';
import type { FairwayInLab } from '../fairway.ts';
import type { GuestWish } from '../guests.ts';
import { Workload } from '../measure.ts';
import type { Lab } from '../network.ts';
import {
  copyOf,
  FIGURES,
  follow,
  measured,
  noteSwitchLeftovers,
  requestMove,
  round,
  type Session,
  settle,
  startFairway,
  summary,
  watchGuest,
  withLab,
} from '../session.ts';
import { attempt, preciseNow, runIn, sleep, spawnIn, stop, waitFor } from '../shell.ts';

const GUEST: GuestWish = { index: 0, memoryMiB: 384, dirtyPagesPerS: 200, workingSetMiB: 192 };
const REDIS_PORT = 6390;
/** How long the slice is looked at after each edit. */
const WATCH_MS = 2500;

export interface Edit {
  command: string;
  /** ms since the copy's start. */
  atMs: number;
  sliceBeforeMbps: number;
  sliceAfterMbps: number;
  /** What `redis-cli HGETALL fairway:policy:status` says afterwards. */
  status: Record<string, string>;
}

export interface PolicyEditRun extends LabRun {
  edits: Edit[];
  steps: { atMs: number; mbps: number; rule: string; reason: string }[];
}

export function policyEdit(session: Session): Promise<PolicyEditRun[]> {
  return withLab(
    session,
    async (lab) => {
      session.say('medium: Fairway with its policy in Redis');
      const redis = await startRedis(session, lab);
      const { fairway, specs } = await startFairway(session, lab, [GUEST], {
        store: { store: 'redis', redisUrl: `redis://127.0.0.1:${REDIS_PORT}` },
      });
      try {
        const guest = await watchGuest(session, lab, GUEST.index);
        const workload = await Workload.start(lab, FIGURES.workloadMbps * 1e6, 5201, session.signal);
        await settle(session, lab, [guest]);
        const ids = await requestMove(fairway, specs, 'medium');
        const id = ids[0] as string;
        await fairway.until(
          'the first second of the copy',
          60_000,
          async () => ((await fairway.client.migration(id)).state === 'copying' ? true : undefined),
          session.signal,
        );
        await sleep(WATCH_MS, session.signal);
        const edits: Edit[] = [];
        for (const [field, value] of [
          ['sla.default.ceiling', '110 Mbit/s'],
          ['reservation.medium', 'capacity - clamp(rate, floor'],
          ['sla.default.ceiling', '140 Mbit/s'],
        ] as const) {
          const edit = await editPolicy(session, lab, fairway, id, field, value);
          edits.push(edit);
          session.say(
            `  ${edit.command}: ${edit.status.state}${edit.status.reason ? ` (${edit.status.reason})` : ''}, ` +
              `slice ${edit.sliceBeforeMbps} → ${edit.sliceAfterMbps} Mbit/s`,
          );
          // What was broken is put right again, else every later edit would be refused with it.
          if (edit.status.state === 'refused') {
            const good = await fairway.client.policy();
            await cli(lab, ['HSET', 'fairway:policy', field, String(good.policy.reservation.medium)]);
          }
        }
        const views = await follow(session, fairway, ids, 300_000);
        const view = views[0] as (typeof views)[number];
        const copy = copyOf(view, 'medium');
        const run: PolicyEditRun = {
          ...(await measured(session, lab, copy, guest, [workload])),
          edits: edits.map((e) => ({ ...e, atMs: Math.round(e.atMs - copy.startMs) })),
          steps: view.sliceSteps.map((s) => ({
            atMs: Math.round(s.atMs - copy.startMs),
            mbps: round(s.rateBps / 1e6),
            rule: s.reason.rule,
            reason: s.reason.text,
          })),
        };
        session.say(`  ${summary(run)}`);
        await noteSwitchLeftovers(session, lab, fairway);
        return [run];
      } finally {
        await fairway.stop();
        await stop(redis, 'SIGTERM');
      }
    },
    true,
  );
}

/** Makes an edit as a person would, and looks what became of it. */
async function editPolicy(
  session: Session,
  lab: Lab,
  fairway: FairwayInLab,
  id: string,
  field: string,
  value: string,
): Promise<Edit> {
  const slice = async () => round((await fairway.client.migration(id)).sliceBps / 1e6);
  const sliceBeforeMbps = await slice();
  const args = ['HSET', 'fairway:policy', field, value];
  const { revision } = await statusOf(lab);
  const atMs = preciseNow();
  await cli(lab, args);
  const isJudged = (s: Record<string, string>) =>
    s.state === 'refused' ? s.field === field : Number(s.revision) > Number(revision);
  await waitFor('the edit to be judged', async () => (isJudged(await statusOf(lab)) ? true : undefined), {
    timeoutMs: 60_000,
    signal: session.signal,
  });
  await sleep(WATCH_MS, session.signal);
  const status = await statusOf(lab);
  return {
    command: `redis-cli HSET fairway:policy ${field} "${value}"`,
    atMs,
    sliceBeforeMbps,
    sliceAfterMbps: await slice(),
    status,
  };
}

async function statusOf(lab: Lab): Promise<Record<string, string>> {
  const words = (await cli(lab, ['HGETALL', 'fairway:policy:status'])).split('\n');
  const status: Record<string, string> = {};
  for (let i = 0; i + 1 < words.length; i += 2) status[words[i] as string] = words[i + 1] as string;
  return status;
}

const cli = (lab: Lab, args: readonly string[]): Promise<string> =>
  runIn(lab.ns('ctl'), 'redis-cli', ['-p', String(REDIS_PORT), ...args]);

/** A Redis in the control namespace that keeps nothing on disk. */
async function startRedis(session: Session, lab: Lab): Promise<ChildProcess> {
  const options = ['--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', lab.stateDir];
  const child = spawnIn(lab.ns('ctl'), 'redis-server', ['--port', String(REDIS_PORT), ...options], {
    logFile: join(lab.stateDir, 'redis.log'),
  });
  if (child.pid !== undefined) lab.state.addProcess(child.pid, 'redis-server');
  const ping = ['netns', 'exec', lab.ns('ctl'), 'redis-cli', '-p', String(REDIS_PORT), 'PING'];
  await waitFor('redis-server', async () => ((await attempt('ip', ping)).ok ? true : undefined), {
    timeoutMs: 10_000,
    signal: session.signal,
  });
  return child;
}
