"""A Mininet topology for Fairway: three switches in a row, two hosts at each, links of limited rate.

    sudo mn --custom sim/mininet/fairway_topo.py --topo fairway --controller remote,ip=127.0.0.1,port=6653

`run.py` beside this file starts the same topology without `mn` and tests it. Options of the topology follow its name:
`--topo fairway,hosts_per_switch=3,bw=100`.

The switches are Open vSwitch in user space, which needs no kernel module. Links may be limited in rate (`bw`, Mbit/s) but
not delayed or made lossy on kernels without netem.
"""

from mininet.link import TCLink
from mininet.node import OVSSwitch
from mininet.topo import Topo


class FairwayTopo(Topo):
    """Switches s1 - s2 - s3, hosts h1, h2, ... in order; a row, because in forwarding mode `normal` the switches learn by
    themselves and a ring would be a loop."""

    def build(self, hosts_per_switch=2, bw=200):
        # Without checksum offload (`txo`): a user-space switch sees packets whose checksum would be filled in by hardware
        # that is not there, and TCP over them stalls.
        link = {'cls': TCLink, 'bw': bw, 'use_tbf': True, 'latency_ms': 30, 'txo': False}
        switches = [
            self.addSwitch('s%d' % n, cls=OVSSwitch, datapath='user', protocols='OpenFlow13', dpid='%016x' % n)
            for n in (1, 2, 3)
        ]
        for left, right in zip(switches, switches[1:]):
            self.addLink(left, right, **link)
        number = 0
        for switch in switches:
            for _ in range(hosts_per_switch):
                number += 1
                self.addLink(self.addHost('h%d' % number), switch, **link)


topos = {'fairway': FairwayTopo}
