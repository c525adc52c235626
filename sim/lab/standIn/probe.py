"""The stand-in guest and its client, for the lab scenario `moves` (driver.ts and measure.ts beside this file use it).

One program, two roles, each in a network namespace of its own. Both send each other a numbered UDP packet every
millisecond, note when each packet came (the kernel's time stamp), and keep one TCP connection whose bytes are checked.

The guest has a door (a veth end on a kernel bridge) to each hypervisor's switch, of which at most one is open. To pause is
to close it and to stop sending, to resume is to open another: two netlink messages, so that what a move costs is the
network's doing and nothing else's. A packet socket at each door sees what arrives there, open or not: so a packet
that was lost because the guest stood still is told from one that the network lost or led to the wrong place.

Orders come as JSON lines over a Unix socket and are answered with the instant at which they were carried out, in ms since
the epoch. `resumed` is told to every connection.
"""
import json
import os
import select
import socket
import struct
import sys
import time

UDP_PORT = 7001
TCP_PORT = 7002
LATE_PORT = 7003
PROBE = struct.Struct('!QQ')
WORD = struct.Struct('!Q')
TCP_EVERY_S = 0.005
TCP_BYTES = 1024
SO_TIMESTAMPNS = 35
# Frames for a bridge are shown to those who want all of them, and to nobody else.
ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
RTM_SETLINK, AF_BRIDGE, IFLA_PROTINFO, IFLA_BRPORT_STATE = 19, 7, 12, 1
DISABLED, FORWARDING = 0, 3


def now_ms():
    return time.time_ns() / 1e6


class Doors:
    """Ports of the guest's bridge: opened and closed by setting their state, which takes effect at once."""

    def __init__(self, devices):
        self.index = {name: socket.if_nametoindex(dev) for name, dev in devices.items()}
        self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self.netlink.bind((0, 0))
        self.raw = {}
        for name, dev in devices.items():
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            s.setsockopt(socket.SOL_SOCKET, 33, 4_000_000)  # SO_RCVBUFFORCE
            s.bind((dev, ETH_P_ALL))
            s.setblocking(False)
            self.raw[name] = s

    def set(self, name, state):
        inner = struct.pack('=HHB3x', 5, IFLA_BRPORT_STATE, state)
        nested = struct.pack('=HH', 4 + len(inner), IFLA_PROTINFO | 0x8000) + inner
        link = struct.pack('=BxHiII', AF_BRIDGE, 0, self.index[name], 0, 0)
        head = struct.pack('=IHHII', 16 + len(link) + len(nested), RTM_SETLINK, 1 | 4, 1, 0)
        self.netlink.send(head + link + nested)
        answer = self.netlink.recv(4096)
        error = -struct.unpack_from('=i', answer, 16)[0]
        if error:
            raise OSError(error, os.strerror(error), name)

    def announce(self, name, kind, mac, ip):
        """What a hypervisor (RARP) or the guest itself (gratuitous ARP) sends when it has come to a new place."""
        address = bytes.fromhex(mac.replace(':', ''))
        own = socket.inet_aton(ip)
        if kind == 'rarp':
            body = struct.pack('!HHBBH', 1, 0x0800, 6, 4, 3) + address + bytes(4) + address + bytes(4)
            frame = b'\xff' * 6 + address + b'\x80\x35' + body
        else:
            body = struct.pack('!HHBBH', 1, 0x0800, 6, 4, 1) + address + own + bytes(6) + own
            frame = b'\xff' * 6 + address + b'\x08\x06' + body
        self.raw[name].send(frame.ljust(60, b'\0'))


class Stream:
    """One end of the TCP connection. What is sent is the count of its own 8-byte words; what arrives is checked."""

    def __init__(self, connection):
        self.connection = connection
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0
        self.received = 0
        self.rest = b''
        self.error = None

    def send(self):
        first = self.sent // 8
        words = b''.join(WORD.pack(first + i) for i in range(TCP_BYTES // 8 + 1))
        at = self.sent % 8
        try:
            self.sent += self.connection.send(words[at:at + TCP_BYTES])
        except BlockingIOError:
            pass
        except OSError as e:
            self.error = self.error or str(e)

    def receive(self):
        try:
            data = self.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError as e:
            self.error = self.error or str(e)
            return
        if not data:
            self.error = self.error or 'the connection was closed'
            return
        data = self.rest + data
        whole = len(data) // 8 * 8
        for i in range(0, whole, 8):
            expected = self.received // 8
            if WORD.unpack_from(data, i)[0] != expected and self.error is None:
                self.error = f'byte {self.received}: word {WORD.unpack_from(data, i)[0]} where {expected} belongs'
            self.received += 8
        self.rest = data[whole:]


def stamp(ancillary):
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack('=qq', data[:16])
            return seconds * 1000 + nanoseconds / 1e6
    return now_ms()


class Probe:
    def __init__(self, config):
        self.config = config
        self.is_guest = config['role'] == 'guest'
        self.running = False
        self.period = config['periodMs'] / 1000
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.udp.setsockopt(socket.SOL_SOCKET, 33, 4_000_000)
        self.udp.bind((config['address'], UDP_PORT))
        self.udp.setblocking(False)
        self.peer = (config['peer'], UDP_PORT)
        self.late = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.late.bind((config['address'], LATE_PORT))
        self.late.setblocking(False)
        self.late_numbers = []
        self.sent = []
        self.received = []
        self.sightings = {}
        self.stream = None
        self.listener = None
        self.connections = {}
        self.doors = None
        self.at = None
        if self.is_guest:
            self.doors = Doors(config['doors'])
            self.at = config['at']
            self.sightings = {name: [] for name in config['doors']}
            for name in config['doors']:
                self.doors.set(name, FORWARDING if name == self.at else DISABLED)
            self.listener = socket.create_server((config['address'], TCP_PORT))
            self.listener.setblocking(False)
        try:
            os.unlink(config['socket'])
        except FileNotFoundError:
            pass
        self.control = socket.socket(socket.AF_UNIX)
        self.control.bind(config['socket'])
        self.control.listen(8)

    def order(self, connection, line):
        order = json.loads(line)
        what = order['do']
        answer = {'id': order['id']}
        try:
            answer.update(getattr(self, 'do_' + what)(order))
        except Exception as e:
            answer['error'] = f'{what}: {e}'
        self.tell(connection, answer)

    def tell(self, connection, message):
        try:
            connection.sendall((json.dumps(message) + '\n').encode())
        except OSError:
            self.connections.pop(connection, None)

    def do_pause(self, _order):
        at = now_ms()
        self.running = False
        self.doors.set(self.at, DISABLED)
        return {'atMs': at}

    def do_resume(self, order):
        place = order['at']
        self.at = place
        self.doors.set(place, FORWARDING)
        at = now_ms()
        self.running = True
        self.due = time.monotonic()
        if order['announce'] != 'none':
            self.doors.announce(place, order['announce'], self.config['mac'], self.config['address'])
        for connection in list(self.connections):
            self.tell(connection, {'event': 'resumed', 'at': place, 'atMs': at})
        return {'atMs': at}

    def do_where(self, _order):
        return {'at': self.at, 'running': self.running}

    def do_begin(self, _order):
        self.due = time.monotonic()
        self.running = True
        return {}

    def do_connect(self, _order):
        self.stream = Stream(socket.create_connection((self.config['peer'], TCP_PORT), timeout=10))
        return {}

    def do_quiet(self, _order):
        self.running = False
        return {}

    def do_report(self, order):
        stream = self.stream
        report = {
            'sent': self.sent,
            'received': self.received,
            'sightings': self.sightings,
            'late': self.late_numbers,
            'tcp': None if stream is None else
            {'sentBytes': stream.sent, 'receivedBytes': stream.received, 'error': stream.error},
        }
        with open(order['file'], 'w') as f:
            json.dump(report, f)
        return {}

    def do_tcp(self, _order):
        stream = self.stream
        if stream is None:
            return {'sent': 0, 'received': 0, 'error': 'there is no connection'}
        return {'sent': stream.sent, 'received': stream.received, 'error': stream.error}

    def receive(self):
        for _ in range(64):
            try:
                data, ancillary, _flags, _from = self.udp.recvmsg(64, 64)
            except BlockingIOError:
                return
            number, _sent = PROBE.unpack(data[:16])
            self.received.append((number, round(stamp(ancillary), 3)))

    def watch(self, name):
        raw = self.doors.raw[name]
        for _ in range(64):
            try:
                frame, ancillary, _flags, source = raw.recvmsg(64, 64)
            except BlockingIOError:
                return
            if source[2] == PACKET_OUTGOING or len(frame) < 58 or frame[12:14] != b'\x08\x00' or frame[23] != socket.IPPROTO_UDP:
                continue
            if struct.unpack_from('!H', frame, 36)[0] == UDP_PORT:
                self.sightings[name].append((PROBE.unpack_from(frame, 42)[0], round(stamp(ancillary), 3)))

    def send(self):
        number = len(self.sent)
        at = now_ms()
        try:
            self.udp.sendto(PROBE.pack(number, int(at * 1e6)), self.peer)
        except OSError:
            # Not sent is not lost: the number is used for the next one.
            return
        self.sent.append(round(at, 3))

    def serve(self, ready, connection):
        try:
            data = connection.recv(65536)
        except OSError:
            data = b''
        if not data:
            self.connections.pop(connection, None)
            connection.close()
            return
        lines = (self.connections[connection] + data).split(b'\n')
        self.connections[connection] = lines.pop()
        for line in lines:
            self.order(connection, line)

    def run(self):
        self.due = time.monotonic()
        stream_due = self.due
        while True:
            sources = [self.udp, self.late, self.control, *self.connections]
            if self.listener and self.stream is None:
                sources.append(self.listener)
            if self.stream and self.stream.error is None:
                sources.append(self.stream.connection)
            doors = {raw: name for name, raw in self.doors.raw.items()} if self.doors else {}
            sources.extend(doors)
            wait = max(0, self.due - time.monotonic()) if self.running else 0.2
            ready, _, _ = select.select(sources, [], [], wait)
            now = time.monotonic()
            if self.running and now >= self.due:
                self.send()
                self.due = max(self.due + self.period, now - 10 * self.period)
                if self.stream and self.stream.error is None and now >= stream_due:
                    stream_due = now + TCP_EVERY_S
                    self.stream.send()
            for source in ready:
                if source is self.udp:
                    self.receive()
                elif source is self.late:
                    self.late_numbers.append(int(self.late.recv(2048)))
                elif source in doors:
                    self.watch(doors[source])
                elif source is self.control:
                    self.connections[self.control.accept()[0]] = b''
                elif source is self.listener:
                    self.stream = Stream(self.listener.accept()[0])
                elif self.stream and source is self.stream.connection:
                    self.stream.receive()
                elif source in self.connections:
                    self.serve(ready, source)


def main():
    try:
        # An instrument must not be late because a switch is busy.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except PermissionError:
        os.nice(-15)
    probe = Probe(json.loads(sys.argv[1]))
    print('ready', flush=True)
    probe.run()


main()
