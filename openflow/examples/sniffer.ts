/**
 * Prints what a switch and a controller say to each other as JSON, one message a line, in the form of Ryu's
 * `to_jsondict`. It stands in between: `node sniffer.ts LISTEN-PORT CONTROLLER-HOST CONTROLLER-PORT` (Node 22.18 or later;
 * before, `node ../dist/examples/sniffer.js …`), then `ovs-vsctl set-controller br0 tcp:127.0.0.1:LISTEN-PORT`. The bytes are
 * passed on as they are, readable or not.
 */
import { connect, createServer, type Socket } from 'node:net';
import { decode, MessageSplitter, OfDecodeError, stringifyJson, toJson } from 'node-openflow';

const [listenPort = '6633', host = '127.0.0.1', port = '6653'] = process.argv.slice(2);
let connections = 0;

/** Passes on what `from` says to `to`, and prints it under the name `who`. */
function listen(connection: number, who: 'switch' | 'controller', from: Socket, to: Socket): void {
  const splitter = new MessageSplitter();
  const print = (what: object) => console.log(stringifyJson({ connection, from: who, ...what }));
  const read = (bytes: Buffer) => {
    try {
      const message = decode(bytes);
      print({ version: message.version, xid: message.xid, message: toJson(message) });
    } catch (error) {
      if (!(error instanceof OfDecodeError)) throw error;
      print({ error: error.message, hex: bytes.toString('hex') });
    }
  };
  let isReadable = true;
  from.on('data', (chunk) => {
    if (!to.write(chunk)) from.pause();
    if (!isReadable) return;
    try {
      for (const bytes of splitter.push(chunk)) read(bytes);
    } catch (error) {
      if (!(error instanceof OfDecodeError)) throw error;
      for (const bytes of error.preceding) read(bytes);
      // where one message ends and the next begins cannot be told any more
      isReadable = false;
      print({ error: error.message });
    }
  });
  to.on('drain', () => from.resume());
  from.on('error', (error) => print({ error: error.message }));
  from.on('close', () => to.destroy());
  from.on('end', () => to.end());
}

const server = createServer((fromSwitch) => {
  const controller = connect(Number(port), host);
  const connection = ++connections;
  listen(connection, 'switch', fromSwitch, controller);
  listen(connection, 'controller', controller, fromSwitch);
});
server.listen(Number(listenPort), () => console.log(stringifyJson({ listening: server.address() })));
