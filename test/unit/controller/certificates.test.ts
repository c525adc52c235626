/** Which switch a certificate may speak for. */
import { bindingProblem, type CertificateRules, namedDpids } from '../../../controller/core/certificates.ts';

const A = '00000000000000aa';
const B = '00000000000000bb';
const certificate = (commonName: string, alternativeNames = '') => ({
  commonName,
  alternativeNames,
  fingerprint: 'AB:CD:01',
});
const rules = (byDpid: Record<string, string> = {}, allowUnbound = false): CertificateRules => ({
  byDpid: new Map(Object.entries(byDpid)),
  allowUnbound,
});

test.each([
  ['dpid:00000000000000aa', '', [A]],
  ['dpid:AA', '', [A]],
  ['dpid:0xaa', '', [A]],
  ['hv1', 'DNS:hv1, URI:dpid:aa, URI:dpid:bb', [A, B]],
  ['dpid:', '', []],
  ['dpid:00000000000000aa1', '', []],
  ['hv1', '', []],
])('the certificate %s (%s) names %j', (cn, alt, names) => {
  expect(namedDpids(certificate(cn, alt))).toEqual(names);
});

test('a certificate that names the datapath may speak for it, and for no other', () => {
  expect(bindingProblem(A, certificate('dpid:aa'), rules())).toBeUndefined();
  expect(bindingProblem(B, certificate('dpid:aa'), rules({}, true))).toMatch(
    /bound to datapath 0+aa and was used for 0+bb/,
  );
});

test('the configuration binds by name or fingerprint', () => {
  expect(bindingProblem(A, certificate('hv1'), rules({ [A]: 'hv1' }))).toBeUndefined();
  expect(bindingProblem(A, certificate('hv1'), rules({ [A]: 'abcd01' }))).toBeUndefined();
  expect(bindingProblem(A, certificate('hv2'), rules({ [A]: 'hv1' }))).toMatch(/must present the certificate "hv1"/);
  expect(bindingProblem(B, certificate('hv1'), rules({ [A]: 'hv1' }, true))).toMatch(/bound to datapath 0+aa/);
  expect(bindingProblem(A, certificate('dpid:aa'), rules({ [A]: 'hv1' }))).toMatch(/must present/);
});

test('one certificate may speak for several datapaths', () => {
  const both = rules({ [A]: 'hv1', [B]: 'hv1' });
  expect(bindingProblem(A, certificate('hv1'), both)).toBeUndefined();
  expect(bindingProblem(B, certificate('hv1'), both)).toBeUndefined();
});

test('a certificate that is bound to nothing is refused, unless that is allowed', () => {
  expect(bindingProblem(A, certificate('hv1'), rules())).toMatch(/bound to no datapath.*allowUnbound/);
  expect(bindingProblem(A, certificate('hv1'), rules({}, true))).toBeUndefined();
});
