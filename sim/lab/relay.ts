/**
 * A door into a network namespace, run as a process of its own inside it: takes over a listening socket that `fairway.ts`
 * opened outside (sockets stay in the namespace where they were made) and connects whatever comes in with an address
 * inside. So the lab and its user reach the controller's HTTP interface without any cable into the root namespace.
 *
 * Started with an IPC channel as `relay.js <host> <port>`; the first message carries the socket, the answer is `ready`.
 */
import { createConnection, Server } from 'node:net';

const [host, port] = process.argv.slice(2);

process.once('message', (_text, handle) => {
  if (!(handle instanceof Server)) throw new Error('relay: the first message must carry the listening socket');
  handle.on('connection', (outside) => {
    const inside = createConnection({ host: host ?? '', port: Number(port) });
    for (const socket of [outside, inside]) socket.on('error', () => {});
    // Either side's end, orderly or not, ends the other.
    outside.on('close', () => inside.destroy());
    inside.on('close', () => outside.destroy());
    outside.pipe(inside).pipe(outside);
  });
  process.send?.('ready');
});
