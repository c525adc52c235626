/**
 * Which switch a TLS certificate may speak for. Pure. A certificate names datapath ids itself (common name or subject
 * alternative name `dpid:<16 hexadecimal digits>`), or the configuration says which certificate a datapath has. Whether
 * the certificate is genuine is TLS's affair; `controller/io/switchSession.ts` asks here once the switch has said its id.
 */

/** What is used of a peer's certificate. */
export interface PeerCertificate {
  commonName: string;
  /** As in `URI:dpid:0000000000000001, DNS:hv1`. */
  alternativeNames: string;
  /** SHA-256 of the certificate, hexadecimal digits with colons. */
  fingerprint: string;
}

export interface CertificateRules {
  /** By datapath id: common name or SHA-256 fingerprint of the certificate that it must present. */
  byDpid: ReadonlyMap<string, string>;
  /** Whether a certificate that is bound to no datapath id may speak for any that is not bound either. */
  allowUnbound: boolean;
}

const digits = (fingerprint: string): string => fingerprint.replaceAll(':', '').toLowerCase();

/** Datapath ids that a certificate names itself. */
export function namedDpids(c: PeerCertificate): string[] {
  const entries = [c.commonName, ...c.alternativeNames.split(',').map((n) => n.trim().replace(/^(URI|DNS):/, ''))];
  return entries.flatMap((e) => {
    const id = /^dpid:(?:0x)?([0-9a-f]{1,16})$/i.exec(e)?.[1];
    return id === undefined ? [] : [id.toLowerCase().padStart(16, '0')];
  });
}

/** Why this certificate may not speak for this datapath, with the cure; undefined when it may. */
export function bindingProblem(dpid: string, c: PeerCertificate, rules: CertificateRules): string | undefined {
  const is = (wanted: string) => wanted === c.commonName || digits(wanted) === digits(c.fingerprint);
  const who = `the certificate "${c.commonName}" (${c.fingerprint})`;
  const wanted = rules.byDpid.get(dpid);
  if (wanted !== undefined) {
    if (is(wanted)) return undefined;
    return `datapath ${dpid} must present the certificate "${wanted}", and ${who} came; see openflow.tls.certificates`;
  }
  const named = namedDpids(c);
  if (named.includes(dpid)) return undefined;
  const mapped = [...rules.byDpid].filter(([, name]) => is(name)).map(([id]) => id);
  const others = [...named, ...mapped];
  if (others.length > 0) return `${who} is bound to datapath ${others.join(', ')} and was used for ${dpid}`;
  if (rules.allowUnbound) return undefined;
  return (
    `${who} is bound to no datapath: issue it for dpid:${dpid}, name it under openflow.tls.certificates, ` +
    'or set openflow.tls.allowUnbound'
  );
}
