// Answers to requests for a manifest by its digest, or the tag of a hosted repository, cached ready to send: headers and bytes go from memory to the socket, without the
// router and the lookups. The caller and its rights are checked on every request. An answer is valid for one second, and only while no
// record and no rule has changed, so that what expires by time alone is served for at most one second longer. Clients that keep a connection
// repeat requests byte by byte: such a one is known by its head, and answered without Node's HTTP, which would take twice the time of all else.
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Context } from 'hono';
import { type Access, type Caller, isBuild, subjectOf } from '../../access/access.ts';
import { beginRequest, type RequestFacts, repeatRequest } from '../../observe/request.ts';
import { isDigest } from '../../oci/digest.ts';
import { type Origin, originName } from '../../pull/origin.ts';
import type { Rules } from '../../rules/rules.ts';
import { callerOf } from '../middleware/authentication.ts';
import type { AnswersFirst } from '../middleware/connections.ts';
import { INERT } from '../middleware/pages.ts';
import { createFormatDate, type Repeated, takeReceived } from '../middleware/pipelining.ts';
import { type FindAddress, nameOf, type OnBegin, type OnEnd, redactPath, watchEnd } from '../middleware/request-log.ts';

/** `answer` and `repeat` answer requests whose response is cached. */
export interface ReadyManifests extends AnswersFirst {
  /**
   * Call it before anything is looked up for a request: the function that it returns caches the response, unless it is specific to the
   * client.
   */
  watch(c: Context): ((answer: ManifestAnswer) => void) | undefined;
}

interface ManifestAnswer {
  readonly origin: Origin;
  readonly headers: Readonly<Record<string, string>>;
  readonly raw: Uint8Array;
}

/** Everything that a response depends on besides the request. */
interface State {
  readonly version: number;
  readonly rules: unknown;
  readonly untilMs: number;
}

interface ReadyManifest extends State {
  readonly about: About;
  /** Names and values alternate, as in rawHeaders. */
  readonly headers: string[];
  /** The same as they are sent, after the status. */
  readonly head: string;
  /** The body as latin1: Node joins a string with the headers and sends both in one write. */
  readonly body: string;
}

interface About {
  /** The full name of the repository. */
  readonly repository: string;
  /** As it was requested. */
  readonly reference: string;
  /** Undefined for one of a hosted repository. */
  readonly cache: 'hit' | undefined;
  /** Whether rules changed it, and which ones. */
  readonly isAugmented: boolean;
  readonly appliedRules: readonly string[];
}

/** A request that was answered. */
interface Known {
  readonly question: Question;
  readonly header: Header;
  /** The last one that was known by its head. */
  last?: LastKnown;
}

interface LastKnown {
  /** The address of the connection. */
  readonly remote: string | undefined;
  /** As it is in the key. */
  readonly caller: string;
  /** In the cache. */
  readonly key: string;
  readonly about: About;
  readonly facts: RequestFacts;
}

type Header = (name: string) => string | undefined;

/** Within the memory that all caches share. */
interface Cache<V> {
  get(key: string): V | undefined;
  set(key: string, value: V): void;
  delete(key: string): void;
}

export const MANIFEST_ROUTE = '/v2/:name{.+}/manifests/:reference';

/** The routes note each use of content, for its eviction: at least this often. */
const MAX_AGE_MS = 1000;
/** Each unread answer has a copy of the body. The routes send what is larger from one. */
const MAX_BODY_BYTES = 64 * 1024;
/** The overhead of an entry besides its body, in bytes. */
const ENTRY_BYTES = 2000;

export function weighReady({ body }: ReadyManifest): number {
  return body.length + ENTRY_BYTES;
}

/** Besides the head, which is the key. */
export function weighKnown({ question: { url } }: Known): number {
  return url.length + ENTRY_BYTES;
}

export function createReadyManifests({
  access,
  version,
  rules,
  ready,
  heads,
  keepAliveMs,
  findAddress,
  countsPulls,
  onBegin,
  onEnd,
  uptimeMs = () => performance.now(),
}: {
  readonly access: Pick<Access, 'authenticate' | 'isAllowed'>;
  /** Changes whenever records do; undefined while that is unknown. */
  readonly version: () => number | undefined;
  readonly rules: Rules;
  readonly ready: Cache<ReadyManifest>;
  /** Of requests, by the whole text of their heads. */
  readonly heads: Cache<Known>;
  /** What connections are told. */
  readonly keepAliveMs: number;
  /** The address of the client behind trusted proxies, as the routes find it. */
  readonly findAddress: FindAddress;
  /** Whether the caller's pulls by tag have a limit. */
  readonly countsPulls: (caller: Caller) => boolean;
  readonly onBegin?: OnBegin | undefined;
  readonly onEnd: OnEnd;
  /** Default: a clock that is never set. */
  readonly uptimeMs?: (() => number) | undefined;
}): ReadyManifests {
  const formatDate = createFormatDate();
  const keepAlive = `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(keepAliveMs / 1000)}`;

  function find(key: string): ReadyManifest | undefined {
    const known = ready.get(key);
    if (!known) return undefined;
    const isGood = known.version === version() && known.rules === rules.current && known.untilMs > uptimeMs();
    if (isGood) return known;
    ready.delete(key);
    return undefined;
  }

  /** Undefined for credentials that are refused: the routes say why. */
  async function identify({ host, authorization }: Question, address: string | undefined): Promise<Caller | undefined> {
    try {
      return await access.authenticate({ authorization, address, host });
    } catch {
      return undefined;
    }
  }

  function begin({ method, url }: Question, remote: string | undefined, header: Header): RequestFacts {
    const address = findAddress(remote, header);
    return beginRequest({ method, path: redactPath(url), route: MANIFEST_ROUTE, address, header });
  }

  /** Undefined where nothing is ready, or the caller may not pull it. */
  function findFor(caller: Caller, key: string): ReadyManifest | undefined {
    const known = find(key);
    return known && access.isAllowed(caller, 'pull', known.about.repository) ? known : undefined;
  }

  async function repeatKnown(known: Known, socket: Socket): Promise<Repeated | undefined> {
    const startedAt = performance.now();
    const { question, header, last } = known;
    const { remoteAddress: remote } = socket;
    const address = last?.remote === remote ? last?.facts.address : findAddress(remote, header);
    const caller = await identify(question, address);
    if (!caller) return undefined;
    const kind = describeForKey(caller);
    const isSame = last !== undefined && last.remote === remote && last.caller === kind;
    const key = isSame ? last.key : keyOf(question, caller);
    const manifest = findFor(caller, key);
    if (!manifest || !socket.writable) return undefined;
    const { about } = manifest;
    const isLike = isSame && last.about === about;
    const facts = isLike ? last.facts : { ...begin(question, remote, header), ...factsOf(about, caller) };
    if (!isLike) known.last = { remote, caller: kind, key, about, facts };
    return send(socket, { manifest, question, facts: repeatRequest(facts, startedAt) });
  }

  /** Resolves when it was written. */
  function send(socket: Socket, { manifest, question, facts }: Sent): Promise<Repeated> {
    onBegin?.(facts, undefined);
    const head = `${manifest.head}X-Request-Id: ${facts.id}\r\nDate: ${formatDate()}\r\n${keepAlive}\r\n\r\n`;
    const text = question.method === 'HEAD' ? head : head + manifest.body;
    return new Promise(resolve => {
      socket.write(text, 'latin1', error => {
        onEnd(facts, {
          ...{ status: 200, bytesSent: text.length, bytesReceived: takeReceived(socket) },
          ...{ durationMs: performance.now() - facts.startedAt, isAborted: Boolean(error) },
        });
        resolve({ isAuthenticated: question.authorization !== undefined });
      });
    });
  }

  return {
    watch(c) {
      const question = askedBy(c.env?.incoming);
      const now = question && version();
      if (!question || now === undefined) return undefined;
      const state: State = { version: now, rules: rules.current, untilMs: uptimeMs() + MAX_AGE_MS };
      return ({ origin, headers, raw }) => {
        const caller = callerOf(c);
        // Builds see images without rules, and content opened by one client's credentials is not for others.
        if (isBuild(caller) || origin.registry.scope !== undefined || raw.byteLength > MAX_BODY_BYTES) return;
        const repository = originName(origin);
        const all = { ...headers, ...INERT, 'Content-Length': String(raw.byteLength) };
        const body = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString('latin1');
        const { isAugmented = false, appliedRules = [], cache: found } = c.get('request') ?? {};
        // What a tag of an upstream points to is asked again, or cached for a time that the configuration says.
        if (question.accept !== undefined && (found !== undefined || countsPulls(caller))) return;
        const flat = Object.entries(all).flat();
        const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
        const cache = found && ('hit' as const);
        const about = { repository, reference: question.reference, cache, isAugmented, appliedRules };
        ready.set(keyOf(question, caller), {
          ...state,
          about,
          headers: flat,
          head: `HTTP/1.1 200 OK\r\n${lines.join('')}`,
          body,
        });
      };
    },
    answer(request, response, headOf) {
      const question = askedBy(request);
      if (!question) return false;
      return (async () => {
        const header = headerOf(request.headers);
        const begun = begin(question, request.socket.remoteAddress, header);
        const caller = await identify(question, begun.address);
        const known = caller && findFor(caller, keyOf(question, caller));
        if (!known) return false;
        const facts = { ...begun, ...factsOf(known.about, caller) };
        onBegin?.(facts, header('traceparent'));
        watchEnd({ incoming: request, outgoing: response, startedAt: facts.startedAt }, end => onEnd(facts, end));
        response.writeHead(200, [...known.headers, 'X-Request-Id', facts.id]);
        response.end(known.body, 'latin1');
        const head = headOf(request);
        if (head) heads.set(head, { question, header });
        return true;
      })();
    },
    repeat(socket, head) {
      const known = heads.get(head);
      return known !== undefined && repeatKnown(known, socket);
    },
  };
}

/** Of headers alone: it is kept, and must not keep the request and its connection. */
function headerOf(headers: IncomingHttpHeaders): Header {
  return name => headers[name.toLowerCase()]?.toString();
}

function factsOf(about: About, caller: Caller) {
  return { ...about, caller: nameOf(caller) };
}

interface Sent {
  readonly manifest: ReadyManifest;
  readonly question: Question;
  readonly facts: RequestFacts;
}

/** The parts of a request that decide its answer, apart from the caller. */
interface Question {
  readonly method: string;
  readonly url: string;
  readonly hostHeader: string;
  /** The name in it, without the port. */
  readonly host: string;
  readonly authorization: string | undefined;
  readonly reference: string;
  /** For a tag: the answer to it may be for one platform. */
  readonly accept: string | undefined;
}

const PATH = /^\/v2\/(?!wt\/)[\w.:/-]{1,512}\/manifests\/([\w.:-]{1,135})$/;
const HOST = /^([a-zA-Z0-9.-]+|\[[0-9a-f:.]+\])(?::\d+)?$/;
/** A request with one of these headers is conditional, has a body, or comes from a web page. */
const OTHERS = ['if-none-match', 'origin', 'sec-fetch-site', 'content-length', 'transfer-encoding'] as const;

/**
 * Undefined unless it is a plain request for a manifest by its digest or tag. Requests with a password are left to the routes, or a wrong one
 * would be counted twice; so are pulls by token, which expires, and queries.
 */
function askedBy(request: IncomingMessage | undefined): Question | undefined {
  if (!request) return undefined;
  const { method = '', url = '', headers } = request;
  const [, reference = ''] = PATH.exec(url) ?? [];
  if ((method !== 'GET' && method !== 'HEAD') || reference === '') return undefined;
  const { host: hostHeader = '', authorization } = headers;
  const [, host] = HOST.exec(hostHeader) ?? [];
  const isPlain = OTHERS.every(name => headers[name] === undefined);
  const isBearer = authorization === undefined || /^bearer /i.test(authorization);
  const accept = isDigest(reference) ? undefined : (headers.accept ?? '');
  if (host === undefined || !isPlain || !isBearer) return undefined;
  return { method, url, hostHeader, host, authorization, reference, accept };
}

function keyOf({ method, url, hostHeader, accept = '' }: Question, caller: Caller): string {
  return `${method} ${hostHeader} ${url} ${describeForKey(caller)} ${accept}`;
}

function describeForKey(caller: Caller): string {
  return `${caller.kind} ${subjectOf(caller)}`;
}
