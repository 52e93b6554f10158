// The network: the listen address, how clients reach the service, and its upstreams.
import { X509Certificate } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { request as requestPlain } from 'node:http';
import { type RequestOptions, request as requestTls } from 'node:https';
import { connect, createServer } from 'node:net';
import { findOwnUrl, findPublicUrlWarning } from '../../config/own-address.ts';
import type { Config } from '../../config/schema.ts';
import { type CheckedService, type Finding, fault, findErrorCode, note, ok } from './findings.ts';

const TIMEOUT_MS = 10_000;

/** What answers there: a Veneer, or another service; undefined: nothing. */
export async function findService(url: URL | undefined): Promise<'veneer' | 'other' | undefined> {
  if (!url) return undefined;
  try {
    const { body } = await ask(new URL('/service-info', url), {}, { isRead: true });
    return body.includes('"veneerVersion"') ? 'veneer' : 'other';
  } catch {
    return undefined;
  }
}

/** Whether the listen address is in use, or free for a service that is not running yet. */
export async function checkPort({ config: { listen }, isRunning }: CheckedService): Promise<readonly Finding[]> {
  const address = `${listen.host}:${listen.port}`;
  if (isRunning) return [ok('listen', `the service answers at ${address}`)];
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<unknown>();
  server.once('error', resolve).listen(listen.port, listen.host, () => resolve(undefined));
  const error = await promise;
  server.close();
  if (error === undefined) return [note('listen', `no service runs, and ${address} is free`)];
  const code = findErrorCode(error);
  const remedy = PORT_REMEDIES[code]?.(listen) ?? 'choose another address with listen';
  return [fault('listen', `the service cannot listen on ${address} (${code})`, remedy)];
}

const PORT_REMEDIES: Readonly<Record<string, (listen: Config['listen']) => string>> = {
  EADDRINUSE: ({ port }) =>
    `another program has the port: \`ss -ltnp sport = :${port}\` names it. Stop it, or choose another with listen`,
  EACCES: () => 'ports below 1024 need CAP_NET_BIND_SERVICE: choose one above with listen, and put a proxy in front',
  EADDRNOTAVAIL: ({ host }) => `no interface of this machine has the address ${host}: \`ip address\` lists them`,
};

export async function checkPublicUrl({ config, isRunning }: CheckedService): Promise<readonly Finding[]> {
  const { publicUrl } = config;
  const about = 'publicUrl';
  if (!publicUrl) {
    const warning = findPublicUrlWarning(config);
    const remedy = 'set publicUrl to the address that clients use, such as https://veneer.example';
    return warning === undefined ? [] : [fault(about, warning, remedy)];
  }
  const name = publicUrl.hostname.replace(/^\[|\]$/g, '');
  const unresolved = await lookup(name).then(() => undefined, findErrorCode);
  if (unresolved !== undefined) {
    return [
      fault(about, `the name ${name} does not resolve (${unresolved})`, `add ${name} to the DNS, or correct publicUrl`),
    ];
  }
  if (!isRunning) return [note(about, `whether ${publicUrl.origin} points here is unknown: no service runs`)];
  try {
    const { status, body } = await ask(new URL('/service-info', publicUrl), {}, { isRead: true });
    if (body.includes('"veneerVersion"')) return [ok(about, `${publicUrl.origin} is a Veneer`)];
    const message = `${publicUrl.origin} is answered by something else (status ${status} for /service-info)`;
    return [
      fault(
        about,
        message,
        `let the proxy there pass all paths on to ${findOwnUrl(config)?.origin}, or correct publicUrl`,
      ),
    ];
  } catch (error) {
    const message = `${publicUrl.origin} cannot be reached from here (${findErrorCode(error)})`;
    return [fault(about, message, 'start the proxy in front of Veneer, open its port, or correct publicUrl')];
  }
}

/** Whether the port of the database is reachable, if the records are in one. */
export async function checkDatabase({ config: { state } }: CheckedService): Promise<readonly Finding[]> {
  const url = state.postgres && new URL(state.postgres.url);
  // Without a host it is a socket of this machine.
  if (!url || url.hostname === '') return [];
  const place = `${url.hostname}:${url.port || DEFAULT_POSTGRES}`;
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const socket = connect({ host: url.hostname, port: Number(url.port || DEFAULT_POSTGRES) });
  socket.setTimeout(TIMEOUT_MS, () => resolve(new Error('no answer')));
  socket.once('connect', () => resolve(undefined)).once('error', resolve);
  const error = await promise;
  socket.destroy();
  if (error === undefined) return [ok('database', `${place} takes connections`)];
  const message = `the database at ${place} cannot be reached (${findErrorCode(error)}): requests that need records get a 503`;
  return [fault('database', message, 'start PostgreSQL, open its port to this machine, or correct state.postgres.url')];
}

const DEFAULT_POSTGRES = '5432';

const PROXIES = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy'];

/** Clients on this machine that honour these variables would connect to Veneer by the proxy. */
export function checkProxies({ config, env }: CheckedService): readonly Finding[] {
  const set = PROXIES.filter(name => env[name]);
  if (set.length === 0) return [];
  const url = config.publicUrl ?? findOwnUrl(config);
  const exempt = `${env.NO_PROXY ?? ''},${env.no_proxy ?? ''}`
    .split(',')
    .map(each => each.trim().replace(/^\*?\./, ''));
  const isExempt = (name: string) => exempt.some(each => each === '*' || name === each || name.endsWith(`.${each}`));
  const direct = note('proxy', `${set.join(', ')} is set: Veneer asks upstreams directly, without it`);
  if (!url || isExempt(url.hostname) || isExempt(url.host)) return [direct];
  const message = `${set.join(', ')} is set, and clients with this environment ask that proxy for ${url.host}`;
  return [
    direct,
    fault('proxy', message, `add ${url.hostname} to NO_PROXY of the clients, dockerd and containerd among them`),
  ];
}

interface Reached {
  readonly status: number;
  /** The time by its own clock. */
  readonly date: Date | undefined;
  readonly body: string;
}

const MAX_BODY = 64 * 1024;

function ask(url: URL, options: RequestOptions, { isRead }: { readonly isRead: boolean }): Promise<Reached> {
  const { promise, resolve, reject } = Promise.withResolvers<Reached>();
  const start = url.protocol === 'https:' ? requestTls : requestPlain;
  const request = start(url, { ...options, agent: false, signal: AbortSignal.timeout(TIMEOUT_MS) }, response => {
    const date = response.headers.date === undefined ? undefined : new Date(response.headers.date);
    let body = '';
    const end = () => resolve({ status: response.statusCode ?? 0, date, body });
    response.setEncoding('utf8').on('error', reject).on('end', end);
    response.on('data', part => {
      if (isRead && body.length < MAX_BODY) body += part;
      else response.destroy();
    });
    response.on('close', end);
  });
  request.on('error', reject).end();
  return promise;
}

interface ReachedUpstream {
  readonly findings: readonly Finding[];
  /** How far its clock is ahead of ours, in milliseconds; undefined where it did not answer. */
  readonly aheadMs: number | undefined;
}

const HUB_URL = 'https://registry-1.docker.io';

/** Resolves the name of an upstream, connects, and sends a first request. */
export async function reachUpstream(name: string, { config, now }: CheckedService): Promise<ReachedUpstream> {
  const entry = Object.entries(config.upstreams).find(([key]) => key.toLowerCase() === name)?.[1];
  const url = new URL('/v2/', entry?.url ?? (name === 'docker.io' ? HUB_URL : `https://${name}`));
  const { ca, cert, key, insecure } = { insecure: false, ...entry?.tls };
  const about = `upstream ${name}`;
  try {
    const tls = {
      ...(ca !== undefined && { ca }),
      ...(cert !== undefined && { cert }),
      ...(key !== undefined && { key }),
    };
    const { status, date } = await ask(url, { ...tls, rejectUnauthorized: !insecure }, { isRead: false });
    const aheadMs = date && date.getTime() - now().getTime();
    const isFailing = status >= 500;
    const failing = fault(
      about,
      `${url.host} answers with status ${status}`,
      'the upstream itself fails: see its status page',
    );
    return { aheadMs, findings: isFailing ? [failing] : [ok(about, `${url.host} answers`)] };
  } catch (error) {
    const code = findErrorCode(error);
    const { what, remedy } = findFailure(code, { name, url });
    return { aheadMs: undefined, findings: [fault(about, `${url.host}: ${what} (${code})`, remedy)] };
  }
}

interface Place {
  readonly name: string;
  readonly url: URL;
}

interface Failure {
  readonly what: string;
  readonly remedy: string;
}

function findFailure(code: string, { name, url }: Place): Failure {
  const key = `upstreams[${JSON.stringify(name)}]`;
  if (['ENOTFOUND', 'EAI_AGAIN', 'EAI_NODATA'].includes(code)) {
    const remedy = `check the DNS of this machine (/etc/resolv.conf): \`getent hosts ${url.hostname}\`; or correct ${key}.url`;
    return { what: 'its name does not resolve', remedy };
  }
  if (code === 'CERT_HAS_EXPIRED')
    return { what: 'its certificate has expired', remedy: 'its operator has to renew it' };
  if (code === 'CERT_NOT_YET_VALID')
    return { what: 'its certificate is not valid yet', remedy: 'check the clock of this machine' };
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return { what: 'its certificate is for another name', remedy: `name it in ${key}.url as its certificate does` };
  }
  if (/^(?:DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(?:VERIFY|GET)|CERT_)/.test(code)) {
    return {
      what: 'its certificate is signed by a CA that this machine does not trust',
      remedy: `set ${key}.tls.ca to { file: <certificate of the CA> }`,
    };
  }
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|^EPROTO/.test(code)) {
    return {
      what: 'it does not speak TLS there',
      remedy: `write ${key}.url as http://${url.host} if it is plain HTTP, or correct the port`,
    };
  }
  if (/CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE/.test(code)) {
    return {
      what: 'it requires a client certificate',
      remedy: `set ${key}.tls.cert and ${key}.tls.key`,
    };
  }
  const remedy = `see whether a firewall is in between, or a proxy would be needed: \`curl -v ${url}\`; or correct ${key}.url`;
  return { what: 'it cannot be reached', remedy };
}

const MAX_SKEW_MS = 60_000;

/** Compares with the upstream whose clock is nearest to ours, since others may be wrong themselves. */
export function checkClock(aheads: readonly number[]): readonly Finding[] {
  const [nearest] = aheads.toSorted((a, b) => Math.abs(a) - Math.abs(b));
  if (nearest === undefined) return [];
  if (Math.abs(nearest) <= MAX_SKEW_MS) return [ok('clock', 'it agrees with the upstreams')];
  const seconds = Math.round(Math.abs(nearest) / 1000);
  const message = `it is ${seconds} s ${nearest > 0 ? 'behind' : 'ahead of'} all upstreams: certificates and tokens fail, and nothing is deleted on time`;
  return [fault('clock', message, 'synchronize it: `timedatectl set-ntp true`')];
}

const DAY_MS = 24 * 3_600_000;
const SOON_DAYS = 30;

/** Whether the certificates of the configuration have expired, or soon will: our own, and those for upstreams. */
export function checkCertificates({ config: { tls, upstreams }, now }: CheckedService): readonly Finding[] {
  const own = tls ? [{ key: 'tls.cert', pem: () => readFileSync(tls.cert, 'utf8') }] : [];
  const clientCa = tls?.clientCa;
  const clients = clientCa === undefined ? [] : [{ key: 'tls.clientCa', pem: () => readFileSync(clientCa, 'utf8') }];
  const others = Object.entries(upstreams).flatMap(([name, entry]) =>
    (['ca', 'cert'] as const).flatMap(part => {
      const text = entry.tls?.[part];
      return text === undefined ? [] : [{ key: `upstreams[${JSON.stringify(name)}].tls.${part}`, pem: () => text }];
    }),
  );
  return [...own, ...clients, ...others].flatMap(({ key, pem }) => checkExpiry(key, findExpiry(pem), now()));
}

function checkExpiry(key: string, expiresAt: Date | undefined, now: Date): readonly Finding[] {
  if (!expiresAt) return [];
  const days = Math.floor((expiresAt.getTime() - now.getTime()) / DAY_MS);
  const date = expiresAt.toISOString().slice(0, 10);
  const remedy = key.startsWith('tls.')
    ? 'renew it, and replace the file: it is read again without a restart'
    : 'replace it by the one that is valid now';
  if (days < 0) return [fault(key, `the certificate has expired on ${date}`, remedy)];
  if (days < SOON_DAYS) return [note(key, `the certificate expires in ${days} days, on ${date}`, remedy)];
  return [ok(key, `the certificate is valid until ${date}`)];
}

/** The first end of all certificates in it; undefined for what is none, which the check of the configuration reports. */
function findExpiry(read: () => string): Date | undefined {
  try {
    const blocks = read().match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    const ends = blocks.map(block => new X509Certificate(block).validToDate.getTime());
    return ends.length === 0 ? undefined : new Date(Math.min(...ends));
  } catch {
    return undefined;
  }
}
