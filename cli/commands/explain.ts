/** `fairway explain`: why a migration is as it is, what would change it, and when it will be done. */
import { FairwayError, isFinal, type Reason } from '../../contracts/common.ts';
import type { Explanation, MigrationView } from '../../contracts/feed.ts';
import { formatBytes, formatMs, formatRate } from '../../contracts/units.ts';
import type { FairwayClient } from '../client.ts';
import { type ConnectOptions, connect } from '../connect.ts';
import { namingLinks } from '../linkNames.ts';
import { pullText } from '../progress.ts';
import { EXIT, type Terminal } from '../terminal.ts';

interface Options extends ConnectOptions {
  json?: true;
}

export async function explain(terminal: Terminal, o: Options, migration: string): Promise<number> {
  const client = connect(terminal, o);
  const view = await findMigration(client, migration);
  const { explanation } = view;
  if (explanation === undefined) {
    throw new FairwayError(
      'client.unreadable',
      `the controller at ${o.url} explains nothing; it is of an earlier version`,
    );
  }
  terminal.out(
    o.json
      ? `${JSON.stringify({ ...explanation, migration: view })}\n`
      : await namingLinks(client, explanationText(view, explanation)),
  );
  return EXIT.ok;
}

/** By id, else the last migration of a guest of that name. */
export async function findMigration(client: FairwayClient, name: string): Promise<MigrationView> {
  try {
    return await client.migration(name);
  } catch (error) {
    if (!(error instanceof FairwayError) || !error.has('notFound')) throw error;
    const { migrations, topology } = await client.status();
    const last = migrations.findLast((m) => m.guest === name);
    if (last !== undefined) return client.migration(last.id);
    const isGuest = topology.guests?.some((g) => g.name === name) === true;
    const why = isGuest
      ? `guest ${name} has not been migrated`
      : `there is no migration ${name}, and no guest of that name`;
    const ids = migrations.slice(-5).map((m) => m.id);
    const known = ids.length === 0 ? 'there are no migrations' : `the last migrations: ${ids.join(', ')}`;
    throw new FairwayError(error.code, `${why}; ${known}`, error.labels, error);
  }
}

/** The record for a person. */
export function explanationText(m: MigrationView, e: Explanation): string {
  const lines = [`${m.id}: ${m.guest} ${m.from} → ${m.to}, ${m.priority} priority, ${m.state}`, `  ${e.summary}`, ''];
  const say = (what: string, text: string) => lines.push(`${what.padEnd(14)}${text}`);
  const reasons = (list: readonly Reason[]) => {
    for (const r of list) say('', `${r.text} [${r.rule}]`);
  };
  if (e.waits !== null) {
    say('waits', `${e.waits.reason.text} [${e.waits.reason.rule}]`);
    for (const id of e.waits.behind) say('', `behind ${id}`);
  }
  if (e.now) say('now', `${e.now.text} [${e.now.rule}]`);
  const { binding } = e;
  if (binding !== null) {
    const parts = [
      formatRate(binding.capacityBps),
      `workload ${formatRate(binding.workloadBps)}`,
      `floor ${formatRate(binding.floorBps)}`,
      `ceiling ${formatRate(binding.ceilingBps)}`,
      `slices ${formatRate(binding.slicesBps)}`,
    ];
    say('binding link', `${binding.link}: ${parts.join(', ')}`);
  }
  if (e.technique !== null) {
    say('technique', e.technique.value);
    reasons(e.technique.reasons);
  }
  if (e.strategy !== null) {
    // Who has its place in a plan waits for that alone.
    say('strategy', `${e.strategy.value}${m.plan && !isFinal(m.state) ? ' (but the plan says when it starts)' : ''}`);
    reasons(e.strategy.reasons);
  }
  if (e.rate !== null) {
    // Most reasons begin with the rate.
    const { text, rule } = e.rate.reason;
    const rate = formatRate(e.rate.bps);
    say(m.endedAtMs === null ? 'rate' : 'last rate', `${text.startsWith(rate) ? text : `${rate}: ${text}`} [${rule}]`);
  }
  if (m.pull) {
    say('pull', `${pullText(m.pull)}; asked for: ${formatRate(m.pull.rateBps)}`);
    if (m.pull.reason) say('', `slice ${m.pull.reason.text} [${m.pull.reason.rule}]`);
  }
  if (m.plan && !isFinal(m.state)) {
    const late = m.plan.lateMs > 0 ? `, ${formatMs(m.plan.lateMs)} after its deadline` : '';
    // What is past was planned, and may have come otherwise.
    const at = (what: string, atMs: number) => `${atMs < e.atMs ? `was to ${what}` : `${what}s`} ${when(atMs, e.atMs)}`;
    say('plan', `${at('start', m.plan.startAtMs)}, ${at('end', m.plan.endAtMs)}${late}`);
  }
  if (e.end !== null) {
    const basis = {
      progress: 'its progress',
      model: 'the cost model',
      plan: 'the plan',
      behind: 'those it waits behind',
    };
    const latest = e.end.latestAtMs === null ? 'nobody knows when' : when(e.end.latestAtMs, e.atMs);
    say(
      'done',
      `${when(e.end.expectedAtMs, e.atMs)}, between ${when(e.end.earliestAtMs, e.atMs)} and ${latest} (by ${basis[e.end.basis]})`,
    );
  }
  if (m.endedAtMs !== null) say('ended', endText(m, m.endedAtMs, e.atMs));
  if (m.deadlineAtMs) say('deadline', when(m.deadlineAtMs, e.atMs));
  for (const [i, c] of e.changes.entries()) say(i === 0 ? 'would change' : '', `${c.text} [${c.rule}]`);
  return `${lines.join('\n').trimEnd()}\n`;
}

/** `12.3 s ago, after 8.1 s of copying; it stood still for 289 ms; 423.0 MB in 3 passes`. */
function endText(m: MigrationView, endedAtMs: number, nowMs: number): string {
  const copied = m.totalMs === null ? '' : `, after ${formatMs(m.totalMs)} of copying`;
  const downtime = m.state !== 'done' || m.downtimeMs === null ? '' : `; it stood still for ${formatMs(m.downtimeMs)}`;
  const passes = m.passes === 1 ? '1 pass' : `${m.passes} passes`;
  const sent = m.transferredBytes > 0 ? `; ${formatBytes(m.transferredBytes)} in ${passes}` : '';
  return `${when(endedAtMs, nowMs)}${copied}${downtime}${sent}`;
}

const when = (atMs: number, nowMs: number) =>
  atMs >= nowMs ? `in ${formatMs(atMs - nowMs)}` : `${formatMs(nowMs - atMs)} ago`;
