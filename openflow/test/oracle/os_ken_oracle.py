"""Answers questions about OpenFlow messages with os-ken (the maintained Ryu), one JSON object per line.

{"op": "decode", "hex": "..."}                            -> {"json": to_jsondict of what os-ken reads}
{"op": "encode", "version": 4, "json": {...}, "xid": 7}   -> {"hex": what os-ken writes, "json": to_jsondict after it did}
{"op": "match", "version": 4, "fields": {...}}            -> {"json": the OFPMatch os-ken makes of keyword arguments}
{"op": "constants", "version": 4}                         -> {"json": the integers of that version's constants}
{"op": "classes", "version": 4}                           -> {"json": {"reads": [...], "writes": [...]}}

Versions are numbers on the wire. Any failure of os-ken's is answered with {"error": "..."}. A question that takes more than
CPU_SECONDS of the processor's time, however busy the machine is, ends the process by SIGPROF: os-ken loops on some inputs.
"""

import importlib
import inspect
import json
import logging
import signal
import sys

from os_ken.ofproto import ofproto_parser, ofproto_protocol

logging.disable(logging.CRITICAL)

CPU_SECONDS = 3

MODULE = {1: 'ofproto_v1_0', 3: 'ofproto_v1_2', 4: 'ofproto_v1_3', 5: 'ofproto_v1_4', 6: 'ofproto_v1_5'}


def module(version, suffix=''):
    return importlib.import_module('os_ken.ofproto.' + MODULE[version] + suffix)


def decode(question):
    data = bytes.fromhex(question['hex'])
    version, msg_type, msg_len, xid = ofproto_parser.header(data)
    datapath = ofproto_protocol.ProtocolDesc(version=version)
    msg = ofproto_parser.msg(datapath, version, msg_type, msg_len, xid, data[:msg_len])
    if msg is None:
        raise ValueError('not parsed')
    return {'json': msg.to_jsondict()}


def encode(question):
    datapath = ofproto_protocol.ProtocolDesc(version=question['version'])
    msg = ofproto_parser.ofp_msg_from_jsondict(datapath, question['json'])
    msg.set_xid(question['xid'])
    msg.serialize()
    return {'hex': bytes(msg.buf).hex(), 'json': msg.to_jsondict()}


def match(question):
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in question['fields'].items()}
    made = module(question['version'], '_parser').OFPMatch(**fields)
    if question['version'] != 1:
        made.serialize(bytearray(), 0)
    return {'json': made.to_jsondict()}


def constants(question):
    return {'json': {k: v for k, v in vars(module(question['version'])).items() if isinstance(v, int)}}


def classes(question):
    """Names of message classes: those with a registered parser, and those with a serialiser."""
    parser = module(question['version'], '_parser')
    reads = {f.__self__.__name__ for f in parser._MSG_PARSERS.values()} - {'OFPMultipartReply', 'OFPStatsReply'}
    own_types = getattr(getattr(parser, 'OFPExperimenter', None), '_subtypes', {})
    reads |= {c.__name__ for c in own_types.values()}
    for base in ('OFPMultipartReply', 'OFPStatsReply'):
        for registry in ('_STATS_MSG_TYPES', '_STATS_TYPES'):
            reads |= {c.__name__ for c in getattr(getattr(parser, base, None), registry, {}).values()}
    own = ('_serialize_body', '_serialize_stats_body', 'serialize')
    writes = set()
    for name, c in vars(parser).items():
        if not inspect.isclass(c) or not issubclass(c, ofproto_parser.MsgBase) or c.__module__ != parser.__name__:
            continue
        if getattr(c, 'cls_msg_type', None) is None or name.endswith('Base'):
            continue
        if name in ('OFPMultipartRequest', 'OFPStatsRequest', 'NiciraHeader', 'NXStatsRequest'):
            continue
        mro = [k for k in c.__mro__ if k is not ofproto_parser.MsgBase]
        if name.endswith('Request') or any(m in vars(k) for k in mro for m in own):
            writes.add(name)
    return {'json': {'reads': sorted(reads), 'writes': sorted(writes)}}


def main():
    answers = {'decode': decode, 'encode': encode, 'match': match, 'constants': constants, 'classes': classes}
    # parts of os-ken print what they fail on
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        question = json.loads(line)
        try:
            answer = answers[question['op']](question)
        except Exception as e:  # whatever os-ken throws is its answer
            answer = {'error': '%s: %s' % (type(e).__name__, e)}
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write(json.dumps(answer) + '\n')
        out.flush()


main()
