/**
 * A door into a network namespace, run as a process of its own inside it: `relay.js <socket path> <host> <port>` listens on
 * a unix socket, which is reachable from everywhere, and connects whatever comes in with an address inside. So the lab
 * reaches the controller's HTTP interface without any cable into the root namespace. Prints `ready` once it listens.
 */
import { createConnection, createServer } from 'node:net';
import { joinSockets } from './shell.ts';

const [path, host, port] = process.argv.slice(2);
const server = createServer((outside) => {
  const inside = createConnection({ host: host ?? '', port: Number(port) });
  joinSockets(outside, inside);
});
server.listen(path, () => process.stdout.write('ready\n'));
