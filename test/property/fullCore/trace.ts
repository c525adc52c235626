/** What happens in one case of the whole core, turn by turn, as text for a person. For replays (`../fullCore.test.ts`). */
import type { Effect, Event } from '../../../controller/core/events.ts';
import { type Case, messageOf, play } from './cases.ts';
import { nothingSeen } from './checks.ts';

const MOST_CHARS = 300;
const short = (value: unknown): string =>
  JSON.stringify(value, (_key, v: unknown) => (typeof v === 'bigint' ? `${v}` : v)).slice(0, MOST_CHARS);

function eventText(e: Event): string {
  switch (e.kind) {
    case 'packetIn':
      return `packetIn ${e.dpid}:${e.inPort}`;
    case 'counters':
    case 'switchUp':
      return `${e.kind} ${e.dpid}`;
    default:
      return short(e);
  }
}

function effectTexts(e: Effect): string[] {
  switch (e.kind) {
    case 'packetOut':
    case 'journal':
      return [];
    case 'publish':
      if (e.topic !== 'decisions') return [];
      return e.data.decisions.map((d) => `.. ${d.migration} ${d.reason.rule} ${d.reason.text.slice(0, MOST_CHARS)}`);
    case 'write':
      return [`-> write ${e.dpid} ${e.batch}: ${e.messages.length}`];
    default:
      return [`-> ${short(e)}`];
  }
}

/** The story of a case, and what is wrong in it; undefined where nothing is. */
export function trace(c: Case): { text: string; failure: string | undefined } {
  const lines: string[] = [short(c.shape)];
  let failure: string | undefined;
  try {
    const w = play(c, nothingSeen(), (world, _before, events, effects) => {
      lines.push(`${world.steps} at ${world.nowMs}: ${events.map(eventText).join(' | ')}`);
      for (const e of effects) lines.push(...effectTexts(e).map((x) => `     ${x}`));
    });
    for (const j of w.state.jobs.values()) lines.push(`${j.id} ${j.state}: ${j.note ?? ''}`);
  } catch (error) {
    failure = messageOf(error);
    lines.push(failure);
  }
  return { text: `${lines.join('\n')}\n`, failure };
}
