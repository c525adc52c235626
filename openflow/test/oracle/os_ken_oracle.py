"""Answers questions about OpenFlow messages with os-ken (the maintained Ryu), one JSON object per line.

{"op": "decode", "hex": "..."}              -> {"json": to_jsondict of what os-ken reads}
{"op": "encode", "json": {...}, "xid": 7}   -> {"hex": what os-ken writes, "json": to_jsondict after it did}
{"op": "match", "fields": {...}}            -> {"json": the OFPMatch os-ken makes of keyword arguments}
{"op": "constants"}                         -> {"json": the integers of ofproto_v1_3}

Any failure of os-ken's is answered with {"error": "..."}.
"""

import json
import logging
import sys

from os_ken.ofproto import ofproto_parser, ofproto_protocol, ofproto_v1_3, ofproto_v1_3_parser

logging.disable(logging.CRITICAL)


def decode(question, datapath):
    data = bytes.fromhex(question['hex'])
    version, msg_type, msg_len, xid = ofproto_parser.header(data)
    msg = ofproto_parser.msg(datapath, version, msg_type, msg_len, xid, data[:msg_len])
    if msg is None:
        raise ValueError('not parsed')
    return {'json': msg.to_jsondict()}


def encode(question, datapath):
    msg = ofproto_parser.ofp_msg_from_jsondict(datapath, question['json'])
    msg.set_xid(question['xid'])
    msg.serialize()
    return {'hex': bytes(msg.buf).hex(), 'json': msg.to_jsondict()}


def match(question, datapath):
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in question['fields'].items()}
    made = ofproto_v1_3_parser.OFPMatch(**fields)
    made.serialize(bytearray(), 0)
    return {'json': made.to_jsondict()}


def constants(question, datapath):
    return {'json': {k: v for k, v in vars(ofproto_v1_3).items() if isinstance(v, int)}}


def main():
    datapath = ofproto_protocol.ProtocolDesc(version=ofproto_v1_3.OFP_VERSION)
    answers = {'decode': decode, 'encode': encode, 'match': match, 'constants': constants}
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = answers[question['op']](question, datapath)
        except Exception as e:  # whatever os-ken throws is its answer
            answer = {'error': '%s: %s' % (type(e).__name__, e)}
        sys.stdout.write(json.dumps(answer) + '\n')
        sys.stdout.flush()


main()
