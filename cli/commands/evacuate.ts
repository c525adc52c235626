/** `fairway evacuate`: shows where the guests of a host go and when, moves them, and follows them to their ends. */
import type { Priority } from '../../contracts/common.ts';
import type { Evacuation } from '../../contracts/rest.ts';
import { formatRate } from '../../contracts/units.ts';
import { chart } from '../chart.ts';
import { type ConnectOptions, connect } from '../connect.ts';
import { namingLinks } from '../linkNames.ts';
import { EXIT, type Terminal } from '../terminal.ts';
import { waitForEnd } from './migrate.ts';

interface Options extends ConnectOptions {
  /** Guest ('' for all) and value. */
  priority: [string, Priority][];
  deadline: [string, number][];
  exclude: string[];
  dryRun?: true;
  yes?: true;
  json?: true;
}

export async function evacuate(terminal: Terminal, o: Options, host: string): Promise<number> {
  const client = connect(terminal, o);
  const priority = o.priority.findLast(([guest]) => guest === '')?.[1];
  const deadlineMs = o.deadline.findLast(([guest]) => guest === '')?.[1];
  const found = await client.evacuate({
    host,
    dryRun: true,
    exclude: o.exclude,
    priorities: Object.fromEntries(o.priority.filter(([guest]) => guest !== '')),
    deadlines: Object.fromEntries(o.deadline.filter(([guest]) => guest !== '')),
    ...(priority === undefined ? {} : { priority }),
    ...(deadlineMs === undefined ? {} : { deadlineMs }),
  });
  const tell = (text: string) => (o.json ? terminal.err(text) : terminal.out(text));
  tell(await namingLinks(client, evacuationText(found, terminal.columns() ?? 120)));
  const isComplete = found.refused.length === 0;
  if (o.dryRun || found.moves.length === 0) {
    if (o.json) terminal.out(`${JSON.stringify({ ...found, migrations: [] })}\n`);
    return isComplete ? EXIT.ok : EXIT.failed;
  }
  if (!o.yes && !o.json && terminal.ask) {
    const answer = await terminal.ask(`Move ${count(found.moves.length, 'guest')}? [y/N] `);
    if (terminal.signal.aborted) return EXIT.interrupted;
    if (!/^y(es)?$/i.test(answer.trim())) {
      terminal.err('fairway: nothing was started\n');
      return EXIT.failed;
    }
  }
  // What was shown is what is done: these destinations, whatever has changed since. When they start is planned anew.
  const started = await client.migrate({
    planned: true,
    moves: found.moves.map((m) => ({
      guest: m.guest,
      destination: m.destination,
      priority: m.priority,
      ...(m.deadlineMs === null ? {} : { deadlineMs: m.deadlineMs }),
    })),
  });
  const ended = await waitForEnd(terminal, client, new Set(started.migrations.map((m) => m.id)), o.json === true);
  if (ended === undefined) {
    terminal.err('fairway: interrupted; the migrations go on (`fairway cancel` stops them)\n');
    return EXIT.interrupted;
  }
  const failed = ended.filter((m) => m.state !== 'done');
  const late = ended.filter((m) => m.deadlineAtMs && (m.endedAtMs ?? Number.POSITIVE_INFINITY) > m.deadlineAtMs);
  if (o.json) {
    const idOf = new Map(started.migrations.map((m) => [m.guest, m.id]));
    const moves = found.moves.map((m) => ({ ...m, migration: idOf.get(m.guest) ?? null }));
    terminal.out(`${JSON.stringify({ ...found, group: started.group, moves, migrations: ended })}\n`);
  } else {
    const begun = Math.min(...ended.map((m) => m.requestedAtMs));
    const seconds = (Math.max(...ended.map((m) => m.endedAtMs ?? begun)) - begun) / 1000;
    const tail = [
      ...(failed.length === 0 ? [] : [`${failed.length} did not move`]),
      ...(late.length === 0 ? [] : [`${count(late.length, 'deadline')} missed`]),
      ...(isComplete ? [] : [`${count(found.refused.length, 'guest')} could not be placed`]),
    ];
    const moved = `${count(ended.length - failed.length, 'guest')} moved in ${seconds.toFixed(1)} s`;
    terminal.out(`${[moved, ...tail].join(', ')}\n`);
  }
  return isComplete && failed.length === 0 ? EXIT.ok : EXIT.failed;
}

const count = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`;

/** The time line, and what cannot be moved. */
export function evacuationText(e: Evacuation, columns: number): string {
  const s = (ms: number) => (ms - e.atMs) / 1000;
  const lines: string[] = [];
  const others = e.moves.filter((m) => m.from !== e.host).length;
  const room = others === 0 ? '' : `, ${count(others, 'guest')} elsewhere make room`;
  const bound = e.boundAtMs > e.atMs ? ` (no plan needs less than ${s(e.boundAtMs).toFixed(1)} s)` : '';
  if (e.moves.length === 0) lines.push(`${e.host}: there is nothing to move`);
  else
    lines.push(
      `${e.host}: ${count(e.moves.length - others, 'guest')} to move${room}, in ${s(e.endsAtMs).toFixed(1)} s${bound}`,
      '',
    );
  if (e.moves.length > 0) {
    lines.push(
      ...chart(
        ['guest', 'way', 'priority', 'rate'],
        e.moves.map((m) => ({
          cells: [m.guest, `${m.from} → ${m.destination}`, m.priority, formatRate(m.plan.rateBps)],
          startS: s(m.plan.startAtMs),
          endS: s(m.plan.endAtMs),
          note: [m.reason, m.plan.reason.text, ...(m.deadlineMs === null ? [] : [deadlineText(m)])].join('; '),
        })),
        columns,
      ),
    );
  }
  for (const m of e.moving) lines.push(`on its way: ${m.guest} to ${m.destination} (${m.migration})`);
  for (const r of e.refused) lines.push(`cannot be placed: ${r.guest}: ${r.reason}`);
  return `${lines.join('\n')}\n`;
}

function deadlineText(m: Evacuation['moves'][number]): string {
  const due = `deadline after ${((m.deadlineMs ?? 0) / 1000).toFixed(0)} s`;
  return m.plan.lateMs > 0 ? `${due}, missed by ${(m.plan.lateMs / 1000).toFixed(1)} s` : due;
}
