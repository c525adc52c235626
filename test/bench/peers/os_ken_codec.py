"""The work of openflow.ts done by os-ken, for comparison. One JSON object per line: {"work": "...", "seconds": 1,
"hex": "message to decode"} is answered with {"perSecond": ...}; {"work": "version"} with {"version": ...}.
"""

import json
import sys
import time

from os_ken.ofproto import ofproto_parser, ofproto_protocol, ofproto_v1_3 as ofp, ofproto_v1_3_parser as parser

datapath = ofproto_protocol.ProtocolDesc(version=ofp.OFP_VERSION)


def flow_mod():
    match = parser.OFPMatch(in_port=1, eth_type=0x0800, ipv4_src='10.0.0.1', ipv4_dst='10.0.0.2')
    actions = [parser.OFPActionSetQueue(3), parser.OFPActionOutput(2)]
    instructions = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)]
    return parser.OFPFlowMod(datapath, cookie=0x1234, priority=100, match=match, instructions=instructions)


def repeat(once, seconds):
    n = 0
    start = time.perf_counter()
    while True:
        for _ in range(200):
            once()
        n += 200
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return n / elapsed


def decoder(question):
    data = bytes.fromhex(question['hex'])
    version, msg_type, msg_len, xid = ofproto_parser.header(data)
    return lambda: ofproto_parser.msg(datapath, version, msg_type, msg_len, xid, data)


def work(question):
    if question['work'] == 'encode':
        made = flow_mod()
        return repeat(made.serialize, question['seconds'])
    if question['work'] == 'build':
        return repeat(lambda: flow_mod().serialize(), question['seconds'])
    return repeat(decoder(question), question['seconds'])


for line in sys.stdin:
    question = json.loads(line)
    if question['work'] == 'version':
        made = flow_mod()
        made.set_xid(1)
        made.serialize()
        answer = {'python': sys.version.split()[0], 'hex': bytes(made.buf).hex()}
    else:
        answer = {'perSecond': work(question)}
    sys.stdout.write(json.dumps(answer) + '\n')
    sys.stdout.flush()
