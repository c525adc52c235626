/** Asking a controller how it stands, as its peer does (`controller/io/pair.ts`) and as agents do (`agent/io/charge.ts`). */
import { z } from 'zod';
import { type Standing, termOf, termTextSchema } from './terms.ts';

/** What `GET /healthz` of a controller says of it. */
const healthSchema = z.object({
  role: z.enum(['primary', 'standby']).default('primary'),
  term: termTextSchema.default('0'),
});

/** How the controller at this HTTP address stands; undefined when it does not answer well before `signal` ends it. */
export async function askStanding(url: string, signal: AbortSignal): Promise<Standing | undefined> {
  try {
    const response = await fetch(new URL('/healthz', url), { signal });
    const body: unknown = await response.json();
    if (!response.ok) return undefined;
    const { role, term } = healthSchema.parse(body);
    return { isInCharge: role === 'primary', term: termOf(term) };
  } catch {
    return undefined;
  }
}
