// Logs each request from its head to its last byte, with its id and client address. A token in a path is a credential: only its beginning
// is logged.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Context, MiddlewareHandler } from 'hono';
import { routePath } from 'hono/route';
import { type Caller, subjectOf } from '../../access/access.ts';
import {
  beginRequest,
  CLIENT_LEFT,
  type RequestEnd,
  type RequestFacts,
  type RequestScope,
} from '../../observe/request.ts';
import { hideTokens, printable } from './errors.ts';
import { takeReceived } from './pipelining.ts';

declare module 'hono' {
  interface ContextVariableMap {
    /** Set by createRequestLog. */
    request: RequestFacts;
  }
}

/** The Node server's bindings of a request. */
interface Env {
  readonly Bindings: { readonly incoming?: IncomingMessage; readonly outgoing?: ServerResponse };
}

interface RequestLogDeps {
  readonly scope: RequestScope;
  /** The address of the client behind trusted proxies. */
  readonly findAddress: FindAddress;
  readonly onBegin?: OnBegin | undefined;
  readonly onEnd: OnEnd;
}

/** The client's address for a connection from `remote` with these headers. */
export type FindAddress = (
  remote: string | undefined,
  header: (name: string) => string | undefined,
) => string | undefined;

/** Called once for each request, with its header `traceparent`. */
export type OnBegin = (facts: RequestFacts, traceparent: string | undefined) => void;

/** Called once for each request, when its last byte was sent or its connection has ended. */
export type OnEnd = (facts: RequestFacts, end: RequestEnd) => void;

/** Goes before everything that may respond. */
export function createRequestLog({ scope, findAddress, onBegin, onEnd }: RequestLogDeps): MiddlewareHandler<Env> {
  return async (c, next) => {
    const header = (name: string) => c.req.header(name);
    const incoming = c.env?.incoming;
    const outgoing = c.env?.outgoing;
    const address = findAddress(incoming?.socket.remoteAddress, header);
    const [method, path] = [c.req.method, redactPath(c.req.path)];
    const facts = beginRequest({ method, path, route: routePath(c, -1), address, header });
    onBegin?.(facts, header('traceparent'));
    c.set('request', facts);
    if (incoming && outgoing) {
      watchEnd({ incoming, outgoing, startedAt: facts.startedAt }, end => {
        facts.caller = nameOf(c.get('rights')?.caller) ?? facts.caller;
        onEnd(facts, end);
      });
    }
    await scope.run(facts, next);
    c.res.headers.set('X-Request-Id', facts.id);
    if (outgoing) return;
    facts.caller = nameOf(c.get('rights')?.caller) ?? facts.caller;
    onEnd(facts, { status: c.res.status, durationMs: performance.now() - facts.startedAt, isAborted: false });
  };
}

/** Call it before the response begins. */
export function watchEnd({ incoming, outgoing, startedAt }: Exchanged, report: (end: RequestEnd) => void): void {
  const { socket } = incoming;
  const { bytesWritten } = socket;
  outgoing.once('close', () => {
    report({
      status: outgoing.headersSent ? outgoing.statusCode : CLIENT_LEFT,
      ...{ bytesSent: socket.bytesWritten - bytesWritten, bytesReceived: takeReceived(socket) },
      durationMs: performance.now() - startedAt,
      isAborted: !outgoing.writableFinished,
    });
  });
}

interface Exchanged {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  /** From performance.now(). */
  readonly startedAt: number;
}

/** Undefined for an unnamed caller. */
export function nameOf(caller: Caller | undefined): string | undefined {
  return caller && (subjectOf(caller) || undefined);
}

const MAX_TARGET = 256;

/**
 * For the audit trail in the access log: what the request changes, or tries to. `caller` is who that is, where it is found out by the request itself,
 * as by a log-in.
 */
export function noteAction(c: Context, name: string, { target, caller }: NotedAction = {}): void {
  const facts = c.get('request');
  if (!facts) return;
  facts.action = { name, target: target === undefined ? undefined : printable(target.slice(0, MAX_TARGET)) };
  if (caller) facts.caller = caller;
}

interface NotedAction {
  readonly target?: string | undefined;
  readonly caller?: string | undefined;
}

const SHOWN_ID = 8;

/** Of a token in the name of an image, which is a credential: its beginning. */
export function shownToken(id: string): string {
  return `${id.slice(0, SHOWN_ID)}…`;
}

const MAX_PATH = 1024;

/** The path with tokens and request ids shortened. */
export function redactPath(path: string): string {
  const bounded = path.length > MAX_PATH ? path.slice(0, MAX_PATH) : path;
  if (!/wt|container/i.test(bounded)) return printable(bounded);
  return printable(hideTokens(bounded));
}
