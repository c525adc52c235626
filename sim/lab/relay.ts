/**
 * A door through a network namespace's wall, run as a process of its own inside it: `relay.js <from> <to>` listens at `from` and
 * connects whatever comes in with `to`. Each is `unix:<path>`, which is reachable from everywhere, or `tcp:<host>:<port>`, which
 * is inside. So the lab reaches the controller's HTTP interface, and agents inside reach the lab, without any cable into
 * the root namespace. Prints `ready` once it listens.
 */
import { createConnection, createServer } from 'node:net';
import { joinSockets } from './shell.ts';

function place(text: string): { path: string } | { host: string; port: number } {
  const [kind = '', first = '', port = ''] = text.split(':');
  return kind === 'unix' ? { path: first } : { host: first, port: Number(port) };
}

const [from = '', to = ''] = process.argv.slice(2);
const server = createServer((incoming) => joinSockets(incoming, createConnection(place(to))));
server.listen(place(from), () => process.stdout.write('ready\n'));
