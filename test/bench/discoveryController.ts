/**
 * The controller of discovery.ts, a process of its own: the real one, with nothing on disk. It prints its port, then, ten times
 * a second, one `Seen` line.
 */
import { systemClock } from '../../contracts/clock.ts';
import { controllerConfigSchema } from '../../contracts/config.ts';
import { startController } from '../../controller/io/server.ts';

export interface Seen {
  switches: number;
  /** Connections that ended. */
  gone: number;
  /** Directed links found and lost, and when that last changed, in ms since the epoch. */
  found: number;
  lost: number;
  switchesAtMs: number;
  foundAtMs: number;
  lostAtMs: number;
  /** Processor time of this process so far, in s. */
  cpuSeconds: number;
  rssBytes: number;
  heapBytes: number;
}

const up = new Set<unknown>();
const counts = { switches: 0, gone: 0, found: 0, lost: 0, switchesAtMs: 0, foundAtMs: 0, lostAtMs: 0 };
const config = controllerConfigSchema.parse({
  openflow: { port: 0 },
  http: { port: 0 },
  policy: { store: 'memory' },
});
const controller = await startController(config, {
  clock: systemClock(),
  token: 'discovery',
  journal: null,
  log(_level, event, fields) {
    if (event === 'switch.up') {
      up.add(fields?.dpid);
      counts.switches = up.size;
      counts.switchesAtMs = Date.now();
    } else if (event === 'link.found') {
      counts.found++;
      counts.foundAtMs = Date.now();
    } else if (event === 'link.lost') {
      counts.lost++;
      counts.lostAtMs = Date.now();
    } else if (event === 'switch.gone') {
      up.delete(fields?.dpid);
      counts.switches = up.size;
      counts.gone++;
    }
  },
});
process.stdout.write(`${controller.openflowPort}\n`);
setInterval(() => {
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  const seen: Seen = { ...counts, cpuSeconds: (user + system) / 1e6, rssBytes: rss, heapBytes: heapUsed };
  process.stdout.write(`${JSON.stringify(seen)}\n`);
}, 100);
process.stdin.on('end', () => process.exit(0)).resume();
