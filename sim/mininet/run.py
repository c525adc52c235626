#!/usr/bin/python3
"""Starts the topology of fairway_topo.py under a Fairway controller that is already running, and pings between all hosts.

    fairway controller &
    sudo sim/mininet/run.py --controller 127.0.0.1:6653

Exit status: 0 when every host reached every other, 1 when not, 2 when it cannot run here. Starts Open vSwitch if nothing
answers at its usual place and then stops it again; removes what it made, also when interrupted.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

OVS_CTL = '/usr/share/openvswitch/scripts/ovs-ctl'


def address(text):
    match = re.fullmatch(r'([0-9.]+):([0-9]{1,5})', text)
    if match is None:
        raise argparse.ArgumentTypeError('expected ADDRESS:PORT, such as 127.0.0.1:6653')
    return match.group(1), int(match.group(2))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--controller', type=address, default=('127.0.0.1', 6653), metavar='ADDRESS:PORT')
    parser.add_argument('--hosts-per-switch', type=int, default=2)
    parser.add_argument('--bw', type=int, default=200, help='rate of each link, Mbit/s (default 200)')
    parser.add_argument('--timeout', type=float, default=60, help='seconds until every host must reach every other (default 60)')
    parser.add_argument('--cli', action='store_true', help="open Mininet's prompt after the test")
    return parser.parse_args()


def start_open_vswitch():
    """Whether Open vSwitch had to be started; then stop_open_vswitch is due."""
    if subprocess.run(['ovs-vsctl', '-t', '1', 'show'], capture_output=True).returncode == 0:
        return False
    subprocess.run(
        [OVS_CTL, 'start', '--no-mlockall', '--system-id=random'], check=True, stdout=subprocess.DEVNULL
    )
    return True


def stop_open_vswitch():
    subprocess.run([OVS_CTL, 'stop'], check=False, stdout=subprocess.DEVNULL)


def wait_for_all_pairs(net, timeout_s):
    """Pings between all hosts until nothing is lost. The first rounds may lose some: links and hosts are being found."""
    end = time.monotonic() + timeout_s
    if not net.waitConnected(timeout=timeout_s):
        print('not all switches connected to the controller within %g s' % timeout_s, file=sys.stderr)
        return False
    while True:
        lost = net.pingAll(timeout='1')
        if lost == 0:
            return True
        if time.monotonic() > end:
            print('%g %% of the pings were still lost after %g s' % (lost, timeout_s), file=sys.stderr)
            return False


def run(arguments):
    # Mininet is imported here, so that --help and the message about root work without it.
    from functools import partial

    from fairway_topo import FairwayTopo
    from mininet.cli import CLI
    from mininet.log import setLogLevel
    from mininet.net import Mininet
    from mininet.node import RemoteController

    setLogLevel('info')
    ip, port = arguments.controller
    net = Mininet(
        topo=FairwayTopo(hosts_per_switch=arguments.hosts_per_switch, bw=arguments.bw),
        controller=partial(RemoteController, ip=ip, port=port),
        autoSetMacs=True,
    )
    try:
        net.start()
        ok = wait_for_all_pairs(net, arguments.timeout)
        if arguments.cli:
            CLI(net)
        return ok
    finally:
        net.stop()


def interrupt(_signal, _frame):
    raise KeyboardInterrupt


def main():
    arguments = parse_arguments()
    if os.geteuid() != 0:
        print('Mininet makes network namespaces and needs root: run this with sudo', file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, interrupt)
    started = start_open_vswitch()
    try:
        return 0 if run(arguments) else 1
    except KeyboardInterrupt:
        return 130
    finally:
        if started:
            stop_open_vswitch()


if __name__ == '__main__':
    sys.exit(main())
