/**
 * A workload for the tests of faults: numbered UDP packets at an even pace, echoed by the other end, so that every packet
 * the network lost is counted. Run inside network namespaces: `stream.js echo ADDRESS PORT`, or `stream.js send ADDRESS PORT
 * PACKETS_PER_S`, which answers each line of standard input with a StreamReport. Both print `ready` first.
 */
import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';
import type { StreamReport } from './orders.ts';

const [mode, address = '', portText, rateText] = process.argv.slice(2);
const port = Number(portText);
const BUFFER_BYTES = 4 << 20;
/** A packet younger than this may still be on its way. */
const GRACE_MS = 500;

const socket = createSocket('udp4');
const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));

if (mode === 'echo') {
  socket.on('message', (data, from) => socket.send(data, from.port, from.address));
  socket.bind(port, address, ready);
} else send(Number(rateText));

function ready(): void {
  socket.setRecvBufferSize(BUFFER_BYTES);
  process.stdout.write('ready\n');
}

function send(packetsPerS: number): void {
  const sentAtMs: number[] = [];
  const seen = new Set<number>();
  let duplicates = 0;
  let lastEchoMs = performance.now();
  let longestSilenceMs = 0;
  const startedMs = performance.now();

  const hear = () => {
    const now = performance.now();
    longestSilenceMs = Math.max(longestSilenceMs, now - lastEchoMs);
    return now;
  };
  socket.on('message', (data) => {
    const number = data.readUInt32BE(0);
    if (seen.has(number)) duplicates++;
    seen.add(number);
    lastEchoMs = hear();
  });
  socket.bind(() => {
    ready();
    setInterval(() => {
      // As many as are due by the clock: a late timer must not thin the stream out. After a long halt it does not burst.
      const due = Math.min(sentAtMs.length + 50, ((performance.now() - startedMs) / 1000) * packetsPerS);
      while (sentAtMs.length < due) {
        const data = Buffer.alloc(64);
        data.writeUInt32BE(sentAtMs.length, 0);
        sentAtMs.push(performance.now());
        socket.send(data, port, address, () => {});
      }
    }, 1000 / packetsPerS);
  });

  lines.on('line', (line) => {
    const { since = 0, until = 0 } = JSON.parse(line) as { since?: number; until?: number };
    const now = hear();
    const lost = sentAtMs.flatMap((atMs, number) => (now - atMs > GRACE_MS && !seen.has(number) ? [number] : []));
    const missing: number[] = [];
    for (let number = since; number < until && missing.length < 20; number++)
      if (!seen.has(number)) missing.push(number);
    const report: StreamReport = {
      sent: sentAtMs.length,
      received: seen.size,
      duplicates,
      lost: lost.length,
      lostSince: lost.filter((number) => number >= since).slice(0, 20),
      missing,
      longestSilenceMs: Math.round(longestSilenceMs),
    };
    process.stdout.write(`${JSON.stringify(report)}\n`);
  });
}
