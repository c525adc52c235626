"""A learning switch on os-ken, for controller.ts to compare with: the work of controller/apps/learning.ts in the way
os-ken's applications are written. OpenFlow 1.0 and 1.3. Argument: the TCP port to listen on.
"""

import sys

from os_ken.lib import hub

hub.patch(thread=False)

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_0, ofproto_v1_3


class Learning(app_manager.OSKenApp):
    OFP_VERSIONS = [ofproto_v1_0.OFP_VERSION, ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ports = {}

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def connected(self, ev):
        datapath = ev.msg.datapath
        if datapath.ofproto.OFP_VERSION == ofproto_v1_0.OFP_VERSION:
            return
        parser = datapath.ofproto_parser
        to_us = parser.OFPActionOutput(datapath.ofproto.OFPP_CONTROLLER, 128)
        datapath.send_msg(parser.OFPFlowMod(datapath, priority=0, match=parser.OFPMatch(), instructions=[
            parser.OFPInstructionActions(datapath.ofproto.OFPIT_APPLY_ACTIONS, [to_us])]))

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, ev):
        msg = ev.msg
        datapath = msg.datapath
        ofp = datapath.ofproto
        parser = datapath.ofproto_parser
        old = ofp.OFP_VERSION == ofproto_v1_0.OFP_VERSION
        in_port = msg.in_port if old else msg.match['in_port']
        eth = packet.Packet(msg.data).get_protocol(ethernet.ethernet)
        ports = self.ports.setdefault(datapath.id, {})
        ports[eth.src] = in_port
        out_port = ports.get(eth.dst, ofp.OFPP_FLOOD)
        actions = [parser.OFPActionOutput(out_port)]
        if out_port != ofp.OFPP_FLOOD:
            if old:
                match = parser.OFPMatch(in_port=in_port, dl_dst=eth.dst, dl_src=eth.src)
                datapath.send_msg(parser.OFPFlowMod(
                    datapath=datapath, match=match, cookie=0, command=ofp.OFPFC_ADD, idle_timeout=60, hard_timeout=0,
                    priority=100, buffer_id=msg.buffer_id, actions=actions))
            else:
                match = parser.OFPMatch(in_port=in_port, eth_dst=eth.dst, eth_src=eth.src)
                datapath.send_msg(parser.OFPFlowMod(
                    datapath=datapath, match=match, idle_timeout=60, priority=100, buffer_id=msg.buffer_id,
                    instructions=[parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)]))
            if msg.buffer_id != 0xffffffff:
                return
        data = msg.data if msg.buffer_id == 0xffffffff else None
        datapath.send_msg(parser.OFPPacketOut(
            datapath=datapath, buffer_id=msg.buffer_id, in_port=in_port, actions=actions, data=data))


if __name__ == '__main__':
    # the manager loads applications by the name of their module
    sys.modules['os_ken_learning'] = sys.modules['__main__']
    cfg.CONF(args=['--ofp-listen-host', '127.0.0.1', '--ofp-tcp-listen-port', sys.argv[1]], project='os_ken',
             version='os_ken_learning', default_config_files=[])
    app_manager.AppManager.run_apps(['os_ken_learning'])
