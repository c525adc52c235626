/**
 * Ports for servers whose port must be known before they listen, or that stop and listen again: for tests. A port that the
 * system chose (port 0) and that was let go may be given to any connection of any process before the test has it back; these
 * are below the range from which the system chooses (`ip_local_port_range`, ip(7)).
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

/** From here on; ports below belong to the guests of other tests (`qmpRig.ts`, `libvirtRig.ts`, `agent-qemu.test.ts`). */
const LOWEST = 29_000;

function chosenBySystemFrom(): number {
  try {
    return Number.parseInt(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'), 10);
  } catch {
    return 32_768;
  }
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

/** A TCP port of the loopback interface on which nobody listens. Where the system chooses from all ports, one it chose. */
export async function freePort(): Promise<number> {
  const room = chosenBySystemFrom() - LOWEST;
  for (let tries = 0; room > 100 && tries < 1000; tries++) {
    const port = LOWEST + Math.floor(Math.random() * room);
    if (await isFree(port)) return port;
  }
  const server = createServer();
  await new Promise<void>((r) => server.listen(0, '127.0.0.1', r));
  const address = server.address();
  await new Promise((r) => server.close(r));
  return typeof address === 'object' && address !== null ? address.port : 0;
}
